//! Merging and ordering of lists in a strategic merge patch.

use serde_json::Value;

use super::{PATCH, go_value, list_of_lists, merge_map, no_merge_key, unknown_directive, without_directives};
use crate::Object;
use crate::schema::Schema;
use crate::status::Status;

/// A list with a patch applied: merged if the schema says so, replaced otherwise.
pub(super) fn merge(original: Vec<Value>, patch: &[Value], schema: Option<&Schema>) -> Result<Vec<Value>, Status> {
    let Some(schema) = schema.filter(|schema| schema.patch_strategy.merge) else {
        return Ok(patch.to_vec());
    };
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let key = schema.patch_merge_key.as_ref();
    let before = original.clone();
    if !check_items(&original, patch)? {
        let mut merged = original;
        merged.extend(patch.iter().cloned());
        return in_order(distinct(merged), patch, &before, "");
    }
    if key.is_empty() {
        return Err(Status::unexpected(format!("cannot merge lists without merge key for {}", schema.definition)));
    }
    let (mut merged, items, replaced) = special_items(original, patch, key)?;
    if replaced {
        let order = items.iter().map(|item| Value::Object((*item).clone())).collect::<Vec<_>>();
        return in_order(order.clone(), &[], &order, key);
    }
    let item_schema = schema.items.as_deref();
    for item in &items {
        let value = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        match merged.iter_mut().find(|old| old.get(key) == Some(value)) {
            Some(slot) => {
                let old = slot.as_object_mut().map(std::mem::take).unwrap_or_default();
                *slot = Value::Object(merge_map(old, item, item_schema)?);
            }
            None => merged.extend(without_directives(&Value::Object((*item).clone()))),
        }
    }
    let order: Vec<Value> = items.iter().map(|item| Value::Object((*item).clone())).collect();
    in_order(merged, &order, &before, key)
}

/// Whether the items are objects; they must all be alike.
fn check_items(original: &[Value], patch: &[Value]) -> Result<bool, Status> {
    let mut items = original.iter().chain(patch);
    let Some(first) = items.next() else { return Ok(false) };
    if first.is_array() {
        return Err(list_of_lists());
    }
    let objects = first.is_object();
    if items.any(|item| item.is_object() != objects || item.is_array()) {
        let (original, patch) = (Value::from(original), Value::from(patch));
        let shown = format!("[{} {}]", go_value(&original), go_value(&patch));
        return Err(Status::unexpected(format!("list element types are not identical: {shown}")));
    }
    Ok(objects)
}

/// Each scalar once, in the order of its first place.
fn distinct(items: Vec<Value>) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// What is left of the original after the patch's deletions, the patch's ordinary items, and whether they replace all.
type Special<'p> = (Vec<Value>, Vec<&'p Object>, bool);

fn special_items<'p>(mut original: Vec<Value>, patch: &'p [Value], key: &str) -> Result<Special<'p>, Status> {
    let (mut items, mut replaced) = (Vec::new(), false);
    for item in patch.iter().filter_map(Value::as_object) {
        match item.get(PATCH) {
            None => items.push(item),
            Some(directive) if directive == "delete" => {
                let value = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
                original.retain(|old| old.get(key) != Some(value));
            }
            Some(directive) if directive == "replace" => replaced = true,
            Some(directive) if directive == "merge" => {
                return Err(Status::unexpected("merging lists cannot yet be specified in the patch"));
            }
            Some(directive) => return Err(unknown_directive(directive, item)),
        }
    }
    Ok((original, items, replaced))
}

/// What tells items apart: the merge key's value, or the scalar itself.
fn identity<'v>(item: &'v Value, key: &str) -> Option<&'v Value> {
    if key.is_empty() { Some(item) } else { item.get(key) }
}

fn position(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    let wanted = identity(item, key);
    list.iter().position(|other| identity(other, key) == wanted)
}

/// Items that `order` names stand in its order; the others keep the order that they had before; where both meet, an
/// other
/// comes first only if it stood before the named one.
pub(super) fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Result<Vec<Value>, Status> {
    if !key.is_empty()
        && let Some(item) = merged.iter().filter_map(Value::as_object).find(|item| !item.contains_key(key))
    {
        return Err(no_merge_key(item, key));
    }
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item, key).is_some());
    named.sort_by_key(|item| position(order, item, key));
    others.sort_by_key(|item| position(before, item, key));
    let mut sorted = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(name), Some(other)) = (named.peek(), others.peek()) {
        let places = (position(before, other, key), position(before, name, key));
        let other_first = matches!(places, (Some(other), Some(name)) if other < name);
        sorted.extend(if other_first { others.next() } else { named.next() });
    }
    sorted.extend(others);
    sorted.extend(named);
    Ok(sorted)
}

/// The patch's items must stand in the order that it asks for.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), Status> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = patch.iter().filter(|item| item.get(PATCH).is_none()).peekable();
    for place in order {
        let Some(item) = wanted.peek() else { return Ok(()) };
        for side in [*item, place] {
            if let (false, Some(map)) = (key.is_empty(), side.as_object())
                && !map.contains_key(key)
            {
                return Err(no_merge_key(map, key));
            }
        }
        if identity(item, key) == identity(place, key) {
            wanted.next();
        }
    }
    if wanted.peek().is_none() {
        return Ok(());
    }
    let (patch, order) = (go_value(&Value::from(patch)), go_value(&Value::from(order)));
    Err(Status::unexpected(format!(
        "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
    )))
}
