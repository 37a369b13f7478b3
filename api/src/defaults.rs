//! Static defaults of a schema: set where the parent exists and the field does not. Defaults computed from other fields
//! are hooks of the kind.

use serde_json::Value;

use crate::Object;
use crate::schema::Schema;

/// Sets the defaults of an object and of everything in it.
pub fn apply(object: &mut Object, schema: &Schema) {
    for (name, default) in schema.properties.defaults() {
        if object.get(name).is_none_or(Value::is_null) {
            object.insert(name.to_owned(), default.clone());
        }
    }
    if schema.properties.is_empty() && schema.additional.is_none() {
        return;
    }
    for (name, value) in object {
        if let Some(field) = schema.field(name) {
            apply_to_value(value, field);
        }
    }
}

fn apply_to_value(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(object) => apply(object, schema),
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for item in items {
                apply_to_value(item, schema);
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
    fn defaults_are_set_only_where_the_parent_exists() {
        let schema = builtin::schema("io.k8s.api.core.v1.Pod").unwrap();
        let mut pod = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}]}]}});
        let Value::Object(object) = &mut pod else { panic!() };
        apply(object, &schema);
        let container = json!({"name": "a", "ports": [{"containerPort": 1, "protocol": "TCP"}], "resources": {}});
        assert_eq!(pod, json!({"metadata": {}, "spec": {"containers": [container]}, "status": {}}));
    }

    #[test]
    fn a_default_object_gets_its_own_defaults() {
        let schema = builtin::schema("io.k8s.api.core.v1.Service").unwrap();
        let mut service = Object::new();
        apply(&mut service, &schema);
        assert_eq!(Value::Object(service), json!({"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}));
    }
}
