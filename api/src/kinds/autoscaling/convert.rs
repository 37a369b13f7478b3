//! Version 1 of HorizontalPodAutoscalers, which knows one metric: what else version 2 says stands in annotations.

use serde_json::{Map, Value, json};

use super::super::json::{default, ensure, get, list, object, text};
use super::CPU_UTILIZATION;
use crate::Object;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const TOLERANCES: [&str; 2] =
    ["autoscaling.alpha.kubernetes.io/scale-down-tolerance", "autoscaling.alpha.kubernetes.io/scale-up-tolerance"];

/// Sources of metrics: the field, then the members of version 1 in Go's order, each with where version 2 has it. Those
/// with `!` cannot be left out.
const SPECS: &str = include_str!("specs.txt");
const STATUSES: &str = include_str!("statuses.txt");

/// The sources of a table, each with its members: version 1's name, version 2's path, whether it is always there.
fn sources(
    table: &'static str,
) -> impl Iterator<Item = (&'static str, impl Iterator<Item = (&'static str, &'static str, bool)>)> {
    table.lines().filter_map(|line| {
        let (field, members) = line.split_once(' ')?;
        let member = |word: &'static str| {
            let (own, path) = word.split_once('=')?;
            Some((own.trim_end_matches('!'), path, own.ends_with('!')))
        };
        Some((field, members.split(' ').filter_map(member)))
    })
}

/// A stored autoscaler (version 2) as version 1.
pub fn to_v1(autoscaler: &mut Object) {
    drop_annotations(autoscaler);
    let mut notes: Vec<(&str, String)> = Vec::new();
    let spec = ensure(autoscaler, "spec");
    if let Some(Value::Array(metrics)) = spec.remove("metrics") {
        let others: Vec<&Value> = metrics.iter().filter(|metric| cpu_utilization(metric).is_none()).collect();
        if !others.is_empty() {
            notes.push((METRICS, array(others.into_iter().map(|metric| metric_text(metric, SPECS)))));
        }
        if let Some(percent) = metrics.iter().find_map(cpu_utilization) {
            spec.insert("targetCPUUtilizationPercentage".into(), percent.clone());
        }
    }
    if let Some(behavior) = spec.remove("behavior").filter(|behavior| !behavior.is_null()) {
        notes.push((BEHAVIOR, behavior_text(&behavior)));
    }
    let status = ensure(autoscaler, "status");
    if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
        let mut of_cpu = metrics.iter().rev().filter(|m| m.pointer("/resource/name").is_some_and(|name| name == "cpu"));
        if let Some(percent) = of_cpu.find_map(|m| m.pointer("/resource/current/averageUtilization")) {
            status.insert("currentCPUUtilizationPercentage".into(), percent.clone());
        }
        if !metrics.is_empty() {
            notes.push((CURRENT, array(metrics.iter().map(|metric| metric_text(metric, STATUSES)))));
        }
    }
    if let Some(Value::Array(conditions)) = status.remove("conditions").filter(|all| *all != json!([])) {
        let members = ["type", "status", "lastTransitionTime", "reason", "message"];
        let text = |one: &Value| ordered(members.iter().map(|key| (*key, one.get(key).map(Value::to_string))));
        notes.push((CONDITIONS, array(conditions.iter().map(text))));
    }
    default(status, "currentReplicas", 0);
    if !notes.is_empty() {
        let annotations = ensure(ensure(autoscaler, "metadata"), "annotations");
        // Go's encoder escapes what HTML gives a meaning to; it stands in texts only.
        let escaped = |text: String| text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        annotations.extend(notes.into_iter().map(|(key, text)| (key.to_owned(), Value::String(escaped(text)))));
    }
}

