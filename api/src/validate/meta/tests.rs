//! Tests of metadata validation.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn object(metadata: Value) -> Object {
    json!({"metadata": metadata}).as_object().unwrap().clone()
}

fn created(metadata: Value, namespaced: bool, rule: NameRule) -> Vec<String> {
    let mut errors = Vec::new();
    create(&object(metadata), namespaced, rule, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn updated(new: Value, old: Value) -> Vec<String> {
    let (mut new, old) = (object(new), object(old));
    before_update(&mut new, &old);
    let mut errors = Vec::new();
    update(&new, &old, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn names_and_namespaces() {
    let none: [&str; 0] = [];
    assert_eq!(created(json!({"name": "a.b", "namespace": "d"}), true, NameRule::Subdomain), none);
    assert_eq!(created(json!({"name": "system:x", "generateName": "a-"}), false, NameRule::PathSegment), none);
    assert_eq!(
        created(json!({"name": "abc", "generateName": "ab-"}), false, NameRule::Label),
        none,
        "a trailing dash is no fault in a prefix"
    );
    assert_eq!(
        created(json!({}), true, NameRule::Subdomain),
        ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"]
    );
    assert_eq!(
        created(json!({"name": "a", "namespace": "x"}), false, NameRule::Subdomain),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
    assert_eq!(
        created(json!({"name": "A_", "namespace": "d"}), true, NameRule::Subdomain),
        [
            "metadata.name: Invalid value: \"A_\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
          characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
          for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
}

#[test]
fn labels_owners_and_finalizers() {
    let owner =
        |kind: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": "a", "uid": "u", "controller": true});
    let errors = created(
        json!({"name": "a", "ownerReferences": [owner("A"), owner("B"), {"apiVersion": "v1", "kind": "Event"}],
               "finalizers": ["orphan", "foregroundDeletion"], "labels": {"a": "-"}}),
        false,
        NameRule::Subdomain,
    );
    assert_eq!(errors.len(), 6, "{errors:#?}");
    assert!(errors[0].starts_with("metadata.labels: Invalid value: \"-\": a valid label must be"), "{}", errors[0]);
    assert!(errors[1].ends_with("Found \"true\" in references for A/a and B/a"), "{}", errors[1]);
    assert_eq!(errors[2], "metadata.ownerReferences.name: Invalid value: \"\": must not be empty");
    assert!(errors[4].ends_with(": /v1, Kind=Event is disallowed from being an owner"), "{}", errors[4]);
    assert_eq!(
        errors[5],
        "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
         foregroundDeletion cannot be both set"
    );
    let large = created(json!({"name": "a", "annotations": {"a": "x".repeat(256 * 1024)}}), false, NameRule::Subdomain);
    assert_eq!(large, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

#[test]
fn updates_keep_what_is_immutable() {
    let old = json!({"name": "a", "uid": "u", "resourceVersion": "1", "generation": 3,
                     "creationTimestamp": "2024-01-01T00:00:00Z"});
    let none: [&str; 0] = [];
    assert_eq!(updated(json!({"name": "a", "resourceVersion": "1", "generation": 9}), old.clone()), none);
    assert_eq!(
        updated(json!({"name": "b", "uid": "v"}), old.clone()),
        [
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.name: Invalid value: \"b\": field is immutable",
            "metadata.uid: Invalid value: \"v\": field is immutable"
        ]
    );
    let terminating = json!({"name": "a", "uid": "u", "deletionTimestamp": "2024-01-01T00:00:00Z"});
    let errors = updated(json!({"name": "a", "resourceVersion": "1", "finalizers": ["x/y"]}), terminating);
    assert_eq!(
        errors,
        ["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
          finalizers []string{\"x/y\"}"]
    );
}
