//! Parameters of operations as lines of text: key, name, place, type, `required` or nothing, and description, separated
//! by tabs. A line with one space names the parameters of a path of its own: `pods/exec key key …`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

/// Parameters that the v2 document repeats instead of sharing; their name is their key.
const INLINE: [&str; 2] = ["dryRun", "fieldValidation"];

/// Parameters that paths have by rule: the table tells where.
const BY_RULE: [&str; 5] = ["dryRun", "fieldManager", "fieldValidation", "namespace", "pretty"];

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn line(key: &str, parameter: &Value) -> String {
    let required = if parameter.get("required") == Some(&Value::Bool(true)) { "required" } else { "" };
    let description = text_of(parameter, "description").replace('\\', "\\\\").replace('\n', "\\n");
    let [name, place, ty] = ["name", "in", "type"].map(|key| text_of(parameter, key));
    format!("{key}\t{name}\t{place}\t{ty}\t{required}\t{description}\n")
}

/// Resource and subresource of a path, `pods/exec`, `nodes/proxy/{path}`; other paths are their own name.
fn owner(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.iter().position(|part| *part == "{name}") {
        Some(name) if name > 0 => {
            let after: String = parts[name + 1..].iter().map(|part| format!("/{part}")).collect();
            format!("{}{after}", parts[name - 1])
        }
        _ => path.to_owned(),
    }
}

/// The text of all parameters, and of the paths that have some of their own.
pub fn text(swagger: &Value) -> anyhow::Result<String> {
    let shared = swagger.get("parameters").and_then(Value::as_object).context("the document shares no parameters")?;
    let paths = swagger.get("paths").and_then(Value::as_object).context("the document has no paths")?;
    let mut text = String::new();
    for (key, parameter) in shared.iter().filter(|(_, parameter)| text_of(parameter, "in") != "body") {
        text.push_str(&line(key, parameter));
    }
    let of_operation = |operation: &Value| operation.get("parameters").and_then(Value::as_array).cloned();
    let operations = || paths.values().filter_map(Value::as_object).flat_map(|item| item.values());
    for name in INLINE {
        let mut all = operations().filter_map(of_operation).flatten();
        let found = all.find(|p| text_of(p, "name") == name).with_context(|| format!("no parameter {name}"))?;
        text.push_str(&line(name, &found));
    }
    let by_rule: BTreeSet<&str> = shared
        .iter()
        .filter(|(_, parameter)| BY_RULE.contains(&text_of(parameter, "name")))
        .map(|(key, _)| key.as_str())
        .collect();
    let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, item) in paths.iter().filter(|(path, _)| !path.contains("/watch/")) {
        let references = item.get("parameters").and_then(Value::as_array).into_iter().flatten();
        let keys = references.filter_map(|p| text_of(p, "$ref").strip_prefix("#/parameters/"));
        let keys: Vec<String> = keys.filter(|key| !by_rule.contains(key)).map(str::to_owned).collect();
        let is_list = keys.iter().any(|key| key.starts_with("allowWatchBookmarks"));
        if !keys.is_empty() && !is_list {
            own.insert(owner(path), keys);
        }
    }
    for (path, keys) in own {
        writeln!(text, " {path} {}", keys.join(" "))?;
    }
    Ok(text)
}
