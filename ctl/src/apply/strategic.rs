//! Three-way strategic merge patches, for built-in kinds: lists with a merge key are compared item by item,
//! deletions and
//! the order of items are said with directives.

use api::Schema;
use serde_json::{Map, Value, json};

/// Which half of a difference is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Changes,
    Deletions,
    Both,
}

/// The patch that makes `current` what `modified` says, and takes away what only `original` said.
pub(crate) fn three_way(original: Option<&Value>, modified: &Value, current: &Value, schema: &Schema) -> Value {
    let empty = Map::new();
    let map = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let modified = modified.as_object().unwrap_or(&empty);
    let changes = maps(&map(Some(current)), modified, Some(schema), Part::Changes, false);
    let mut patch = maps(&map(original), modified, Some(schema), Part::Deletions, false);
    merge(&mut patch, changes, Some(schema));
    Value::Object(patch)
}

/// The patch from one object to another.
pub(crate) fn two_way(from: &Value, to: &Value, schema: &Schema) -> Value {
    let empty = Map::new();
    let map = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    Value::Object(maps(&map(from), to.as_object().unwrap_or(&empty), Some(schema), Part::Both, false))
}

fn field<'a>(schema: Option<&'a Schema>, key: &str) -> Option<&'a Schema> {
    schema.and_then(|schema| schema.field(key)).map(AsRef::as_ref)
}

fn is_same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

type Members = Map<String, Value>;

