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
];
