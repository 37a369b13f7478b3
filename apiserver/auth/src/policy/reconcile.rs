//! At each start the default policy is put in order: what is missing is added, what people added stays (upstream's
//! auto-reconciliation).

use api::{Object, object};
use serde_json::Value;

use super::AUTOUPDATE;
use crate::rbac::Rule;
use crate::rbac::index::read_rules;
use crate::rbac::rule::uncovered;

/// What to do about one object of the default policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Nothing,
    Create(Object),
    /// Write this over the existing object, whose metadata it keeps.
    Update(Object),
    /// Delete the existing object and create this: it refers to another role, which cannot be changed.
    Recreate(Object),
}

/// Compares an object of [`super::bootstrap_objects`] with the one that exists.
pub fn plan(expected: &Object, existing: Option<&Object>) -> Action {
    let Some(existing) = existing else { return Action::Create(expected.clone()) };
    if object::str_at(existing, &["metadata", "annotations", AUTOUPDATE]) == "false" {
        return Action::Nothing;
    }
    let mut wanted = existing.clone();
    for key in ["labels", "annotations"] {
        add_missing(&mut wanted, expected, key);
    }
    if expected.contains_key("roleRef") {
        if existing.get("roleRef") != expected.get("roleRef") {
            return Action::Recreate(expected.clone());
        }
        add_items(&mut wanted, "subjects", items(expected.get("subjects")));
    } else {
        merge_rules(&mut wanted, expected);
    }
    if wanted == *existing { Action::Nothing } else { Action::Update(wanted) }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Adds the expected labels or annotations that are not set to anything.
fn add_missing(wanted: &mut Object, expected: &Object, key: &str) {
    let Some(expected) = object::metadata(expected).and_then(|m| m.get(key)).and_then(Value::as_object) else { return };
    let found = object::child_mut(object::metadata_mut(wanted), key);
    for (name, value) in expected {
        if !found.contains_key(name) {
            found.insert(name.clone(), value.clone());
        }
    }
}

/// Adds the items that are not in the list.
fn add_items(target: &mut Object, key: &str, expected: &[Value]) {
    let missing: Vec<Value> = {
        let found = items(target.get(key));
        expected.iter().filter(|item| !found.contains(item)).cloned().collect()
    };
    if missing.is_empty() {
        return;
    }
    match target.get_mut(key) {
        Some(Value::Array(found)) => found.extend(missing),
        _ => drop(target.insert(key.to_owned(), missing.into())),
    }
}

fn merge_rules(wanted: &mut Object, expected: &Object) {
    let selectors = object::at(expected, &["aggregationRule", "clusterRoleSelectors"]);
    if selectors.is_some() {
        // Its rules are the aggregation controller's.
        add_items(object::child_mut(wanted, "aggregationRule"), "clusterRoleSelectors", items(selectors));
        return;
    }
    let held = read_rules(wanted);
    let missing = uncovered(&held.iter().collect::<Vec<&Rule>>(), &read_rules(expected));
    let missing: Vec<Value> = missing.iter().filter_map(|rule| serde_json::to_value(rule).ok()).collect();
    add_items(wanted, "rules", &missing);
}