/// An autoscaler of version 1 as it is stored, in version 2.
pub fn from_v1(autoscaler: &mut Object) {
    let lists = |key: &str| annotation(autoscaler, key).and_then(|value| value.as_array().cloned());
    let (metrics, current, conditions) = (lists(METRICS), lists(CURRENT), lists(CONDITIONS));
    let behavior = annotation(autoscaler, BEHAVIOR).map(|behavior| renamed(&behavior));
    drop_annotations(autoscaler);
    let spec = ensure(autoscaler, "spec");
    let mut all: Vec<Value> = metrics.iter().flatten().map(|metric| metric_object(metric, SPECS)).collect();
    let percent = spec.remove("targetCPUUtilizationPercentage").filter(|percent| !percent.is_null());
    if let Some(percent) = percent.or_else(|| all.is_empty().then(|| CPU_UTILIZATION.into())) {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    spec.insert("metrics".into(), Value::Array(all));
    if let Some(behavior) = behavior.filter(|behavior| behavior.as_object().is_some_and(|b| !b.is_empty())) {
        spec.insert("behavior".into(), behavior);
    }
    let status = ensure(autoscaler, "status");
    if status.get("currentReplicas") == Some(&Value::from(0)) {
        status.remove("currentReplicas");
    }
    let percent = status.remove("currentCPUUtilizationPercentage").filter(|percent| !percent.is_null());
    let of_cpu =
        |percent| json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}});
    let current: Vec<Value> = match current {
        Some(current) => current.iter().map(|metric| metric_object(metric, STATUSES)).collect(),
        None => percent.map(of_cpu).into_iter().collect(),
    };
    status.insert("currentMetrics".into(), if current.is_empty() { Value::Null } else { Value::Array(current) });
    if let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) {
        status.insert("conditions".into(), Value::Array(conditions));
    }
}

fn annotation(autoscaler: &Object, key: &str) -> Option<Value> {
    serde_json::from_str(text(object(object(autoscaler, "metadata")?, "annotations")?, key)).ok()
}

/// Whether metrics stand in an annotation of a version 1 object: then it needs no default.
pub fn has_metrics(autoscaler: &Object) -> bool {
    annotation(autoscaler, METRICS).is_some_and(|metrics| metrics.as_array().is_some_and(|all| !all.is_empty()))
}

