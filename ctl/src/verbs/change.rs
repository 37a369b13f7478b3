//! What verbs that change single fields share: read the object, change it, send the difference as a patch.

use anyhow::{anyhow, bail};
use serde_json::Value;

use super::create::write_query;
use crate::Resource;
use crate::apply::{merge, strategic};
use crate::error::{Exit, Result, say};
use crate::flags::Args;
use crate::output::DryRun;
use crate::session::{Query, Session};
use crate::target::{self, Target};

pub(super) const FLAGS: &str = "
      --field-manager=  Name of the owner of the fields
      --local           Change the objects of -f without sending anything
      --record          Accepted
";

/// What became of an object.
pub(super) struct Changed {
    pub object: Value,
    /// Whether there was anything to change.
    pub is_changed: bool,
}

/// The difference of two states of an object, and the content type of its form.
pub(super) fn difference(resource: &Resource, from: &Value, to: &Value) -> (Value, &'static str) {
    let gvk = api::Gvk::new(&resource.group, &resource.version, &resource.kind);
    match api::builtin::schema_of_kind(&gvk) {
        Some(schema) => (strategic::two_way(from, to, &schema), "application/strategic-merge-patch+json"),
        None => (merge::two_way(from, to), "application/merge-patch+json"),
    }
}

/// Reads a target, lets `edit` change it, and sends the difference.
pub(super) async fn change(
    session: &Session,
    args: &Args,
    target: &Target,
    manager: &str,
    edit: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<Changed> {
    let dry = DryRun::of(args)?;
    let is_local = args.on("local");
    let before = match &target.object {
        Some(object) if is_local => object.clone(),
        _ => target.get(session).await?,
    };
    let mut after = before.clone();
    edit(&mut after)?;
    if before == after {
        return Ok(Changed { object: after, is_changed: false });
    }
    if dry == DryRun::Client || is_local {
        return Ok(Changed { object: after, is_changed: true });
    }
    let (patch, content_type) = difference(&target.resource, &before, &after);
    let query = dry.query(Query::new().with("fieldManager", args.get("field-manager").unwrap_or(manager)));
    let object = session.patch(&query.on(&target.path()), content_type, &patch).await?;
    Ok(Changed { object, is_changed: true })
}

/// Replaces a whole object, as the query of a write says.
pub(super) async fn replace(session: &Session, args: &Args, target: &Target, object: &Value) -> Result<Value> {
    let query = write_query(args, DryRun::of(args)?, "kubectl-replace")?;
    let suffix = args.get("subresource").map(|s| format!("/{s}")).unwrap_or_default();
    session.put(&query.on(&format!("{}{suffix}", target.path())), object).await
}

/// Runs a change on each target of the words; failures of single ones are told, the others go on.
pub(super) async fn for_each<'a, F>(session: &'a Session, args: &'a Args, words: &[String], mut one: F) -> Result<()>
where
    F: AsyncFnMut(&Target) -> Result<()>,
{
    if args.on("local") && !words.is_empty() {
        bail!("can only use local files by -f pod.yaml or --filename=pod.json when --local=true is set");
    }
    let targets = target::targets(session, args, words).await?;
    if targets.is_empty() {
        return Err(anyhow!("no objects found"));
    }
    let is_single = targets.len() == 1;
    let mut has_failed = false;
    for target in &targets {
        match one(target).await {
            Ok(()) => {}
            Err(error) if is_single => return Err(error),
            Err(error) => {
                say(&error);
                has_failed = true;
            }
        }
    }
    if has_failed { Err(Exit(1).into()) } else { Ok(()) }
}

/// Where the Pod spec of a kind stands.
pub(super) fn pod_spec_path(resource: &Resource) -> &'static str {
    match resource.kind.as_str() {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        "PodTemplate" => "/template/spec",
        _ => "/spec/template/spec",
    }
}

/// Text pairs `a=b,c=d`.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(|| anyhow!("unexpected label spec: {part}"))?;
        Ok((key.trim().to_owned(), value.to_owned()))
    };
    text.split(',').filter(|part| !part.is_empty()).map(pair).collect()
}