fn maps(from: &Members, to: &Members, schema: Option<&Schema>, part: Part, retain_keys: bool) -> Members {
    let mut patch = Map::new();
    for (key, value) in to {
        let sub = field(schema, key);
        match from.get(key) {
            Some(old) if is_same_type(old, value) => member(&mut patch, key, old, value, sub, part),
            _ if part != Part::Deletions => {
                patch.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    if part != Part::Changes {
        for key in from.keys().filter(|key| !to.contains_key(*key)) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    let has_new = || to.keys().any(|key| !from.contains_key(key)) || from.keys().any(|key| !to.contains_key(key));
    if retain_keys && !to.is_empty() && (!patch.is_empty() || has_new()) {
        let kept: Vec<_> = to.iter().filter(|(_, v)| !v.is_null()).map(|(key, _)| Value::from(key.as_str())).collect();
        patch.insert("$retainKeys".to_owned(), kept.into());
    }
    patch
}

/// A member that is on both sides, with the same type.
fn member(patch: &mut Members, key: &str, old: &Value, new: &Value, schema: Option<&Schema>, part: Part) {
    let strategy = schema.map(|schema| schema.patch_strategy).unwrap_or_default();
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let inner = maps(old, new, schema, part, strategy.retain_keys);
            if !inner.is_empty() {
                patch.insert(key.to_owned(), inner.into());
            }
        }
        (Value::Array(old), Value::Array(new)) if strategy.merge => {
            let lists = Lists::of(old, new, schema, part, strategy.retain_keys);
            for (prefix, list) in
                [("", lists.patch), ("$deleteFromPrimitiveList/", lists.deleted), ("$setElementOrder/", lists.order)]
            {
                if !list.is_empty() {
                    patch.insert(format!("{prefix}{key}"), list.into());
                }
            }
        }
        (old, new) if part != Part::Deletions && old != new => {
            patch.insert(key.to_owned(), new.clone());
        }
        _ => {}
    }
}

/// What a difference of two lists says.
#[derive(Default)]
struct Lists {
    patch: Vec<Value>,
    deleted: Vec<Value>,
    order: Vec<Value>,
}

impl Lists {
    fn of(old: &[Value], new: &[Value], schema: Option<&Schema>, part: Part, retain_keys: bool) -> Self {
        let mut lists = Self::default();
        if old.is_empty() {
            if part != Part::Deletions {
                lists.patch = new.to_vec();
            }
            return lists;
        }
        let key = schema.map(|schema| schema.patch_merge_key.as_ref()).unwrap_or_default();
        if key.is_empty() {
            lists.scalars(old, new, part)
        } else {
            lists.items(old, new, key, schema, part, retain_keys)
        }
        lists
    }

    fn scalars(&mut self, old: &[Value], new: &[Value], part: Part) {
        if part != Part::Deletions {
            self.patch = new.iter().filter(|item| !old.contains(item)).cloned().collect();
        }
        if part != Part::Changes {
            self.deleted = old.iter().filter(|item| !new.contains(item)).cloned().collect();
        }
        if !self.deleted.is_empty() || (part != Part::Deletions && old != new) {
            self.order = new.to_vec();
        }
    }

    fn items(&mut self, old: &[Value], new: &[Value], key: &str, schema: Option<&Schema>, part: Part, retain: bool) {
        let item_schema = schema.and_then(|schema| schema.items.as_deref());
        let with = |list: &[Value], id: &Value| list.iter().find(|item| item.get(key) == Some(id)).cloned();
        let ids = |list: &[Value]| list.iter().map(|item| item.get(key).cloned()).collect::<Vec<_>>();
        for item in new {
            let id = item.get(key).cloned().unwrap_or_default();
            match (with(old, &id), item) {
                (Some(Value::Object(before)), Value::Object(after)) => {
                    let mut change = maps(&before, after, item_schema, part, retain);
                    if !change.is_empty() {
                        change.insert(key.to_owned(), id);
                        self.patch.push(change.into());
                    }
                }
                (None, item) if part != Part::Deletions => self.patch.push(item.clone()),
                _ => {}
            }
        }
        if part != Part::Changes {
            for item in old {
                let id = item.get(key).cloned().unwrap_or_default();
                if with(new, &id).is_none() {
                    self.patch.push(json!({key: id, "$patch": "delete"}));
                }
            }
        }
        let differs = !self.patch.is_empty() || (part != Part::Deletions && ids(old) != ids(new));
        if differs {
            self.order = new.iter().map(|item| json!({key: item.get(key)})).collect();
        }
    }
}

/// Puts one patch into another; what the second says counts.
fn merge(into: &mut Members, from: Members, schema: Option<&Schema>) {
    for (key, value) in from {
        let sub = field(schema, &key);
        match (into.get_mut(&key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from, sub),
            (Some(Value::Array(into)), Value::Array(from)) if !key.starts_with('$') => merge_items(into, from, sub),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Items with the same key become one; those that are deleted stand last.
fn merge_items(into: &mut Vec<Value>, from: Vec<Value>, schema: Option<&Schema>) {
    let key = schema.map(|schema| schema.patch_merge_key.as_ref()).unwrap_or_default();
    let is_merged = schema.is_some_and(|schema| schema.patch_strategy.merge) && !key.is_empty();
    if !is_merged {
        *into = from;
        return;
    }
    let item_schema = schema.and_then(|schema| schema.items.as_deref());
    let mut deletions = std::mem::take(into);
    for item in from {
        let same = deletions.iter().position(|other| other.get(key) == item.get(key));
        match (same.map(|at| deletions.remove(at)), item) {
            (Some(Value::Object(mut one)), Value::Object(other)) => {
                merge(&mut one, other, item_schema);
                into.push(one.into());
            }
            (_, item) => into.push(item),
        }
    }
    into.append(&mut deletions);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn schema() -> std::sync::Arc<Schema> {
        api::builtin::schema_of_kind(&api::Gvk::new("apps", "v1", "Deployment")).unwrap()
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": list}}}})
    }

    #[test]
    fn items_are_told_apart_by_their_key() {
        let original = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        let modified = containers(json!([{"name": "a", "image": "2"}]));
        let current = containers(json!([
            {"name": "a", "image": "1", "imagePullPolicy": "Always"},
            {"name": "b", "image": "1", "imagePullPolicy": "Always"},
        ]));
        let expected = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}],
        }}}});
        assert_eq!(three_way(Some(&original), &modified, &current, &schema()), expected);
    }

    #[test]
    fn what_is_as_wanted_makes_no_patch() {
        let wanted = containers(json!([{"name": "a", "image": "1"}]));
        let current = containers(json!([{"name": "a", "image": "1", "imagePullPolicy": "Always"}]));
        assert_eq!(three_way(Some(&wanted), &wanted, &current, &schema()), json!({}));
    }

    #[test]
    fn other_kinds_of_strategy_keep_their_own_members_only() {
        let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let modified = json!({"spec": {"strategy": {"type": "Recreate"}}});
        let patch = three_way(Some(&original), &modified, &original, &schema());
        let expected = json!({"spec": {"strategy": {
            "$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null,
        }}});
        assert_eq!(patch, expected);
    }

    #[test]
    fn applied_patches_lead_where_they_should() {
        let schema = schema();
        let original = json!({"metadata": {"finalizers": ["x", "y"], "labels": {"a": "1", "b": "1"}}});
        let modified = json!({"metadata": {"finalizers": ["y", "z"], "labels": {"a": "2"}}});
        let current = json!({"metadata": {"finalizers": ["x", "y", "s"], "labels": {"a": "1", "b": "1", "s": "1"}}});
        let patch = three_way(Some(&original), &modified, &current, &schema);
        let result = api::patch::strategic::apply(current, &patch, &schema).unwrap();
        assert_eq!(result, json!({"metadata": {"finalizers": ["y", "z", "s"], "labels": {"a": "2", "s": "1"}}}));
    }
}
