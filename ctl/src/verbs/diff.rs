//! `diff`: what apply would change, by `diff -u` or $KUBECTL_EXTERNAL_DIFF.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::apply::patch_for;
use super::create::{selected, write_query};
use crate::error::{Exit, Result, say};
use crate::flags::Args;
use crate::output::{DryRun, without_managed_fields};
use crate::session::Session;
use crate::target::{self, Target};
use crate::{apply, manifest};

pub(super) const FLAGS: &str = "
      --server-side          As apply --server-side would change it
      --force-conflicts      With --server-side: take fields over from other managers
      --field-manager=       Name of the owner of the fields
      --show-managed-fields  Keep metadata.managedFields
      --concurrency=         Accepted
      --prune                Not supported
";

/// Differences are exit code 1, failures 2.
pub(super) async fn run(args: &Args) -> Result<()> {
    let compared = differences(args).await;
    compared.map_err(|error| match error.is::<Exit>() {
        true => error,
        false => {
            say(&error);
            Exit(2).into()
        }
    })
}

async fn differences(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let manifests = manifest::read(args)?;
    if manifests.is_empty() {
        bail!("must specify one of -f and -k");
    }
    let root = Directory::make()?;
    let (live, merged) = (root.0.join("LIVE"), root.0.join("MERGED"));
    for directory in [&live, &merged] {
        std::fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    for manifest in manifests {
        if !selected(args, &manifest.object)? {
            continue;
        }
        let target = target::of_manifest(&session, manifest).await?;
        let before = target.get_if_exists(&session).await?;
        let after = after(&session, args, &target, before.as_ref()).await?;
        let resource = &target.resource;
        let group = if resource.group.is_empty() { String::new() } else { format!("{}.", resource.group) };
        let name = format!("{group}{}.{}.{}.{}", resource.version, resource.kind, target.namespace, target.name);
        write(&live.join(&name), before, args)?;
        write(&merged.join(&name), Some(after), args)?;
    }
    compare(&live, &merged)
}

/// The object as it would be.
async fn after(session: &Session, args: &Args, target: &Target, before: Option<&Value>) -> Result<Value> {
    let wanted = target.object.as_ref().context("a target from a file has its object")?;
    if args.on("server-side") {
        let mut query = write_query(args, DryRun::Server, "kubectl")?;
        if args.on("force-conflicts") {
            query.add("force", "true");
        }
        return session.patch(&query.on(&target.path()), "application/apply-patch+yaml", wanted).await;
    }
    let query = write_query(args, DryRun::Server, "kubectl-client-side-apply")?;
    let wanted = apply::with_memory(wanted);
    match before {
        None => session.post(&query.on(&target.resource.path(&target.namespace)), &wanted).await,
        Some(before) => {
            let (patch, content_type) = patch_for(&target.resource, &wanted, before);
            session.patch(&query.on(&target.path()), content_type, &patch).await
        }
    }
}

fn write(path: &Path, object: Option<Value>, args: &Args) -> Result<()> {
    let text = match object {
        None => String::new(),
        Some(mut object) => {
            if !args.on("show-managed-fields") {
                without_managed_fields(&mut object);
            }
            if !args.on("server-side") {
                apply::forget(&mut object);
                let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
                let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
                if let Some(metadata) = metadata.filter(|map| map.get("annotations").is_some_and(is_empty)) {
                    metadata.remove("annotations");
                }
            }
            if object.get("kind").and_then(Value::as_str) == Some("Secret") {
                hide(&mut object);
            }
            api::yaml::to_string(&object)
        }
    };
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The values of a Secret are not shown, only whether they are the same.
fn hide(secret: &mut Value) {
    for (_, value) in secret.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
        *value = format!("*** ({} characters)", value.as_str().map_or(0, str::len)).into();
    }
}

/// Runs the program that compares; its exit code is ours.
fn compare(live: &Path, merged: &Path) -> Result<()> {
    let external = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|words| !words.is_empty());
    let words = external.unwrap_or_else(|| "diff -u -N".to_owned());
    let mut words = words.split_whitespace();
    let program = words.next().context("KUBECTL_EXTERNAL_DIFF is empty")?;
    let status = Command::new(program).args(words).arg(live).arg(merged).status();
    let status = status.with_context(|| format!("run {program}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Exit(u8::try_from(code).unwrap_or(2)).into()),
        None => bail!("{program} was ended by a signal"),
    }
}

/// A directory that is removed with all it holds.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self> {
        let now = jiff::Timestamp::now().as_nanosecond();
        let path = std::env::temp_dir().join(format!("cox-diff-{}-{now}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("error: remove {}: {error}", self.0.display());
        }
    }
}
