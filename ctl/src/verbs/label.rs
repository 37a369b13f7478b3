//! `label` and `annotate`: KEY=VALUE sets, KEY- takes away.

use anyhow::bail;
use serde_json::Value;

use super::change::{change, for_each};
use crate::error::Result;
use crate::flags::Args;
use crate::output::{self, Told};
use crate::session::Session;

pub(super) const FLAGS: &str = "
      --overwrite          Change what is set already
      --list               Show what is set
      --resource-version=  Only if the object has this version
";

/// Which of the two maps is meant.
#[derive(Clone, Copy)]
struct Map {
    field: &'static str,
    word: &'static str,
    manager: &'static str,
}

pub(super) async fn label(args: &Args) -> Result<()> {
    run(args, Map { field: "labels", word: "label", manager: "kubectl-label" }).await
}

pub(super) async fn annotate(args: &Args) -> Result<()> {
    run(args, Map { field: "annotations", word: "annotation", manager: "kubectl-annotate" }).await
}

/// Splits the words into those that name objects, what is set and what goes.
fn split(words: &[String]) -> (Vec<String>, Vec<(String, String)>, Vec<String>) {
    let is_change = |word: &&String| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let at = words.iter().position(|word| is_change(&word)).unwrap_or(words.len());
    let (mut set, mut gone) = (Vec::new(), Vec::new());
    for word in &words[at..] {
        match word.split_once('=') {
            Some((key, value)) => set.push((key.to_owned(), value.to_owned())),
            None => gone.push(word.trim_end_matches('-').to_owned()),
        }
    }
    (words[..at].to_vec(), set, gone)
}

fn check(map: Map, set: &[(String, String)]) -> Result<()> {
    // Keys are the server's to judge.
    for (key, value) in set.iter().filter(|_| map.field == "labels") {
        if let Some(why) = api::names::label_value(value).first() {
            bail!("invalid {} value: {:?}: {why}", map.word, format!("{key}={value}"));
        }
    }
    Ok(())
}

async fn run(args: &Args, map: Map) -> Result<()> {
    let (objects, set, gone) = split(&args.words);
    if args.words.is_empty() && args.all("filename").is_empty() {
        bail!("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    if set.is_empty() && gone.is_empty() && !args.on("list") {
        bail!("at least one {} update is required", map.word);
    }
    if set.iter().any(|(key, _)| gone.contains(key)) {
        bail!("can not both modify and remove {} in the same command", article(map));
    }
    check(map, &set)?;
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &objects, async |target| {
        if args.on("list") {
            let object = target.get(&session).await?;
            let members = object.pointer(&format!("/metadata/{}", map.field)).and_then(Value::as_object);
            for (key, value) in members.into_iter().flatten() {
                output::line(format!("{key}={}", value.as_str().unwrap_or_default()))?;
            }
            return Ok(());
        }
        let mut missing = Vec::new();
        let changed = change(&session, args, target, map.manager, |object| {
            missing = edit(object, map, &set, &gone, args.on("overwrite"))?;
            if let Some(version) = args.get("resource-version") {
                object["metadata"]["resourceVersion"] = version.into();
            }
            Ok(())
        })
        .await?;
        for key in missing {
            output::line(format!("{} {key:?} not found.", map.word))?;
        }
        let what = match (map.field, changed.is_changed, set.is_empty()) {
            ("annotations", ..) => "annotated",
            (_, false, _) => "not labeled",
            (_, true, true) => "unlabeled",
            (_, true, false) => "labeled",
        };
        told.did(target, what, &changed.object)
    })
    .await
}

fn article(map: Map) -> String {
    if map.word.starts_with('a') { format!("an {}", map.word) } else { format!("a {}", map.word) }
}

/// Changes the map of an object; the keys that should go and are not there.
fn edit(
    object: &mut Value,
    map: Map,
    set: &[(String, String)],
    gone: &[String],
    overwrites: bool,
) -> Result<Vec<String>> {
    let Some(members) = object.as_object_mut() else { return Ok(Vec::new()) };
    let metadata = api::object::metadata_mut(members);
    let had_none = !metadata.contains_key(map.field);
    let values = api::object::child_mut(metadata, map.field);
    for (key, value) in set {
        match values.get(key).and_then(Value::as_str) {
            Some(old) if !overwrites && old != value => {
                let why = format!("'{key}' already has a value ({old})");
                match map.field {
                    "labels" => bail!("{why}, and --overwrite is false"),
                    _ => bail!("--overwrite is false but found the following declared annotation(s): {why}"),
                }
            }
            _ => values.insert(key.clone(), value.as_str().into()),
        };
    }
    let missing = gone.iter().filter(|key| values.remove(key.as_str()).is_none()).cloned().collect();
    if had_none && values.is_empty() {
        metadata.remove(map.field);
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_objects_and_changes() {
        let words: Vec<String> = "pods a-b c x=y z- w=a=b".split(' ').map(str::to_owned).collect();
        let (objects, set, gone) = split(&words);
        assert_eq!(objects, ["pods", "a-b", "c"]);
        assert_eq!(set, [("x".to_owned(), "y".to_owned()), ("w".to_owned(), "a=b".to_owned())]);
        assert_eq!(gone, ["z"]);
    }

    #[test]
    fn values_are_kept_unless_overwritten() {
        let map = Map { field: "labels", word: "label", manager: "m" };
        let mut object = json!({"metadata": {"labels": {"a": "1"}}});
        let set = [("a".to_owned(), "2".to_owned())];
        let error = edit(&mut object, map, &set, &[], false).unwrap_err().to_string();
        assert_eq!(error, "'a' already has a value (1), and --overwrite is false");
        let gone = edit(&mut object, map, &set, &["z".to_owned()], true).unwrap();
        assert_eq!((gone, object), (vec!["z".to_owned()], json!({"metadata": {"labels": {"a": "2"}}})));
    }
}
