//! `patch` and `replace`.

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::change::{for_each, replace};
use super::create::write_query;
use super::delete;
use crate::Resource;
use crate::error::Result;
use crate::flags::Args;
use crate::output::{self, DryRun, Told};
use crate::session::{JSON, Session};
use crate::target::{self, Target};

pub(super) const FLAGS: &str = "
  -p, --patch=          The patch, JSON or YAML
      --patch-file=     A file that holds the patch
      --type=           strategic, merge or json
      --subresource=    A subresource of the object, such as status or scale
      --field-manager=  Name of the owner of the fields
      --local           Patch the objects of -f without sending anything
      --record          Accepted
";

pub(super) const REPLACE_FLAGS: &str = "
      --force           Delete and create again
      --grace-period=   With --force: seconds given to the old object
      --cascade[=background]  Accepted
      --timeout=        Accepted
      --wait            Accepted
      --save-config     Remember the object in its annotation, for apply
      --subresource=    A subresource of the object, such as status or scale
      --validate[=strict]  strict, warn or ignore: what the server does about unknown fields
      --field-manager=  Name of the owner of the fields
      --raw=            Not supported
";

pub(super) async fn patch(args: &Args) -> Result<()> {
    let text = match (args.get("patch"), args.get("patch-file")) {
        (Some(_), Some(_)) => bail!("cannot specify --patch and --patch-file together"),
        (Some(text), None) => text.to_owned(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).with_context(|| format!("unable to read patch file {file}"))?
        }
        (None, None) => bail!("must specify --patch or --patch-file containing the contents of the patch"),
    };
    let content_type = match args.get("type").unwrap_or("strategic") {
        "strategic" => "application/strategic-merge-patch+json",
        "merge" => "application/merge-patch+json",
        "json" => "application/json-patch+json",
        other => bail!("--type must be one of [json merge strategic], not {other:?}"),
    };
    // What begins as JSON is sent as it is: the server says what is wrong with it.
    let body = match text.trim_start().starts_with(['{', '[']) {
        true => text.into_bytes(),
        false => {
            let parsed = api::yaml::parse(text.as_bytes());
            parsed.map_err(|error| anyhow!("unable to parse {text:?}: {error}"))?.value.to_string().into_bytes()
        }
    };
    if args.on("local") {
        return local(args, content_type, &body).await;
    }
    let session = Session::open(args).await?;
    let dry = DryRun::of(args)?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        let before = target.get(&session).await?;
        if dry == DryRun::Client {
            let object = patched(&target.resource, before, content_type, &body)?;
            // kubectl does not say of this one that it was a trial.
            return match told.has_form() {
                true => told.did(target, "patched", &object),
                false => output::line(format!("{} patched", target.shown())),
            };
        }
        let suffix = args.get("subresource").map(|s| format!("/{s}")).unwrap_or_default();
        let query = write_query(args, dry, "kubectl-patch")?;
        let uri = query.on(&format!("{}{suffix}", target.path()));
        let object = session.bytes(http::Method::PATCH, &uri, JSON, Some((content_type, body.clone()))).await?;
        let object: Value = serde_json::from_slice(&object).context("the patched object is no JSON")?;
        let is_same = same(&before, &object);
        let shown = shown(target, &object);
        told.did(&shown, if is_same { "patched (no change)" } else { "patched" }, &object)
    })
    .await
}

/// What a message names: the answer itself, which is a Scale where the scale was patched.
fn shown(target: &Target, object: &Value) -> Target {
    let mut shown = target.clone();
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    if !text("kind").is_empty() && text("kind") != target.resource.kind {
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        shown.resource.group = group.to_owned();
        shown.resource.version = version.to_owned();
        shown.resource.kind = text("kind").to_owned();
    }
    shown
}

/// The object with the patch, which the server does not see.
fn patched(resource: &Resource, object: Value, content_type: &str, patch: &[u8]) -> Result<Value> {
    let patch: Value = serde_json::from_slice(patch).context("unable to parse the patch")?;
    let gvk = api::Gvk::new(&resource.group, &resource.version, &resource.kind);
    match (content_type, api::builtin::schema_of_kind(&gvk)) {
        ("application/json-patch+json", _) => {
            api::patch::json::apply(object, &patch).map_err(|status| anyhow!(status.message))
        }
        ("application/strategic-merge-patch+json", Some(schema)) => {
            api::patch::strategic::apply(object, &patch, &schema).map_err(|status| anyhow!(status.message))
        }
        _ => Ok(api::patch::merge::apply(object, &patch)),
    }
}

/// Patches the objects of files, without a word to the server but for what their kinds are called.
async fn local(args: &Args, content_type: &str, body: &[u8]) -> Result<()> {
    if args.all("filename").is_empty() {
        bail!("one or more files must be specified as -f when --local=true is set");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for manifest in crate::manifest::read(args)? {
        let object = manifest.object.clone();
        let target = target::of_manifest(&session, manifest).await?;
        told.did(&target, "patched", &patched(&target.resource, object, content_type, body)?)?;
    }
    Ok(())
}

/// Whether two states of an object are the same but for what each write changes.
fn same(before: &Value, after: &Value) -> bool {
    let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
    version(before) == version(after)
}

pub(super) async fn replace_verb(args: &Args) -> Result<()> {
    if args.all("filename").is_empty() {
        bail!("must specify one of -f and -k");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &[], async |target| {
        let object = target.object.as_ref().context("a target from a file has its object")?;
        let object = if args.on("save-config") { crate::apply::with_memory(object) } else { object.clone() };
        if args.on("force") {
            if target.get_if_exists(&session).await?.is_some() {
                output::line(delete::said(target, "deleted"))?;
            }
            let made = delete::and_create_again(&session, args, target, &object).await?;
            return told.did(target, "replaced", &made);
        }
        let replaced = replace(&session, args, target, &object).await;
        let source = target.source.as_deref().unwrap_or_default();
        let object = replaced.with_context(|| format!("error when replacing {source:?}"))?;
        told.did(target, "replaced", &object)
    })
    .await
}
