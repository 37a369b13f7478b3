//! Sets of field paths, kept in the very form in which `managedFields` states them (FieldsV1).
//!
//! A set is a JSON object whose keys are path elements (`f:name`, `k:{"name":"c"}`, `v:"x"`, `i:0`) and whose values
//! are the sets below them; `.` marks an element that is a member itself besides having members below. An element with
//! nothing below is a member.

use serde_json::Value;
use serde_json::map::Entry;

use crate::{Object, Schema};

/// The mark of an element that is a member and has members below.
const SELF: &str = ".";

/// Whether the element of a node is a member itself.
fn is_member(node: &Object) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// The node of an element, `None` when it is no member and nothing below it is.
fn node(member: bool, mut below: Object) -> Option<Object> {
    if below.is_empty() {
        return member.then_some(below);
    }
    if member {
        below.insert(SELF.to_owned(), Value::Object(Object::new()));
    }
    Some(below)
}

/// The elements of a set with their nodes.
pub fn children(set: &Object) -> impl Iterator<Item = (&String, &Object)> {
    set.iter().filter(|(key, _)| key.as_str() != SELF).filter_map(|(key, node)| Some((key, node.as_object()?)))
}

/// Whether a set has no members.
pub fn is_empty(set: &Object) -> bool {
    set.is_empty() || (set.len() == 1 && set.contains_key(SELF))
}

/// Puts a node under an element: what is below it, and whether it is a member itself.
pub fn attach(set: &mut Object, key: &str, member: bool, below: Object) {
    if let Some(added) = node(member, below) {
        attach_node(set, key, added);
    }
}

/// The node of an element that is a member, with what is below it.
pub fn member(below: Object) -> Object {
    node(true, below).unwrap_or_default()
}

/// Puts a node under an element, or joins it with the one that is there.
pub fn attach_node(set: &mut Object, key: &str, added: Object) {
    match set.entry(key) {
        Entry::Vacant(place) => drop(place.insert(Value::Object(added))),
        Entry::Occupied(mut place) => match place.get_mut() {
            Value::Object(known) => *known = join(std::mem::take(known), added),
            other => *other = Value::Object(added),
        },
    }
}

/// Two nodes of the same element in one.
fn join(mut known: Object, mut added: Object) -> Object {
    let member = is_member(&known) || is_member(&added);
    known.remove(SELF);
    added.remove(SELF);
    union(&mut known, added);
    node(member, known).unwrap_or_default()
}

/// Adds all members of another set.
pub fn union(set: &mut Object, other: Object) {
    if set.is_empty() {
        *set = other;
        return;
    }
    for (key, value) in other {
        let Value::Object(added) = value else { continue };
        if key == SELF {
            continue;
        }
        match set.get_mut(&key) {
            Some(Value::Object(known)) => *known = join(std::mem::take(known), added),
            _ => {
                set.insert(key, Value::Object(added));
            }
        }
    }
}

/// Takes the members of another set out.
pub fn subtract(set: &mut Object, other: &Object) {
    for (key, gone) in children(other) {
        let Some(Value::Object(known)) = set.get_mut(key) else { continue };
        let member = is_member(known) && !is_member(gone);
        known.remove(SELF);
        subtract(known, gone);
        keep(set, key, member);
    }
}

/// Takes the members of another set out, and everything below them.
pub fn subtract_below(set: &mut Object, other: &Object) {
    for (key, gone) in children(other) {
        if is_member(gone) {
            set.remove(key);
            continue;
        }
        let Some(Value::Object(known)) = set.get_mut(key) else { continue };
        let member = is_member(known);
        known.remove(SELF);
        subtract_below(known, gone);
        keep(set, key, member);
    }
}

/// Brings a node whose members below were changed back in form.
fn keep(set: &mut Object, key: &str, member: bool) {
    if let Some(Value::Object(below)) = set.remove(key)
        && let Some(node) = node(member, below)
    {
        set.insert(key.to_owned(), Value::Object(node));
    }
}

/// The members that both sets have.
pub fn intersection(left: &Object, right: &Object) -> Object {
    let mut both = Object::new();
    for (key, mine) in children(left) {
        if let Some(Value::Object(yours)) = right.get(key) {
            attach(&mut both, key, is_member(mine) && is_member(yours), intersection(mine, yours));
        }
    }
    both
}