/// They come and go with the conversion.
fn drop_annotations(autoscaler: &mut Object) {
    let metadata = ensure(autoscaler, "metadata");
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else { return };
    let ours = |key: &str| [METRICS, CURRENT, CONDITIONS, BEHAVIOR].contains(&key) || TOLERANCES.contains(&key);
    annotations.retain(|key, _| !ours(key));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// The utilization that version 1 has a field for.
fn cpu_utilization(metric: &Value) -> Option<&Value> {
    let is_cpu = metric.get("type")? == "Resource" && metric.pointer("/resource/name")? == "cpu";
    metric.pointer("/resource/target/averageUtilization").filter(|percent| is_cpu && !percent.is_null())
}

/// JSON of members in their order, without those that are not there.
fn ordered<'a>(members: impl Iterator<Item = (&'a str, Option<String>)>) -> String {
    let there = members.filter_map(|(key, text)| Some(format!("\"{key}\":{}", text?)));
    format!("{{{}}}", there.collect::<Vec<_>>().join(","))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A metric of version 2 in version 1's words.
fn metric_text(metric: &Value, table: &'static str) -> String {
    let mut members = vec![("type", metric.get("type").map(Value::to_string))];
    for (field, of) in sources(table) {
        let Some(source) = metric.get(field).filter(|source| source.is_object()) else { continue };
        let member = |(own, path, always): (&'static str, &str, bool)| {
            let found = source.pointer(&format!("/{}", path.replace('.', "/"))).filter(|value| !value.is_null());
            let reference = |of: &Value| {
                ordered(["kind", "name", "apiVersion"].into_iter().map(|key| (key, of.get(key).map(Value::to_string))))
            };
            let text = found.map(|value| if own == "target" { reference(value) } else { value.to_string() });
            (own, text.or_else(|| always.then(|| "\"0\"".to_owned())))
        };
        members.push((field, Some(ordered(of.map(member)))));
    }
    ordered(members.into_iter())
}

/// A metric in version 1's words as version 2 has it.
fn metric_object(metric: &Value, table: &'static str) -> Value {
    let mut out = Map::from_iter([("type".to_owned(), metric.get("type").cloned().unwrap_or_default())]);
    for (field, members) in sources(table) {
        let Some(source) = metric.get(field).and_then(Value::as_object) else { continue };
        let mut made = Map::new();
        for (own, path, _) in members {
            let Some(value) = get(source, own) else { continue };
            let (place, key) = match path.split_once('.') {
                Some((parent, key)) => (ensure(&mut made, parent), key),
                None => (&mut made, path),
            };
            place.insert(key.to_owned(), value.clone());
        }
        if table == SPECS {
            target_type(field, ensure(&mut made, "target"));
        }
        out.insert(field.to_owned(), Value::Object(made));
    }
    Value::Object(out)
}

/// Which of its members a target is about; version 1 does not say it.
fn target_type(field: &str, target: &mut Object) {
    let has = |key: &str| get(target, key).is_some();
    let ty = match field {
        "object" if !has("averageValue") => "Value",
        "external" if has("value") => "Value",
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        _ => "AverageValue",
    };
    // Beside an average there may stand the 0 that version 1 cannot leave out.
    if field == "object" && ty == "AverageValue" && text(target, "value") == "0" {
        target.remove("value");
    }
    target.insert("type".into(), ty.into());
}

/// Behavior as upstream's internal type is written: with Go's names, and all of them.
fn behavior_text(behavior: &Value) -> String {
    let all = |of: &Value, names: &[&'static str]| {
        let member = |name: &&'static str| {
            let small = name.chars().take(1).flat_map(char::to_lowercase).chain(name.chars().skip(1));
            (*name, Some(of.get(small.collect::<String>()).unwrap_or(&Value::Null).to_string()))
        };
        names.iter().map(member).collect::<Vec<_>>()
    };
    let rules = |key: &'static str| {
        let Some(Value::Object(rules)) = behavior.get(key) else { return "null".to_owned() };
        let policies = list(rules, "policies").iter();
        let policies = policies.map(|policy| ordered(all(policy, &["Type", "Value", "PeriodSeconds"]).into_iter()));
        let of = Value::Object(rules.clone());
        let mut members = all(&of, &["StabilizationWindowSeconds", "SelectPolicy"]);
        members.push(("Policies", Some(array(policies))));
        members.extend(all(&of, &["Tolerance"]));
        ordered(members.into_iter())
    };
    ordered([("ScaleUp", Some(rules("scaleUp"))), ("ScaleDown", Some(rules("scaleDown")))].into_iter())
}

/// Members with a small letter at the beginning, as the published types have them; nulls are left out.
fn renamed(value: &Value) -> Value {
    let small = |key: &str| key.chars().take(1).flat_map(char::to_lowercase).chain(key.chars().skip(1)).collect();
    match value {
        Value::Object(members) => {
            let set = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(key, value)| (small(key), renamed(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(renamed).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What a reference API server has: one line each, an autoscaler as version 2, as version 1, and as version 2 after
    /// an update of version 1, which leaves the status alone.
    const RECORDED: &str = include_str!("../tests/autoscalers.jsonl");

    #[test]
    fn both_ways_are_upstreams() {
        for line in RECORDED.lines() {
            let recorded: Map<String, Value> = serde_json::from_str(line).unwrap();
            let of = |version: &str| {
                let mut object = recorded[version].as_object().unwrap().clone();
                object.remove("apiVersion");
                object
            };
            let mut converted = of("v2");
            to_v1(&mut converted);
            assert_eq!(converted, of("v1"));
            from_v1(&mut converted);
            let mut back = of("back");
            for object in [&mut converted, &mut back] {
                object.remove("status");
            }
            assert_eq!(converted, back);
        }
    }
}
