//! `auth reconcile`: gives roles and bindings what files say without taking away what they have.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::change::for_each;
use super::pods::{items, text};
use crate::error::Result;
use crate::flags::Args;
use crate::output::{DryRun, Told};
use crate::session::{Query, Session};
use crate::target::Target;

pub(super) const FLAGS: &str = "
      --remove-extra-permissions  Take away what the file does not give
      --remove-extra-subjects     Take away subjects that the file does not name
";

/// Objects with this annotation at false are left alone.
const UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What is to be written, and what is told of it.
struct Plan {
    object: Value,
    operation: Option<&'static str>,
    notes: Vec<(&'static str, Vec<String>)>,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let dry = DryRun::of(args)?;
    if dry == DryRun::Server {
        bail!("--dry-run=server for command reconcile is not supported yet");
    }
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        let wanted = target.object.as_ref().context("a target from a file has its object")?;
        if !matches!(target.resource.kind.as_str(), "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding") {
            eprintln!("W: skipping {}: only RBAC kinds are reconciled", target.shown());
            return Ok(());
        }
        let current = target.get_if_exists(&session).await?;
        let plan = plan(current.as_ref(), wanted, args);
        let is_protected = current.as_ref().is_some_and(|object| {
            object.pointer("/metadata/annotations").is_some_and(|a| a.get(UPDATE) == Some(&"false".into()))
        });
        let object = match plan.operation {
            Some(operation) if dry == DryRun::No && !is_protected => {
                write(&session, target, operation, &plan.object).await?
            }
            _ => plan.object,
        };
        told.did(target, "reconciled", &object)?;
        if let Some(operation) = plan.operation {
            let caveat = if is_protected { format!(", but object opted out ({UPDATE}: false)") } else { String::new() };
            eprintln!("\treconciliation required {operation}{caveat}");
            for (title, lines) in plan.notes.iter().filter(|(_, lines)| !lines.is_empty()) {
                eprintln!("\t{title}:");
                lines.iter().for_each(|line| eprintln!("\t\t{line}"));
            }
        }
        Ok(())
    })
    .await
}

async fn write(session: &Session, target: &Target, operation: &str, object: &Value) -> Result<Value> {
    let query = Query::new().with("fieldManager", "kubectl-auth");
    let all = query.on(&target.resource.path(&target.namespace));
    match operation {
        "create" => session.post(&all, object).await,
        "recreate" => {
            session.delete(&target.path(), &json!({})).await?;
            session.post(&all, object).await
        }
        _ => session.put(&query.on(&target.path()), object).await,
    }
}

fn plan(current: Option<&Value>, wanted: &Value, args: &Args) -> Plan {
    let is_binding = wanted.get("roleRef").is_some();
    let field = if is_binding { "subjects" } else { "rules" };
    let list = |object: &Value| items(object, &format!("/{field}")).cloned().collect::<Vec<Value>>();
    let shown = |values: &[Value]| -> Vec<String> {
        values.iter().map(|value| if is_binding { subject_text(value) } else { rule_text(value) }).collect()
    };
    let (missing, extra) = match is_binding {
        true => ("missing subjects added", "extra subjects removed"),
        false => ("missing rules added", "extra rules removed"),
    };
    let Some(current) = current else {
        let notes = vec![(missing, shown(&list(wanted)))];
        return Plan { object: wanted.clone(), operation: Some("create"), notes };
    };
    if is_binding && current.get("roleRef") != wanted.get("roleRef") {
        return Plan { object: wanted.clone(), operation: Some("recreate"), notes: Vec::new() };
    }
    let uncovered = |by: &Value, of: &Value| match is_binding {
        true => {
            let has = list(by);
            list(of).into_iter().filter(|subject| !has.iter().any(|h| same_subject(h, subject))).collect()
        }
        false => uncovered_rules(&list(by), &list(of)),
    };
    let (added, removed): (Vec<Value>, Vec<Value>) = (uncovered(current, wanted), uncovered(wanted, current));
    let removes = args.on(if is_binding { "remove-extra-subjects" } else { "remove-extra-permissions" });
    let mut object = current.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in wanted.pointer(&format!("/metadata/{map}")).and_then(Value::as_object).into_iter().flatten()
        {
            // What the object has stays.
            if object.pointer(&format!("/metadata/{map}")).and_then(|m| m.get(key)).is_none() {
                object["metadata"][map][key] = value.clone();
            }
        }
    }
    if removes && !(added.is_empty() && removed.is_empty()) {
        object[field] = list(wanted).into();
    } else if !added.is_empty() {
        object[field] = list(current).into_iter().chain(added.iter().cloned()).collect::<Vec<_>>().into();
    }
    let operation = (object != *current).then_some("update");
    let mut notes = vec![(missing, shown(&added))];
    if removes {
        notes.push((extra, shown(&removed)));
    }
    Plan { object, operation, notes }
}

