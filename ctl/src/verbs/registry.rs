//! The table of verbs.

use futures::future::LocalBoxFuture;

use super::*;
use crate::{manifest, output, target};

/// One verb.
pub(super) struct Verb {
    /// One word, or two where the first has several verbs under it.
    pub name: &'static str,
    pub usage: &'static str,
    pub about: &'static str,
    /// Tables of flags, beside the global ones.
    pub flags: &'static [&'static str],
    pub run: for<'a> fn(&'a Args) -> LocalBoxFuture<'a, Result<()>>,
}

macro_rules! verb {
    ($name:literal, $usage:literal, $about:literal, [$($flags:expr),*], $run:expr) => {
        Verb { name: $name, usage: $usage, about: $about, flags: &[$($flags),*], run: |args| Box::pin($run(args)) }
    };
}

#[rustfmt::skip]
pub(super) const VERBS: &[Verb] = &[
    verb!("get", "get TYPE[,TYPE] [NAME…] | TYPE/NAME… | -f FILE", "Display one or many objects.",
        [get::FLAGS, target::SELECT, output::FLAGS, manifest::FLAGS], get::run),
    verb!("create", "create -f FILE", "Create objects from files.",
        [create::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS, output::DRY_RUN], create::run),
    verb!("apply", "apply -f FILE", "Make the objects of files so, created or changed.",
        [apply::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS, output::DRY_RUN], apply::run),
    verb!("delete", "delete TYPE NAME… | TYPE -l LABELS | -f FILE", "Delete objects.",
        [delete::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], delete::run),
    verb!("rollout status", "rollout status TYPE NAME", "Wait for the state of a rollout.",
        [rollout::STATUS_FLAGS, target::SELECT, manifest::FLAGS], rollout::status::run),
    verb!("logs", "logs POD | TYPE/NAME | -l LABELS", "Print the output of containers.",
        [logs::FLAGS], logs::run),
    verb!("wait", "wait TYPE/NAME… --for=delete|create|condition=C|jsonpath=P=V", "Wait for a state of objects.",
        [wait::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS], wait::run),
    verb!("rollout history", "rollout history TYPE NAME", "Show the revisions of a workload.",
        [rollout::HISTORY_FLAGS, target::SELECT, manifest::FLAGS], rollout::history),
    verb!("rollout undo", "rollout undo TYPE NAME [--to-revision=N]", "Go back to an earlier revision.",
        [rollout::UNDO_FLAGS, change::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS, output::DRY_RUN], rollout::undo),
    verb!("rollout restart", "rollout restart TYPE NAME", "Replace all Pods of a workload.",
        [change::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS, output::DRY_RUN], rollout::restart),
    verb!("rollout pause", "rollout pause TYPE NAME", "Let changes wait.",
        [change::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS, output::DRY_RUN], rollout::pause),
    verb!("rollout resume", "rollout resume TYPE NAME", "Roll waiting changes out.",
        [change::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS, output::DRY_RUN], rollout::resume),
    verb!("label", "label TYPE NAME KEY=VALUE… KEY-…", "Change the labels of objects.",
        [label::FLAGS, change::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], label::label),
    verb!("annotate", "annotate TYPE NAME KEY=VALUE… KEY-…", "Change the annotations of objects.",
        [label::FLAGS, change::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN],
        label::annotate),
    verb!("patch", "patch TYPE NAME -p PATCH", "Change fields of an object.",
        [patch::FLAGS, manifest::FLAGS, output::FLAGS, output::DRY_RUN], patch::patch),
    verb!("replace", "replace -f FILE", "Replace objects with those of files.",
        [patch::REPLACE_FLAGS, manifest::FLAGS, output::FLAGS, output::DRY_RUN], patch::replace_verb),
    verb!("edit", "edit TYPE NAME | -f FILE", "Edit an object.",
        [edit::FLAGS, target::SELECT, manifest::FLAGS, output::FLAGS], edit::run),
    verb!("scale", "scale TYPE NAME --replicas=N", "Set how many Pods there shall be.",
        [scale::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], scale::run),
    verb!("autoscale", "autoscale TYPE NAME --max=N", "Make a HorizontalPodAutoscaler.",
        [scale::AUTOSCALE_FLAGS, manifest::FLAGS, output::FLAGS, output::DRY_RUN], scale::autoscale),
    verb!("set image", "set image TYPE NAME CONTAINER=IMAGE…", "Set the images of containers.",
        [change::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], set::image),
    verb!("set env", "set env TYPE NAME KEY=VALUE… KEY-…", "Set environment variables of containers.",
        [set::ENV_FLAGS, change::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], set::env),
    verb!("set resources", "set resources TYPE NAME --limits=… --requests=…", "Set what containers ask for and may use.",
        [set::RESOURCES_FLAGS, change::FLAGS, target::SELECT, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN],
        set::resources),
    verb!("set serviceaccount", "set serviceaccount TYPE NAME ACCOUNT", "Set the service account of Pods.",
        [change::FLAGS, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], set::service_account),
    verb!("set selector", "set selector service NAME KEY=VALUE…", "Set the selector of a Service.",
        [change::FLAGS, target::ALL, manifest::FLAGS, output::FLAGS, output::DRY_RUN], set::selector),
    verb!("taint", "taint nodes NAME KEY=VALUE:EFFECT… KEY-…", "Change the taints of nodes.",
        [taint::FLAGS, target::SELECT, target::ALL, output::FLAGS, output::DRY_RUN], taint::run),
    verb!("cordon", "cordon NODE…", "Let no new Pods on a node.",
        [target::SELECT, output::DRY_RUN], taint::cordon),
    verb!("uncordon", "uncordon NODE…", "Let new Pods on a node again.",
        [target::SELECT, output::DRY_RUN], taint::uncordon),
    verb!("expose", "expose TYPE NAME [--port=P]", "Make a Service for what runs.",
        [expose::FLAGS, manifest::FLAGS, output::FLAGS, output::DRY_RUN], expose::run),
    verb!("run", "run NAME --image=IMAGE [-- ARGS…]", "Run one Pod of an image.",
        [run::FLAGS, output::FLAGS, output::DRY_RUN], run::run),
    verb!("exec", "exec POD | TYPE/NAME [-c CONTAINER] -- COMMAND…", "Run a command in a container.",
        [exec::FLAGS], exec::run),
    verb!("attach", "attach POD | TYPE/NAME [-c CONTAINER]", "Attach to a container that runs.",
        [attach::FLAGS], attach::run),
    verb!("port-forward", "port-forward POD | TYPE/NAME [LOCAL:]REMOTE…", "Let local ports lead to a Pod.",
        [port_forward::FLAGS], port_forward::run),
    verb!("describe", "describe TYPE [NAME…] | TYPE/NAME", "Show all of objects that helps to understand them.",
        [describe::FLAGS, target::SELECT, target::ALL, manifest::FLAGS], describe::run),
];
