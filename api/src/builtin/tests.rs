//! The generated data holds together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::meta::Gvr;
use crate::schema::{ListType, Type};

#[test]
fn every_definition_parses_and_is_found_by_name() {
    // 771 published ones, and metrics.k8s.io.
    assert_eq!(definitions().len(), 776);
    for d in definitions() {
        let schema = schema(d.name()).unwrap();
        assert_eq!(schema.definition, d.name());
        for (name, field) in schema.properties.iter() {
            assert_eq!(schema.field(name).unwrap().ty, field.ty);
        }
    }
}

#[test]
fn a_pod_has_its_lists_keys_and_defaults() {
    let pod = schema("io.k8s.api.core.v1.Pod").unwrap();
    let spec = pod.field("spec").unwrap();
    let containers = spec.field("containers").unwrap();
    assert_eq!(containers.patch_merge_key, "name");
    assert!(containers.patch_strategy.merge);
    assert_eq!(containers.list_type, ListType::Map(vec!["name".into()]));
    let ports = containers.items.as_ref().unwrap().field("ports").unwrap();
    assert_eq!(ports.items.as_ref().unwrap().field("protocol").unwrap().default, Some("TCP".into()));
    assert_eq!(spec.field("nodeSelector").unwrap().additional.as_ref().unwrap().ty, Type::String);
    assert!(spec.field("nodeSelector").unwrap().atomic_map);
    assert_eq!(spec.required, ["containers"]);
}

#[test]
fn definitions_may_refer_to_themselves() {
    let props = schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let inner = props.field("properties").unwrap().additional.as_ref().unwrap();
    assert_eq!(inner.field("not").unwrap().definition, props.definition);
    assert!(format!("{props:?}").len() < 10_000);
}

#[test]
fn rows_carry_scope_names_and_storage() {
    let table = table();
    // 95 published ones, and metrics.k8s.io.
    assert_eq!(table.rows().count(), 97);
    let nodes = table.get(&Gvr::new("", "v1", "nodes")).unwrap();
    assert_eq!((nodes.storage_prefix.as_str(), nodes.namespaced), ("minions", false));
    let deployments = table.by_kind(&Gvk::new("apps", "v1", "Deployment")).unwrap();
    assert_eq!(deployments.short_names, ["deploy"]);
    assert_eq!(deployments.subresource("scale").unwrap().kind, Some(Gvk::new("autoscaling", "v1", "Scale")));
    let events = table.get(&Gvr::new("events.k8s.io", "v1", "events")).unwrap();
    assert_eq!((events.storage_group.as_str(), events.storage_version.as_str()), ("", "v1"));
    assert!(table.rows().all(|row| !row.schema.properties.is_empty()));
}

#[test]
fn kinds_that_are_no_resource_have_schemas() {
    for gvk in [
        ("autoscaling", "v1", "Scale"),
        ("", "v1", "Binding"),
        ("policy", "v1", "Eviction"),
        ("", "v1", "DeleteOptions"),
    ] {
        assert!(schema_of_kind(&Gvk::new(gvk.0, gvk.1, gvk.2)).is_some(), "{gvk:?}");
    }
}

#[test]
fn selectable_fields_have_values() {
    for row in table().rows() {
        let values = row.selectable_values(&crate::Object::new());
        assert_eq!(values.len(), row.selectable.len(), "{}", row.gvk());
    }
}
