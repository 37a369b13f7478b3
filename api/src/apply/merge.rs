//! Merging an applied configuration into the stored object, and taking fields out of one.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::set;
use super::walk::{self, Shape};
use crate::{Object, Schema};

/// The stored object with everything that the configuration states.
pub fn merge(schema: &Schema, live: &Object, config: &Object) -> Object {
    merge_maps(schema, Some(live), Some(config))
}

fn merge_values(schema: &Schema, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let keep = || right.or(left).cloned();
    let shape = match (left, right) {
        (Some(left), Some(right)) if walk::shape(schema, left) != walk::shape(schema, right) => return keep(),
        (one, other) => walk::shape(schema, one.or(other)?),
    };
    if shape == Shape::Leaf || (walk::is_hollow(left) && walk::is_hollow(right)) {
        return keep();
    }
    if shape == Shape::Map {
        let merged = merge_maps(schema, left.and_then(Value::as_object), right.and_then(Value::as_object));
        return (!merged.is_empty()).then_some(Value::Object(merged));
    }
    match merge_lists(schema, shape, left, right) {
        Some(items) => (!items.is_empty()).then_some(Value::Array(items)),
        None => keep(),
    }
}

fn merge_maps(schema: &Schema, left: Option<&Object>, right: Option<&Object>) -> Object {
    let mut out = Object::new();
    let added = right.into_iter().flatten().filter(|(name, _)| left.is_none_or(|left| !left.contains_key(*name)));
    let names = left.into_iter().flatten().chain(added).map(|(name, _)| name);
    for name in names {
        let of = |side: Option<&'_ Object>| side.and_then(|side| side.get(name)).cloned();
        let (old, new) = (left.and_then(|left| left.get(name)), right.and_then(|right| right.get(name)));
        let merged = if new.is_none() { of(left) } else { merge_values(walk::field(schema, name), old, new) };
        // Null is no value for the fields of built-in kinds.
        let unset = !schema.definition.is_empty() && new.is_some() && merged.as_ref().is_some_and(Value::is_null);
        if let Some(merged) = merged
            && !unset
        {
            out.insert(name.clone(), merged);
        }
    }
    out
}

/// The items of a list by key, and their keys in order; repeated ones have no item.
struct Index<'a> {
    keys: Vec<String>,
    items: HashMap<String, Option<&'a Value>>,
}

fn index<'a>(schema: &Schema, shape: Shape<'_>, list: Option<&'a Value>) -> Option<Index<'a>> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut index = Index { keys: Vec::with_capacity(list.len()), items: HashMap::with_capacity(list.len()) };
    for item in list {
        let key = walk::element(schema, shape, item).ok()?;
        index.items.entry(key.clone()).and_modify(|known| *known = None).or_insert(Some(item));
        index.keys.push(key);
    }
    Some(index)
}

