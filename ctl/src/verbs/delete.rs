//! `delete`: by name, selector or file; waits until the objects are gone.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::create::write_query;
use super::wait::until_gone;
use crate::error::{Exit, Result, has_reason, say};
use crate::flags::Args;
use crate::output::{self, DryRun};
use crate::session::Session;
use crate::target::{self, Target};

pub(super) const FLAGS: &str = "
      --grace-period=       Seconds given to the object to end; 1 with --now, 0 only with --force
      --force               Remove at once, without waiting for the end of what runs
      --now                 The same as --grace-period=1
      --cascade[=background]  background, orphan or foreground: what becomes of dependents
      --wait                Wait until the objects are gone (default true)
      --timeout=            How long to wait for one object; 0 is as long as it takes
      --ignore-not-found    An object that is not there is no error
      --raw=                A path to delete
      --interactive         Not supported
";

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    if let Some(path) = args.get("raw") {
        let answer = session.delete(path, &json!({})).await?;
        return output::put(&output::to_json(&answer)?);
    }
    let options = options(args)?;
    if args.on("all-namespaces") && !args.on("all") && !args.has("selector") && !args.has("field-selector") {
        bail!("a resource cannot be retrieved by name across all namespaces");
    }
    let targets = target::targets(&session, args, &args.words).await?;
    if targets.is_empty() {
        return output::line("No resources found");
    }
    if args.on("force") && args.number("grace-period")?.unwrap_or(0) == 0 {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The \
             resource may continue to run on the cluster indefinitely."
        );
    }
    let ignores = args.on("ignore-not-found") || args.on("all") || args.has("selector");
    let mut deleted = Vec::new();
    let mut has_failed = false;
    for target in targets {
        match one(&session, args, &target, &options).await {
            Ok(uid) => deleted.push((target, uid)),
            Err(error) if ignores && has_reason(&error, "NotFound") => {}
            Err(error) => {
                let error = match &target.source {
                    Some(source) => error.context(format!("error when deleting {source:?}")),
                    None => error,
                };
                say(&error);
                has_failed = true;
            }
        }
    }
    if args.on_unless_off("wait") && DryRun::of(args)? == DryRun::No {
        let timeout = args.seconds("timeout")?.filter(|s| *s > 0.0).map(Duration::from_secs_f64);
        for (target, uid) in &deleted {
            until_gone(&session, target, uid, timeout).await?;
        }
    }
    if has_failed { Err(Exit(1).into()) } else { Ok(()) }
}

/// `DeleteOptions` as the flags say.
fn options(args: &Args) -> Result<Value> {
    let grace = match (args.number("grace-period")?, args.on("now"), args.on("force")) {
        (Some(_), true, _) => bail!("--now and --grace-period cannot be specified together"),
        (Some(0), _, false) => Some(1),
        (Some(seconds), ..) if seconds < 0 => None,
        (Some(seconds), _, true) if seconds > 0 => {
            bail!("--force and --grace-period greater than 0 cannot be specified together")
        }
        (Some(seconds), ..) => Some(seconds),
        (None, true, _) => Some(1),
        (None, _, true) => Some(0),
        (None, ..) => None,
    };
    let propagation = match args.get("cascade") {
        None | Some("background" | "true") => "Background",
        Some("foreground") => "Foreground",
        Some("orphan" | "false") => "Orphan",
        Some(other) => {
            bail!("invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\"")
        }
    };
    let mut options = json!({"propagationPolicy": propagation});
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    Ok(options)
}

/// `pod "web" deleted from default namespace`
pub(super) fn said(target: &Target, how: &str) -> String {
    let place = match target.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" from {namespace} namespace"),
    };
    format!("{} {:?} {how}{place}", target.resource.kind_name(), target.name)
}

/// Deletes one object and tells of it; returns its uid.
async fn one(session: &Session, args: &Args, target: &Target, options: &Value) -> Result<String> {
    let dry = DryRun::of(args)?;
    let answer = match dry {
        DryRun::Client => target.get(session).await?,
        DryRun::Server => {
            let mut options = options.clone();
            options["dryRun"] = json!(["All"]);
            session.delete(&target.path(), &options).await?
        }
        DryRun::No => session.delete(&target.path(), options).await?,
    };
    let suffix = match dry {
        DryRun::No => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    };
    let how = if args.on("force") { "force deleted" } else { "deleted" };
    if args.get("output") == Some("name") {
        output::line(target.shown())?;
    } else {
        output::line(format!("{}{suffix}", said(target, how)))?;
    }
    // A Status names the object in its details, an object that is not gone yet is itself.
    let uid = answer.pointer("/details/uid").or_else(|| answer.pointer("/metadata/uid")).and_then(Value::as_str);
    Ok(uid.unwrap_or_default().to_owned())
}

/// Replaces an object that cannot be changed.
pub(super) async fn and_create_again(session: &Session, args: &Args, target: &Target, wanted: &Value) -> Result<Value> {
    let grace = args.number("grace-period")?.filter(|seconds| *seconds >= 0);
    let mut options = json!({"propagationPolicy": "Background"});
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    match session.delete(&target.path(), &options).await {
        Ok(_) => until_gone(session, target, "", None).await?,
        Err(error) if has_reason(&error, "NotFound") => {}
        Err(error) => return Err(error),
    }
    let query = write_query(args, DryRun::No, "kubectl-client-side-apply")?;
    let path = query.on(&target.resource.path(&target.namespace));
    session.post(&path, wanted).await.context("create the object again")
}
