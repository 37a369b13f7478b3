//! `apply`: makes the objects of files so, by a three-way patch or by server-side apply.

mod prune;
mod server_side;

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::create::{selected, write_query};
use crate::Resource;
use crate::apply::{self, LAST_APPLIED, merge, strategic};
use crate::error::{Exit, Result, has_reason, say};
use crate::flags::Args;
use crate::manifest;
use crate::output::{DryRun, Told};
use crate::session::Session;
use crate::target::{self, Target};

pub(super) const FLAGS: &str = "
      --server-side        Let the server merge and track the fields
      --force-conflicts    With --server-side: take fields over from other managers
      --field-manager=     Name of the owner of the fields
      --overwrite          Change what was changed elsewhere (default true)
      --validate[=strict]  strict, warn or ignore: what the server does about unknown fields
      --force              Delete and create again what cannot be changed
      --grace-period=      With --force: seconds given to the old object
      --wait               Accepted
      --timeout=           Accepted
      --openapi-patch      Accepted
      --cascade=           Accepted
      --prune              Delete what was applied before and is not in the files now
      --prune-allowlist=+  With --prune: only these types, GROUP/VERSION/KIND
      --all                With --prune: of all objects, not only those of a selector
";

/// How often a patch is made anew when somebody else was faster.
const RETRIES: usize = 5;

pub(super) async fn run(args: &Args) -> Result<()> {
    if !args.words.is_empty() {
        bail!("Unexpected args: [{}]\nSee 'cox apply -h' for help and examples", args.words.join(" "));
    }
    server_side::check(args)?;
    prune::check(args)?;
    let session = Session::open(args).await?;
    let resources = if args.on("prune") { prune::resources(&session, args).await? } else { Vec::new() };
    let manifests = manifest::read(args)?;
    if manifests.is_empty() {
        bail!("must specify one of -f and -k");
    }
    let mut told = Told::new(args)?;
    let mut visited = prune::Visited::default();
    let mut has_failed = false;
    for manifest in manifests {
        if !selected(args, &manifest.object)? {
            continue;
        }
        let done = match target::of_manifest(&session, manifest).await {
            Ok(target) => one(&session, args, &mut told, &target).await.map(|object| visited.note(&target, &object)),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            say(&error);
            has_failed = true;
        }
    }
    if has_failed {
        return Err(Exit(1).into());
    }
    prune::run(&session, args, &mut told, &resources, &visited).await
}

/// Applies one object and tells of it; returns it as it is now.
async fn one(session: &Session, args: &Args, told: &mut Told<'_>, target: &Target) -> Result<Value> {
    let wanted = target.object.as_ref().context("a target from a file has its object")?;
    if target.name.is_empty() {
        bail!(
            "error when retrieving current configuration of {:?}: resource name may not be empty",
            target.resource.kind
        );
    }
    if args.on("server-side") {
        let object = server_side::run(session, args, target, wanted).await?;
        told.did(target, "serverside-applied", &object)?;
        return Ok(object);
    }
    let dry = DryRun::of(args)?;
    let source = target.source.as_deref().unwrap_or_default();
    let wanted = apply::with_memory(wanted);
    let Some(current) = target.get_if_exists(session).await? else {
        let query = write_query(args, dry, "kubectl-client-side-apply")?;
        let made = match dry {
            DryRun::Client => wanted,
            _ => {
                let sent = session.post(&query.on(&target.resource.path(&target.namespace)), &wanted).await;
                sent.with_context(|| format!("error when creating {source:?}"))?
            }
        };
        told.did(target, "created", &made)?;
        return Ok(made);
    };
    if current.pointer("/metadata/annotations").and_then(|a| a.get(LAST_APPLIED)).is_none() && dry != DryRun::Client {
        eprintln!(
            "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. \
             kubectl apply should only be used on resources created declaratively by either kubectl create \
             --save-config or kubectl apply. The missing annotation will be patched automatically.",
            target.resource.plural, target.name
        );
    }
    let (object, is_changed) = patched(session, args, target, &wanted, current, dry).await?;
    told.did(target, if is_changed { "configured" } else { "unchanged" }, &object)?;
    Ok(object)
}

fn schema_of(resource: &Resource) -> Option<Arc<api::Schema>> {
    api::builtin::schema_of_kind(&api::Gvk::new(&resource.group, &resource.version, &resource.kind))
}

/// The three-way patch of an object, and the content type of its form.
pub(super) fn patch_for(resource: &Resource, wanted: &Value, current: &Value) -> (Value, &'static str) {
    let original = apply::last_applied(current);
    match schema_of(resource) {
        Some(schema) => {
            let patch = strategic::three_way(original.as_ref(), wanted, current, &schema);
            (patch, "application/strategic-merge-patch+json")
        }
        None => (merge::three_way(original.as_ref(), wanted, current), "application/merge-patch+json"),
    }
}

/// Sends the three-way patch, again when the object changed meanwhile.
async fn patched(
    session: &Session,
    args: &Args,
    target: &Target,
    wanted: &Value,
    mut current: Value,
    dry: DryRun,
) -> Result<(Value, bool)> {
    let source = target.source.as_deref().unwrap_or_default();
    let resource = &target.resource;
    let query = write_query(args, dry, "kubectl-client-side-apply")?;
    for attempt in 0.. {
        let (patch, content_type) = patch_for(resource, wanted, &current);
        if patch.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok((current, false));
        }
        if dry == DryRun::Client {
            let patched = match schema_of(resource) {
                Some(schema) => {
                    api::patch::strategic::apply(current, &patch, &schema).map_err(|s| anyhow!(s.message))?
                }
                None => api::patch::merge::apply(current, &patch),
            };
            return Ok((patched, true));
        }
        let before = resource_version(&current);
        match session.patch(&query.on(&target.path()), content_type, &patch).await {
            Ok(object) => {
                let is_changed = resource_version(&object) != before || dry == DryRun::Server;
                return Ok((object, is_changed));
            }
            Err(error) if has_reason(&error, "Conflict") && attempt < RETRIES => {
                current = target.get(session).await?;
            }
            Err(error) if args.on("force") && (has_reason(&error, "Invalid") || has_reason(&error, "Conflict")) => {
                return super::delete::and_create_again(session, args, target, wanted).await.map(|o| (o, true));
            }
            Err(error) => {
                let to = format!("{:?}, GroupVersionKind: {:?}", resource.full_name(), resource.api_version());
                let what = format!(
                    "error when applying patch:\n{patch}\nto:\nResource: {to}\nName: {:?}, Namespace: {:?}\nfor: \
                     {source:?}: error when patching {source:?}",
                    target.name, target.namespace
                );
                return Err(error.context(what));
            }
        }
    }
    unreachable!("the last attempt returns")
}

fn resource_version(object: &Value) -> String {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned()
}
