//! `rollout history` and `rollout undo`: the revisions of a workload, which are ReplicaSets or ControllerRevisions.

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value, json};

use crate::Target;
use crate::error::Result;
use crate::flags::Args;
use crate::output::{self, DryRun, Told, tabs};
use crate::session::{Query, Session};
use crate::target;
use crate::verbs::change::for_each;
use crate::verbs::describe;
use crate::verbs::pods::{items, selector_of, text};

pub(crate) const HISTORY_FLAGS: &str = "
      --revision=  Show the Pod template of this revision
";

pub(crate) const UNDO_FLAGS: &str = "
      --to-revision=  The revision to go back to; the one before the last if 0
";

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";
const HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that stay its own when it goes back.
const KEPT: [&str; 5] = [
    crate::apply::LAST_APPLIED,
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
];

/// One revision of a workload.
struct Revision {
    number: i64,
    cause: String,
    /// The ReplicaSet or ControllerRevision.
    object: Value,
}

impl Revision {
    /// The Pod template with the label of its hash.
    fn labelled(&self) -> Value {
        let stored = self.object.pointer("/data/spec/template").or_else(|| self.object.pointer("/spec/template"));
        let mut template = stored.cloned().unwrap_or_default();
        if let Some(map) = template.as_object_mut() {
            map.remove("$patch");
        }
        template
    }

    /// The Pod template, as it was written.
    fn template(&self) -> Value {
        let mut template = self.labelled();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        template
    }
}

/// All revisions of a workload, the oldest first.
async fn revisions(session: &Session, target: &Target, owner: &Value) -> Result<Vec<Revision>> {
    let resource = match target.resource.kind.as_str() {
        "Deployment" => "replicasets",
        "DaemonSet" | "StatefulSet" => "controllerrevisions",
        other => {
            let group = &target.resource.group;
            bail!("error retrieving history for {other:?}, no visitor method exists for {{{group} {other}}}")
        }
    };
    let path = format!("/apis/apps/v1/namespaces/{}/{resource}", target.namespace);
    let mut list = session.list(&path, &Query::new().with("labelSelector", selector_of(owner)?)).await?;
    let found = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    let uid = text(owner, "/metadata/uid");
    let own = found.into_iter().filter(|o| items(o, "/metadata/ownerReferences").any(|r| text(r, "/uid") == uid));
    let mut revisions: Vec<Revision> = own
        .map(|object| {
            let annotation = |key: &str| {
                object
                    .pointer("/metadata/annotations")
                    .and_then(|a| a.get(key))
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let number = object.get("revision").and_then(Value::as_i64);
            let number = number.or_else(|| annotation(REVISION).parse().ok()).unwrap_or(0);
            let cause = annotation(CAUSE).to_owned();
            Revision { number, cause, object }
        })
        .collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

pub(crate) async fn history(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    if args.words.is_empty() && args.all("filename").is_empty() {
        bail!("required resource not specified");
    }
    let wanted = args.number("revision")?.unwrap_or(0);
    for target in target::targets(&session, args, &args.words).await? {
        let owner = target.get(&session).await?;
        let revisions = revisions(&session, &target, &owner).await?;
        if wanted > 0 {
            let found = revisions.iter().find(|r| r.number == wanted);
            let found = found.context("unable to find the specified revision")?;
            output::line(format!("{} with revision #{wanted}", target.shown()))?;
            output::put(&describe::template_text(&found.labelled()))?;
            output::put("\n")?;
            continue;
        }
        if revisions.is_empty() {
            output::line(format!("{} \nNo rollout history found.", target.shown()))?;
            continue;
        }
        let mut table = "REVISION\tCHANGE-CAUSE\n".to_owned();
        for revision in &revisions {
            let cause = if revision.cause.is_empty() { "<none>" } else { revision.cause.as_str() };
            table.push_str(&format!("{}\t{cause}\n", revision.number));
        }
        output::put(&format!("{} \n{}\n", target.shown(), tabs::DESCRIPTION.align(&table)))?;
    }
    Ok(())
}

pub(crate) async fn undo(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let wanted = args.number("to-revision")?.unwrap_or(0);
    if wanted < 0 {
        bail!("revision must be a positive integer: {wanted}");
    }
    for_each(&session, args, &args.words, async |target| {
        let owner = target.get(&session).await?;
        if owner.pointer("/metadata/annotations").is_some_and(|a| a.get(crate::apply::LAST_APPLIED).is_some()) {
            eprintln!(
                "Warning: resource {}/{} was previously managed with 'kubectl apply'. Rolling back will not update \
                 the {} \
                 annotation, which may cause unexpected behavior on future 'kubectl apply' operations. Consider using \
                 'kubectl apply' with your previous configuration file instead.",
                target.resource.plural,
                target.name,
                crate::apply::LAST_APPLIED
            );
        }
        let revisions = revisions(&session, target, &owner).await?;
        let to = chosen(&revisions, wanted, target)?;
        let template = owner.pointer("/spec/template").cloned().unwrap_or_default();
        if to.template() == template && !target.resource.is("apps", "StatefulSet") {
            let what = format!("skipped rollback (current template already matches revision {})", to.number);
            return told.did(target, &what, &owner);
        }
        let dry = DryRun::of(args)?;
        if dry == DryRun::Client {
            return told.did(target, &describe::template_text(&to.labelled()), &owner);
        }
        let query = dry.query(Query::new().with("fieldManager", "kubectl-rollout"));
        let object = match target.resource.is("apps", "Deployment") {
            true => {
                if owner.pointer("/spec/paused") == Some(&true.into()) {
                    bail!(
                        "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' \
                         and try again"
                    );
                }
                let patch = deployment_patch(&owner, to);
                session.patch(&query.on(&target.path()), "application/json-patch+json", &patch).await?
            }
            false => {
                let patch = to.object.get("data").cloned().unwrap_or_default();
                session.patch(&query.on(&target.path()), "application/strategic-merge-patch+json", &patch).await?
            }
        };
        told.did(target, "rolled back", &object)
    })
    .await
}

/// The revision that is gone back to.
fn chosen<'a>(revisions: &'a [Revision], wanted: i64, target: &Target) -> Result<&'a Revision> {
    if wanted > 0 {
        return revisions
            .iter()
            .find(|r| r.number == wanted)
            .with_context(|| format!("unable to find specified revision {wanted} in history"));
    }
    let nothing = || anyhow!("no rollout history found for {} {:?}", target.resource.kind.to_lowercase(), target.name);
    match revisions {
        [.., before, _] => Ok(before),
        _ => Err(nothing()),
    }
}

/// Template and annotations of the ReplicaSet, without those that belong to the Deployment itself.
fn deployment_patch(owner: &Value, to: &Revision) -> Value {
    let map = |object: &Value| {
        object.pointer("/metadata/annotations").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let mut annotations: Map<String, Value> =
        map(owner).into_iter().filter(|(k, _)| KEPT.contains(&k.as_str())).collect();
    annotations.extend(map(&to.object).into_iter().filter(|(key, _)| !KEPT.contains(&key.as_str())));
    json!([
        {"op": "replace", "path": "/spec/template", "value": to.template()},
        {"op": "replace", "path": "/metadata/annotations", "value": annotations},
    ])
}
