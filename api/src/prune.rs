//! Removal of what a schema does not know (structural schemas, KEP-1152 "pruning").

use serde_json::Value;

use crate::Object;
use crate::schema::Schema;

/// Removes unknown fields everywhere in an object; gives their paths, in upstream's notation.
pub fn prune(object: &mut Object, schema: &Schema) -> Vec<String> {
    let mut removed = Vec::new();
    let mut path = String::new();
    prune_object(object, schema, &mut path, &mut removed);
    removed
}

fn prune_object(object: &mut Object, schema: &Schema, path: &mut String, removed: &mut Vec<String>) {
    let length = path.len();
    object.retain(|name, value| {
        if length > 0 {
            path.push('.');
        }
        path.push_str(name);
        let keep = match schema.field(name) {
            Some(field) => {
                prune_value(value, field, path, removed);
                true
            }
            None => schema.preserve_unknown || is_type_meta(schema, name, length),
        };
        if !keep {
            removed.push(path.clone());
        }
        path.truncate(length);
        keep
    });
}

/// `apiVersion`, `kind` and `metadata` of a whole object need not be in its schema.
fn is_type_meta(schema: &Schema, name: &str, depth: usize) -> bool {
    (schema.embedded || depth == 0) && matches!(name, "apiVersion" | "kind" | "metadata")
}

fn prune_value(value: &mut Value, schema: &Schema, path: &mut String, removed: &mut Vec<String>) {
    match value {
        Value::Object(object) => prune_object(object, schema, path, removed),
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            let length = path.len();
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                prune_value(item, schema, path, removed);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::builtin;

    #[test]
    fn unknown_fields_go_and_are_named() {
        let schema = builtin::schema("io.k8s.api.core.v1.Pod").unwrap();
        let mut pod = json!({"kind": "Pod", "x": 1, "spec": {"containers": [{"name": "a", "y": {}}]}});
        let Value::Object(object) = &mut pod else { panic!() };
        let removed = prune(object, &schema);
        assert_eq!(removed, ["spec.containers[0].y", "x"]);
        assert_eq!(pod, json!({"kind": "Pod", "spec": {"containers": [{"name": "a"}]}}));
    }
}
