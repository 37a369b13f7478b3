//! `patch` and `replace`.

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::change::{for_each, replace};
use super::create::write_query;
use super::delete;
use crate::error::Result;
use crate::flags::Args;
use crate::output::{self, DryRun, Told};
use crate::session::Session;

pub(super) const FLAGS: &str = "
  -p, --patch=          The patch, JSON or YAML
      --patch-file=     A file that holds the patch
      --type=           strategic, merge or json
      --subresource=    A subresource of the object, such as status or scale
      --field-manager=  Name of the owner of the fields
      --local           Not supported
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
    let document = api::yaml::parse(text.as_bytes()).map_err(|error| anyhow!("unable to parse {text:?}: {error}"))?;
    let session = Session::open(args).await?;
    let dry = DryRun::of(args)?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        let before = target.get(&session).await?;
        let suffix = args.get("subresource").map(|s| format!("/{s}")).unwrap_or_default();
        let query = write_query(args, if dry == DryRun::Client { DryRun::Server } else { dry }, "kubectl-patch")?;
        let uri = query.on(&format!("{}{suffix}", target.path()));
        let object = session.patch(&uri, content_type, &document.value).await?;
        let is_same = same(&before, &object);
        told.did(target, if is_same { "patched (no change)" } else { "patched" }, &object)
    })
    .await
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
                output::line(format!("{} {:?} deleted", target.resource.kind_name(), target.name))?;
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
