//! The policy that a cluster begins with: Kubernetes' default roles and bindings, and this cluster's own.

pub mod reconcile;

use api::labels::Selector;
use api::{Object, meta, object};
use serde_json::{Map, Value, json};

use crate::rbac::Rule;

const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// With the value `false` on an object, [`reconcile`] leaves it alone.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Every role and binding, in the order in which to create them. Those of namespaces need `kube-system` and
/// `kube-public`.
///
/// Roles that aggregate others have their rules from the start; a controller keeps them when others join.
pub fn bootstrap_objects() -> Vec<Object> {
    let mut objects: Vec<Object> = [include_str!("upstream.txt"), include_str!("cox.txt")]
        .iter()
        .flat_map(|text| parse(text).unwrap_or_else(|line| unreachable!("embedded policy, tested: {line}")))
        .collect();
    // view goes into edit and edit into admin: each pass brings the rules one role further.
    for _ in 0..3 {
        for index in 0..objects.len() {
            if let Some(rules) = aggregated_rules(&objects[index], &objects) {
                objects[index].insert("rules".to_owned(), rules.into());
            }
        }
    }
    objects
}

/// The rules of ClusterRole `system:node`, which the Node authorizer grants without a binding.
pub fn node_rules() -> Vec<Rule> {
    let lines = include_str!("upstream.txt").lines().skip_while(|line| *line != "ClusterRole system:node").skip(1);
    lines.take_while(|line| line.starts_with(' ')).filter_map(rule).collect()
}

/// The rules of a ClusterRole that aggregates others, in the order of their names; `None` when it aggregates none.
pub fn aggregated_rules(role: &Object, all: &[Object]) -> Option<Vec<Value>> {
    let selectors = object::at(role, &["aggregationRule", "clusterRoleSelectors"])?.as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let selector = Selector::from_label_selector(Some(selector)).ok()?;
        let is_chosen = |other: &&Object| {
            let labels = object::metadata(other).and_then(|m| m.get("labels")).and_then(Value::as_object);
            object::str_at(other, &["kind"]) == "ClusterRole"
                && object::name(other) != object::name(role)
                && labels.is_some_and(|labels| selector.matches(labels))
        };
        let mut chosen: Vec<&Object> = all.iter().filter(is_chosen).collect();
        chosen.sort_by_key(|other| object::name(other));
        for rule in chosen.iter().filter_map(|other| other.get("rules")?.as_array()).flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

/// Reads the form that upstream.txt explains; the error is the line at fault.
fn parse(text: &str) -> Result<Vec<Object>, String> {
    let mut objects: Vec<Object> = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let fault = || line.to_owned();
        if line.starts_with(' ') {
            let rule = serde_json::to_value(rule(line).ok_or_else(fault)?).map_err(|_| fault())?;
            let rules = objects.last_mut().and_then(|o| o.get_mut("rules")).and_then(Value::as_array_mut);
            rules.ok_or_else(fault)?.push(rule);
        } else {
            objects.push(head(line).ok_or_else(fault)?);
        }
    }
    Ok(objects)
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|item| if item == "core" { "" } else { item }.to_owned()).collect()
}

fn rule(line: &str) -> Option<Rule> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verbs, rest) = words.split_first()?;
    let mut rule = Rule { verbs: list(verbs), ..Rule::default() };
    for pair in rest.chunks(2) {
        let [key, value] = pair else { return None };
        let field = match *key {
            "on" => &mut rule.resources,
            "in" => &mut rule.api_groups,
            "named" => &mut rule.resource_names,
            "at" => &mut rule.non_resource_urls,
            _ => return None,
        };
        *field = list(value);
    }
    Some(rule)
}

/// The object that a line begins.
fn head(line: &str) -> Option<Object> {
    let mut words = line.split_whitespace();
    let (kind, name) = (words.next()?, words.next()?);
    let mut metadata = Map::new();
    match name.split_once('/').filter(|_| !kind.starts_with("Cluster")) {
        Some((namespace, name)) => {
            metadata.insert("name".to_owned(), name.into());
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        None => drop(metadata.insert("name".to_owned(), name.into())),
    }
    let mut labels = Map::from_iter([("kubernetes.io/bootstrapping".to_owned(), json!("rbac-defaults"))]);
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), meta::api_version(GROUP, "v1").into());
    object.insert("kind".to_owned(), kind.into());
    if kind.ends_with("Role") {
        let mut selectors = Vec::new();
        for word in words {
            if let Some(role) = word.strip_prefix('=') {
                labels.insert(format!("{AGGREGATE}{role}"), "true".into());
            } else {
                let label = format!("{AGGREGATE}{}", word.strip_prefix('<')?);
                selectors.push(json!({"matchLabels": {label: "true"}}));
            }
        }
        if !selectors.is_empty() {
            object.insert("aggregationRule".to_owned(), json!({"clusterRoleSelectors": selectors}));
        }
        object.insert("rules".to_owned(), json!([]));
    } else {
        let (kind, name) = (words.next()?, words.next()?);
        object.insert("roleRef".to_owned(), json!({"apiGroup": GROUP, "kind": kind, "name": name}));
        let subjects = words.map(subject).collect::<Option<Vec<Value>>>()?;
        if !subjects.is_empty() {
            object.insert("subjects".to_owned(), subjects.into());
        }
    }
    metadata.insert("labels".to_owned(), labels.into());
    metadata.insert("annotations".to_owned(), json!({AUTOUPDATE: "true"}));
    object.insert("metadata".to_owned(), metadata.into());
    Some(object)
}

fn subject(word: &str) -> Option<Value> {
    let (kind, name) = word.split_once('=')?;
    if kind == "ServiceAccount" {
        let (namespace, name) = name.split_once('/')?;
        return Some(json!({"kind": kind, "name": name, "namespace": namespace}));
    }
    Some(json!({"apiGroup": GROUP, "kind": kind, "name": name}))
}

#[cfg(test)]
mod tests;
