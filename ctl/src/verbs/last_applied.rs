//! `apply view-last-applied`, `set-last-applied` and `edit-last-applied`: the annotation that remembers what was
//! applied.

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

use super::change::for_each;
use super::edit::in_editor;
use super::pods::text;
use crate::apply::{self, LAST_APPLIED};
use crate::error::Result;
use crate::flags::Args;
use crate::output::{self, DryRun, Told};
use crate::session::{Query, Session};
use crate::target::Target;

pub(super) const VIEW_FLAGS: &str = "
  -o, --output=  yaml or json
";

pub(super) const SET_FLAGS: &str = "
      --create-annotation  Also where nothing was applied before
";

fn missing(target: &Target, object: &Value) -> anyhow::Error {
    anyhow!("no last-applied-configuration annotation found on resource: {}", text(object, "/metadata/name"))
        .context(target.shown().to_string())
}

pub(super) async fn view(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    for_each(&session, args, &args.words, async |target| {
        let object = target.get(&session).await?;
        // kubectl has nothing to say where nothing was applied.
        let Some(remembered) = apply::last_applied(&object) else { return Ok(()) };
        match args.get("output") {
            None | Some("yaml") => output::put(&api::yaml::to_string(&remembered)),
            Some("json") => {
                let text = serde_json::to_string_pretty(&remembered).context("write JSON")?;
                output::line(text)
            }
            Some(other) => bail!("Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"),
        }
    })
    .await
}

pub(super) async fn set(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        let wanted = target.object.as_ref().context("a target from a file has its object")?;
        let object = target.get(&session).await?;
        if apply::last_applied(&object).is_none() && !args.on("create-annotation") {
            bail!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the \
                 command with --create-annotation",
                target.name
            );
        }
        let object = remember(&session, args, target, wanted).await?;
        told.did(target, "configured", &object)
    })
    .await
}

/// Writes the annotation of one object.
async fn remember(session: &Session, args: &Args, target: &Target, wanted: &Value) -> Result<Value> {
    let dry = DryRun::of(args)?;
    let patch = json!({"metadata": {"annotations": {LAST_APPLIED: apply::remembered(wanted)}}});
    if dry == DryRun::Client {
        return target.get(session).await;
    }
    let query = dry.query(Query::new().with("fieldManager", "kubectl-client-side-apply"));
    session.patch(&query.on(&target.path()), "application/merge-patch+json", &patch).await
}

pub(super) async fn edit(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        let object = target.get(&session).await?;
        let remembered = apply::last_applied(&object).ok_or_else(|| missing(target, &object))?;
        let edited = in_editor(&target.name, &remembered, async |after: &Value| {
            remember(&session, args, target, after).await.map(Some)
        });
        match edited.await? {
            Some(object) => told.did(target, "edited", &object),
            None => Ok(()),
        }
    })
    .await
}