/// Merges lists by items. Items of both lists come in the order of the configuration, and those that only the stored
/// object has stay where they are between them.
fn merge_lists(schema: &Schema, shape: Shape<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Vec<Value>> {
    let old = left.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (lhs, rhs) = (index(schema, shape, left)?, index(schema, shape, right)?);
    let mut shared = rhs.keys.iter().filter(|key| lhs.items.contains_key(*key));
    let mut next = shared.next();
    let mut out = Vec::with_capacity(old.len().max(rhs.keys.len()));
    let mut merged: HashSet<&str> = HashSet::new();
    let both = |key: &String| {
        let item = |index: &Index<'_>| index.items.get(key).copied().flatten().cloned();
        merge_values(walk::item(schema), item(&lhs).as_ref(), item(&rhs).as_ref())
    };
    let (mut l, mut r) = (0, 0);
    while l < lhs.keys.len() || r < rhs.keys.len() {
        let (here, there) = (lhs.keys.get(l), rhs.keys.get(r));
        if let (Some(here), Some(there)) = (here, there) {
            if here == there {
                merged.insert(here);
                out.extend(both(here));
                l += 1;
                r += 1;
                next = shared.next();
                continue;
            }
            if rhs.items.contains_key(here) && next.is_some_and(|next| next != here) {
                l += 1;
                continue;
            }
        }
        if let Some(here) = here {
            if !rhs.items.contains_key(here) {
                out.extend(old.get(l).cloned());
                l += 1;
                continue;
            }
            if merged.contains(here.as_str()) {
                l += 1;
            }
        }
        if let Some(there) = there {
            merged.insert(there);
            out.extend(both(there));
            r += 1;
            if next == Some(there) {
                next = shared.next();
            }
        }
    }
    Some(out)
}

/// An object without the members of a set.
pub fn remove(schema: &Schema, object: &Object, gone: &Object) -> Object {
    remove_fields(schema, object, gone).0
}

/// The fields that are left, and whether some of them were looked into.
fn remove_fields(schema: &Schema, object: &Object, gone: &Object) -> (Object, bool) {
    let mut left = Object::new();
    let mut looked_into = false;
    for (name, value) in object {
        let key = format!("f:{name}");
        if set::has(gone, &key) {
            continue;
        }
        let kept = match set::below(gone, &key) {
            Some(below) => {
                looked_into = true;
                remove_below(walk::field(schema, name), value, below)
            }
            None => value.clone(),
        };
        left.insert(name.clone(), kept);
    }
    (left, looked_into)
}

/// A value without the members of a set. A container stays even when it becomes empty.
fn remove_below(schema: &Schema, value: &Value, gone: &Object) -> Value {
    match (walk::shape(schema, value), value) {
        (Shape::Map, Value::Object(map)) => Value::Object(remove_fields(schema, map, gone).0),
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(list)) => {
            let mut left = Vec::with_capacity(list.len());
            for item in list {
                let key = walk::element(schema, shape, item).unwrap_or_default();
                if set::has(gone, &key) {
                    continue;
                }
                left.push(match set::below(gone, &key) {
                    Some(below) => remove_below(walk::item(schema), item, below),
                    None => item.clone(),
                });
            }
            Value::Array(left)
        }
        (Shape::Leaf, Value::Object(_)) => Value::Object(Object::new()),
        (Shape::Leaf, Value::Array(_)) => Value::Array(Vec::new()),
        _ => value.clone(),
    }
}

/// Leaves out the empty lists and maps that built-in kinds do not keep.
pub fn tidy(schema: &Schema, object: &mut Object) {
    object.retain(|name, value| {
        let schema = walk::field(schema, name);
        match value {
            Value::Object(map) => tidy(schema, map),
            Value::Array(items) => {
                let schema = walk::item(schema);
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|item| tidy(schema, item));
            }
            _ => return true,
        }
        !(schema.omit_empty && walk::is_hollow(Some(value)))
    });
}

/// The set of all fields that an object states.
pub fn fields(schema: &Schema, object: &Object) -> Object {
    let mut all = Object::new();
    for (name, value) in object {
        let (member, below) = fields_of(walk::field(schema, name), value);
        let hollow = value.is_null() || value.as_object().is_some_and(Object::is_empty);
        let named = schema.properties.contains_key(name);
        set::attach(&mut all, &format!("f:{name}"), member || hollow || !named, below);
    }
    all
}

/// Whether a value is owned as one, and the fields below it.
fn fields_of(schema: &Schema, value: &Value) -> (bool, Object) {
    match (walk::shape(schema, value), value) {
        (Shape::Leaf, _) => (true, Object::new()),
        (Shape::Map, Value::Object(map)) => (false, fields(schema, map)),
        (shape, Value::Array(list)) => {
            let mut all = Object::new();
            let keys: Vec<String> =
                list.iter().map(|item| walk::element(schema, shape, item).unwrap_or_default()).collect();
            let mut seen: HashMap<&str, usize> = HashMap::new();
            for key in &keys {
                *seen.entry(key).or_default() += 1;
            }
            for (item, key) in list.iter().zip(&keys) {
                let alone = seen.get(key.as_str()) == Some(&1);
                let below = if alone { fields_of(walk::item(schema), item).1 } else { Object::new() };
                set::attach(&mut all, key, true, below);
            }
            (false, all)
        }
        _ => (false, Object::new()),
    }
}
