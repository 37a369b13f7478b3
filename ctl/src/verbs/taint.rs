//! `taint`, and `cordon` and `uncordon`: which Pods a node takes.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::change::{change, for_each};
use crate::error::Result;
use crate::flags::Args;
use crate::output::{DryRun, Told, line};
use crate::session::Session;

pub(super) const FLAGS: &str = "
      --overwrite       Change what is set already
      --field-manager=  Name of the owner of the fields
      --validate[=strict]  Accepted
";

/// `key=value:Effect`, `key:Effect-`, `key-`.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Add { key: String, value: String, effect: String },
    Remove { key: String, effect: Option<String> },
}

const HELP: &str = "See 'cox taint -h' for help and examples";

fn parse(word: &str) -> Result<Change> {
    let check = |effect: &str| match effect {
        "NoSchedule" | "PreferNoSchedule" | "NoExecute" => Ok(()),
        _ => bail!("invalid taint effect: {effect}, unsupported taint effect\n{HELP}"),
    };
    if let Some(rest) = word.strip_suffix('-') {
        let (key, effect) = match rest.split_once(':') {
            Some((key, effect)) => {
                check(effect)?;
                (key, Some(effect.to_owned()))
            }
            None => (rest, None),
        };
        let key = key.split('=').next().unwrap_or_default().to_owned();
        return Ok(Change::Remove { key, effect });
    }
    let (pair, effect) = word.split_once(':').unwrap_or((word, ""));
    // Without an effect the whole word is taken for a key, as kubectl takes it.
    let (key, value) = if effect.is_empty() { (pair, "") } else { pair.split_once('=').unwrap_or((pair, "")) };
    if let Some(why) = api::names::qualified_name(key).first() {
        bail!("invalid taint spec: {word}, {why}\n{HELP}");
    }
    check(effect)?;
    Ok(Change::Add { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let is_change = |word: &String| word.contains(':') || word.contains('=') || word.ends_with('-');
    let at = args.words.iter().position(is_change).unwrap_or(args.words.len());
    let changes: Vec<Change> = args.words[at..].iter().map(|word| parse(word)).collect::<Result<_>>()?;
    if changes.is_empty() {
        bail!("at least one taint update is required");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words[..at], async |target| {
        let mut what = "tainted";
        let changed = change(&session, args, target, "kubectl-taint", |node| {
            what = edit(node, &target.name, &changes, args.on("overwrite"))?;
            Ok(())
        })
        .await?;
        told.did(target, what, &changed.object)
    })
    .await
}

fn edit(node: &mut Value, name: &str, changes: &[Change], overwrites: bool) -> Result<&'static str> {
    let spec = api::object::child_mut(node.as_object_mut().context("a node is an object")?, "spec");
    let mut taints = spec.get("taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let is = |taint: &Value, key: &str, effect: Option<&str>| {
        taint["key"] == key && effect.is_none_or(|effect| taint["effect"] == effect)
    };
    let (mut added, mut modified) = (false, false);
    for change in changes {
        match change {
            Change::Remove { key, effect } => {
                let before = taints.len();
                taints.retain(|taint| !is(taint, key, effect.as_deref()));
                if taints.len() == before {
                    let what = effect.as_ref().map_or_else(|| key.clone(), |effect| format!("{key}:{effect}"));
                    bail!("taint {what:?} not found");
                }
            }
            Change::Add { key, value, effect } => {
                let taint = match value.as_str() {
                    "" => json!({"key": key, "effect": effect}),
                    value => json!({"key": key, "value": value, "effect": effect}),
                };
                match taints.iter_mut().find(|taint| is(taint, key, Some(effect))) {
                    Some(_) if !overwrites => {
                        bail!("node {name} already has {key} taint(s) with same effect(s) and --overwrite is false")
                    }
                    Some(old) => {
                        *old = taint;
                        modified = true;
                    }
                    None => {
                        taints.push(taint);
                        added = true;
                    }
                }
            }
        }
    }
    match taints.is_empty() {
        true => spec.remove("taints"),
        false => spec.insert("taints".to_owned(), taints.into()),
    };
    Ok(if modified {
        "modified"
    } else if added {
        "tainted"
    } else {
        "untainted"
    })
}

pub(super) async fn cordon(args: &Args) -> Result<()> {
    set_unschedulable(args, true).await
}

pub(super) async fn uncordon(args: &Args) -> Result<()> {
    set_unschedulable(args, false).await
}

async fn set_unschedulable(args: &Args, wanted: bool) -> Result<()> {
    if args.words.is_empty() && !args.has("selector") {
        bail!("USAGE: {} NODE [flags]\nSee 'cox {} -h' for help and examples", args.verb, args.verb);
    }
    let session = Session::open(args).await?;
    for_each(&session, args, &node_words(args), async |target| set_one(&session, args, target, wanted).await).await
}

/// The words of a verb about nodes, as those of one about any type.
pub(super) fn node_words(args: &Args) -> Vec<String> {
    std::iter::once("nodes".to_owned()).chain(args.words.iter().cloned()).collect()
}

pub(super) async fn set_one(session: &Session, args: &Args, target: &crate::Target, wanted: bool) -> Result<()> {
    let changed = change(session, args, target, "kubectl-cordon", |node| {
        let spec = api::object::child_mut(node.as_object_mut().context("a node is an object")?, "spec");
        match wanted {
            true => spec.insert("unschedulable".to_owned(), true.into()),
            false => spec.remove("unschedulable"),
        };
        Ok(())
    })
    .await?;
    let suffix = match DryRun::of(args)? {
        DryRun::No => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    };
    let already = if changed.is_changed { "" } else { "already " };
    let what = if wanted { "cordoned" } else { "uncordoned" };
    line(format!("node/{} {already}{what}{suffix}", target.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn taints_are_added_and_removed() {
        let mut node = json!({"spec": {}});
        let changes = |words: &str| words.split(' ').map(|word| parse(word).unwrap()).collect::<Vec<_>>();
        assert_eq!(edit(&mut node, "n", &changes("a=b:NoSchedule c:NoExecute"), false).unwrap(), "tainted");
        assert!(edit(&mut node, "n", &changes("a=x:NoSchedule"), false).is_err());
        assert_eq!(edit(&mut node, "n", &changes("a=x:NoSchedule"), true).unwrap(), "modified");
        assert_eq!(edit(&mut node, "n", &changes("a- c:NoExecute-"), false).unwrap(), "untainted");
        assert_eq!(node, json!({"spec": {}}));
        assert_eq!(edit(&mut node, "n", &changes("a-"), false).unwrap_err().to_string(), "taint \"a\" not found");
        assert!(parse("a=b:Nope").is_err());
    }
}
