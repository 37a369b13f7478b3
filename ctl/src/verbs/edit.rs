//! `edit`: an object in an editor; what was changed is sent, errors open the editor again.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::change::difference;
use crate::Target;
use crate::apply;
use crate::error::{self, ApiError, Exit, Result};
use crate::flags::Args;
use crate::output::{self, Told};
use crate::session::{Query, Session};
use crate::target;

pub(super) const FLAGS: &str = "
      --subresource=      A subresource of the object, such as status
      --save-config       Remember the object in its annotation, for apply
      --validate[=strict] strict, warn or ignore: what the server does about unknown fields
      --field-manager=    Name of the owner of the fields
      --output-patch      Print the patch
      --windows-line-endings  Accepted
";

const HEAD: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for target in target::targets(&session, args, &args.words).await? {
        one(&session, args, &mut told, &target).await?;
    }
    Ok(())
}

async fn one(session: &Session, args: &Args, told: &mut Told<'_>, target: &Target) -> Result<()> {
    let suffix = args.get("subresource").map(|s| format!("/{s}")).unwrap_or_default();
    let path = format!("{}{suffix}", target.path());
    let mut before = session.get(&path).await?;
    output::without_managed_fields(&mut before);
    let edited = in_editor(&target.name, &before, async |after: &Value| {
        send(session, args, target, &path, &before, after).await
    });
    match edited.await? {
        Some(object) => told.did(target, "edited", &object),
        None => Ok(()),
    }
}

/// Lets a person edit an object until `send` takes it. `None` when nothing was changed, which is said.
///
/// # Errors
/// The editor failed, or the person gave up after an error; the text is then left in a file.
pub(super) async fn in_editor(
    name: &str,
    before: &Value,
    send: impl AsyncFn(&Value) -> Result<Option<Value>>,
) -> Result<Option<Value>> {
    let file = std::env::temp_dir().join(format!("cox-edit-{}-{name}.yaml", std::process::id()));
    let original = api::yaml::to_string(before);
    let mut text = original.clone();
    let mut problem: Option<String> = None;
    loop {
        let comment = problem.as_deref().map(|p| p.lines().map(|l| format!("# {l}\n")).collect::<String>() + "#\n");
        std::fs::write(&file, format!("{HEAD}{}{text}", comment.unwrap_or_default()))
            .with_context(|| format!("write {}", file.display()))?;
        open_editor(&file)?;
        let edited = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let edited: String = edited.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
        let is_same = edited == original || edited.trim().is_empty();
        if is_same || (problem.is_some() && edited == text) {
            return cancelled(&file, problem.is_some()).map(|()| None);
        }
        text = edited;
        match changed(before, &text, &send).await {
            Ok(None) => return cancelled(&file, false).map(|()| None),
            Ok(Some(object)) => {
                std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
                return Ok(Some(object));
            }
            Err(error) => {
                let (short, long) = told_of(&error);
                eprintln!("error: {short}");
                problem = Some(long);
            }
        }
    }
}

/// What is said of an error at once, and in the file.
fn told_of(error: &anyhow::Error) -> (String, String) {
    let Some(api) = error.downcast_ref::<ApiError>().filter(|api| api.is("Invalid")) else {
        let text = error::text(error);
        return (text.trim_start_matches("error: ").to_owned(), text);
    };
    let details =
        |key: &str| api.status.pointer(&format!("/details/{key}")).and_then(Value::as_str).unwrap_or_default();
    let group = if details("group").is_empty() { String::new() } else { format!(".{}", details("group")) };
    // The details name the kind; people are told the resource.
    let plural = format!("{}s{group} {:?}", details("kind").to_lowercase(), details("name"));
    let causes = api.status.pointer("/details/causes").and_then(Value::as_array);
    let lines = causes.into_iter().flatten().map(|cause| {
        let part = |key: &str| cause.get(key).and_then(Value::as_str).unwrap_or_default();
        format!("\n* {}: {}", part("field"), part("message"))
    });
    (format!("{plural} is invalid"), format!("{plural} was not valid:{}", lines.collect::<String>()))
}

fn cancelled(file: &Path, has_failed: bool) -> Result<()> {
    if has_failed {
        eprintln!(
            "A copy of your changes has been stored to {:?}\nerror: Edit cancelled, no valid changes were saved.",
            file.display().to_string()
        );
        return Err(Exit(1).into());
    }
    std::fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    eprintln!("Edit cancelled, no changes made.");
    Ok(())
}

/// Sends what was changed; `None` when nothing was.
async fn changed(
    before: &Value,
    text: &str,
    send: &impl AsyncFn(&Value) -> Result<Option<Value>>,
) -> Result<Option<Value>> {
    let document = api::yaml::parse(text.as_bytes()).map_err(|error| anyhow!("{error}"))?;
    if document.value.pointer("/metadata/name") != before.pointer("/metadata/name") {
        bail!("the name of an object cannot be changed");
    }
    if *before == document.value { Ok(None) } else { send(&document.value).await }
}

async fn send(
    session: &Session,
    args: &Args,
    target: &Target,
    path: &str,
    before: &Value,
    after: &Value,
) -> Result<Option<Value>> {
    let mut after = after.clone();
    if args.on("save-config") {
        after = apply::with_memory(&after);
    }
    let (patch, content_type) = difference(&target.resource, before, &after);
    if args.on("output-patch") {
        output::line(format!("Patch: {patch}"))?;
    }
    let manager = args.get("field-manager").unwrap_or("kubectl-edit");
    let query = Query::new().with("fieldManager", manager).with("fieldValidation", "Strict");
    session.patch(&query.on(path), content_type, &patch).await.map(Some)
}

/// Runs $KUBE_EDITOR or $EDITOR, which may have words of their own, or vi.
fn open_editor(file: &Path) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let editor = set("KUBE_EDITOR").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let shell = Command::new("/bin/sh").arg("-c").arg(format!("{editor} \"$0\"")).arg(file).status();
    let status = shell.with_context(|| format!("run the editor {editor:?}"))?;
    if !status.success() {
        bail!("there was a problem with the editor {editor:?}");
    }
    Ok(())
}