/// The members of `left` that `right` does not have.
pub fn difference(left: &Object, right: &Object) -> Object {
    let mut rest = left.clone();
    subtract(&mut rest, right);
    rest
}

/// Whether an element of a set's first level is a member.
pub fn has(set: &Object, key: &str) -> bool {
    below(set, key).is_some_and(is_member)
}

/// The node under an element.
pub fn below<'a>(set: &'a Object, key: &str) -> Option<&'a Object> {
    set.get(key).and_then(Value::as_object)
}

/// Whether a node has members below its own element.
pub fn has_below(node: &Object) -> bool {
    children(node).next().is_some()
}

/// The members as upstream writes paths (`.spec.containers[name="c"].image`), those of a level before those below.
pub fn paths(set: &Object) -> Vec<String> {
    let mut paths = Vec::new();
    list(set, "", &mut paths);
    paths
}

fn list(set: &Object, prefix: &str, paths: &mut Vec<String>) {
    for (key, _) in children(set).filter(|(_, node)| is_member(node)) {
        paths.push(format!("{prefix}{}", element_text(key)));
    }
    for (key, node) in children(set).filter(|(_, node)| has_below(node)) {
        list(node, &format!("{prefix}{}", element_text(key)), paths);
    }
}

/// A path element in the form that messages have it in.
pub fn element_text(key: &str) -> String {
    match key.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("i:", index)) => format!("[{index}]"),
        Some(("k:", fields)) => {
            let fields: Object = serde_json::from_str(fields).unwrap_or_default();
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", fields.join(","))
        }
        _ => key.to_owned(),
    }
}

/// Whether a JSON value is a set: objects all through, under elements of a known form.
pub fn is_valid(set: &Object) -> bool {
    set.iter().all(|(key, value)| {
        let known = key == SELF || matches!(key.as_bytes(), [b'f' | b'k' | b'v' | b'i', b':', ..]);
        known && value.as_object().is_some_and(is_valid)
    })
}

/// Makes the elements that are known fields of an object members wherever something below them is.
pub fn with_named_fields(set: &Object, schema: &Schema) -> Object {
    let mut all = Object::new();
    for (key, node) in children(set) {
        let name = key.strip_prefix("f:");
        let known = name.is_some_and(|name| schema.properties.contains_key(name));
        let under = match name {
            Some(name) => super::walk::field(schema, name),
            None => super::walk::item(schema),
        };
        attach(&mut all, key, known || is_member(node), with_named_fields(node, under));
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn operations_keep_membership_apart_from_what_is_below() {
        let a = set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}, "f:c": {"f:z": {}}}));
        let cases = [
            (
                json!({"f:a": {}}),
                json!({"f:a": {"f:x": {}, "f:y": {}}, "f:b": {}, "f:c": {"f:z": {}}}),
                json!({"f:a": {}}),
            ),
            (
                json!({"f:a": {"f:x": {}, "f:y": {}}}),
                json!({"f:a": {}, "f:b": {}, "f:c": {"f:z": {}}}),
                json!({"f:a": {"f:x": {}, "f:y": {}}}),
            ),
            (json!({"f:c": {}}), json!(a), json!({})),
            (
                json!({"f:c": {"f:z": {}}, "f:b": {"f:q": {}}}),
                json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}}),
                json!({"f:c": {"f:z": {}}}),
            ),
        ];
        for (other, rest, both) in cases {
            let other = set(other);
            assert_eq!(Value::Object(difference(&a, &other)), rest);
            assert_eq!(Value::Object(intersection(&a, &other)), both);
            let mut sum = difference(&a, &other);
            union(&mut sum, both.as_object().cloned().unwrap());
            assert_eq!(sum, a);
        }
        let mut cut = a.clone();
        subtract_below(&mut cut, &set(json!({"f:a": {}, "f:c": {"f:q": {}}})));
        assert_eq!(Value::Object(cut), json!({"f:b": {}, "f:c": {"f:z": {}}}));
    }

    #[test]
    fn paths_are_written_as_upstream_writes_them() {
        let set = set(json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            "f:replicas": {}}, "f:metadata": {"f:finalizers": {"v:\"a/b\"": {}}}}));
        assert_eq!(
            paths(&set),
            [
                ".metadata.finalizers[=\"a/b\"]",
                ".spec.replicas",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port"
            ]
        );
        assert!(is_valid(&set));
        assert!(!is_valid(&self::set(json!({"x": {}}))));
    }
}