fn same_subject(left: &Value, right: &Value) -> bool {
    ["kind", "apiGroup", "name", "namespace"].iter().all(|key| {
        let text = |subject: &Value| subject.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        text(left) == text(right)
    })
}

const LISTS: [&str; 5] = ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"];

fn words(rule: &Value, list: &str) -> Vec<String> {
    items(rule, &format!("/{list}")).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Rules of one verb, group, resource and name, or of one verb and URL, each.
fn single(rule: &Value) -> Vec<Value> {
    let or_none = |list: Vec<String>| if list.is_empty() { vec![None] } else { list.into_iter().map(Some).collect() };
    let mut found = Vec::new();
    for group in words(rule, "apiGroups") {
        for resource in words(rule, "resources") {
            for verb in words(rule, "verbs") {
                for name in or_none(words(rule, "resourceNames")) {
                    let mut one = json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]});
                    if let Some(name) = name {
                        one["resourceNames"] = json!([name]);
                    }
                    found.push(one);
                }
            }
        }
    }
    for url in words(rule, "nonResourceURLs") {
        found.extend(words(rule, "verbs").into_iter().map(|verb| json!({"verbs": [verb], "nonResourceURLs": [url]})));
    }
    found
}

/// Whether one rule allows all that a single one does.
fn covers(rule: &Value, one: &Value) -> bool {
    let has = |list: &str| {
        let (own, asked) = (words(rule, list), words(one, list));
        own.iter().any(|word| word == "*") || asked.iter().all(|word| own.contains(word) || in_prefix(&own, word))
    };
    if one.get("nonResourceURLs").is_some() {
        return has("verbs") && has("nonResourceURLs") && !words(rule, "nonResourceURLs").is_empty();
    }
    let names = words(rule, "resourceNames");
    let asked = words(one, "resourceNames");
    let fits = names.is_empty() || (!asked.is_empty() && asked.iter().all(|name| names.contains(name)));
    has("verbs") && has("apiGroups") && has("resources") && fits
}

/// `/healthz/*` and `*/scale`
fn in_prefix(own: &[String], word: &str) -> bool {
    own.iter().any(|pattern| match (pattern.strip_suffix('*'), pattern.strip_prefix("*/")) {
        (Some(head), _) if pattern.starts_with('/') => word.starts_with(head),
        (_, Some(sub)) => word.split_once('/').is_some_and(|(_, asked)| asked == sub),
        _ => false,
    })
}

/// What `asked` allows and `own` does not.
fn uncovered_rules(own: &[Value], asked: &[Value]) -> Vec<Value> {
    asked.iter().flat_map(single).filter(|one| !own.iter().any(|rule| covers(rule, one))).collect()
}

/// A rule as Go prints it.
fn rule_text(rule: &Value) -> String {
    const TITLES: [&str; 5] = ["Verbs", "APIGroups", "Resources", "ResourceNames", "NonResourceURLs"];
    let parts = TITLES.iter().zip(LISTS).map(|(title, list)| format!("{title}:[{}]", words(rule, list).join(" ")));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(" "))
}

fn subject_text(subject: &Value) -> String {
    let part = |pointer| text(subject, pointer);
    let (kind, group) = (part("/kind"), part("/apiGroup"));
    format!("{{Kind:{kind} APIGroup:{group} Name:{} Namespace:{}}}", part("/name"), part("/namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        let rule =
            |verbs: &[&str], resources: &[&str]| json!({"verbs": verbs, "apiGroups": [""], "resources": resources});
        let own = [rule(&["get", "list"], &["pods"])];
        let asked = [rule(&["get", "list", "watch"], &["pods", "services"])];
        let expected = [("watch", "pods"), ("get", "services"), ("list", "services"), ("watch", "services")]
            .map(|(v, r)| rule(&[v], &[r]));
        assert_eq!(uncovered_rules(&own, &asked), expected);
        assert!(uncovered_rules(&[rule(&["*"], &["*"])], &asked).is_empty());
        let url = |url: &str| json!({"verbs": ["get"], "nonResourceURLs": [url]});
        assert!(uncovered_rules(&[url("/x/*")], &[url("/x/y")]).is_empty());
        assert_eq!(uncovered_rules(&[url("/x/*")], &[url("/z")]), [url("/z")]);
        assert_eq!(
            rule_text(&own[0]),
            "{Verbs:[get list] APIGroups:[] Resources:[pods] ResourceNames:[] NonResourceURLs:[]}"
        );
    }
}
