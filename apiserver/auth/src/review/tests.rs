//! Reviews answer as upstream's do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use super::*;
use crate::authorize::{Chain, Masters};
use crate::node::NodeAuthorizer;
use crate::objects::Change;
use crate::policy::bootstrap_objects;
use crate::testing::{Cluster, object as parsed};

fn rbac() -> Rbac {
    let rbac = Rbac::default();
    for object in bootstrap_objects() {
        let resource = format!("{}s", object::str_at(&object, &["kind"]).to_lowercase());
        let gvr = api::Gvr::new("rbac.authorization.k8s.io", "v1", &resource);
        let (namespace, name) = (object::namespace(&object), object::name(&object));
        rbac.changed(&Change { gvr: &gvr, namespace, name, object: Some(&object) });
    }
    rbac
}

fn chain() -> Chain {
    Chain::new(vec![Arc::new(Masters), Arc::new(NodeAuthorizer::default()), Arc::new(rbac())])
}

fn status(spec: Value) -> Result<Value, String> {
    let review = parsed(json!({"spec": spec, "metadata": {"managedFields": [1]}}));
    subject_access_review(review, &chain(), &Cluster::default()).map(|r| r["status"].clone()).map_err(|e| e.message)
}

#[test]
fn access_reviews_decide_and_say_why() {
    let because = "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to \
    Group \"system:authenticated\"";
    let not_related = "no relationship found between node 'n' and this object";
    let table = [
        (
            json!({"user": "x", "groups": ["g"], "resourceAttributes": {"verb": "get", "resource": "pods"}}),
            json!({"allowed": false}),
        ),
        (
            json!({"user": "x", "groups": ["system:masters"], "nonResourceAttributes": {"verb": "get", "path": "/x"}}),
            json!({"allowed": true}),
        ),
        (
            json!({"groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/api"}}),
            json!({"allowed": true, "reason": because}),
        ),
        (
            json!({"user": "system:node:n", "groups": ["system:nodes"],
                "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": "a", "name": "b"}}),
            json!({"allowed": false, "reason": not_related}),
        ),
        (
            json!({"user": "system:node:n", "groups": ["system:nodes"], "resourceAttributes": {
                "verb": "list", "resource": "pods", "fieldSelector": {"requirements": [
                    {"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}}}),
            json!({"allowed": true}),
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(status(spec.clone()), Ok(expected), "{spec}");
    }
}

#[test]
fn access_reviews_are_validated() {
    let message = status(json!({})).unwrap_err();
    let expected = ".authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one \
    of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of \
        user or group must be specified]";
    assert_eq!(message, expected);
    let both = json!({"user": "x", "resourceAttributes": {}, "nonResourceAttributes": {"path": "/x", "verb": "get"}});
    let expected = ".authorization.k8s.io \"\" is invalid: spec.nonResourceAttributes: Invalid value: \
        {\"Path\":\"/x\",\"Verb\":\"get\"}: cannot be specified in combination with resourceAttributes";
    assert_eq!(status(both).unwrap_err(), expected);

    let local = |spec: Value| {
        let review = parsed(json!({"metadata": {"namespace": "default"}, "spec": spec}));
        local_subject_access_review(review, "default", &chain(), &Cluster::default()).unwrap_err().message
    };
    let other = local(json!({"user": "x", "resourceAttributes": {"namespace": "other"}}));
    assert!(
        other.ends_with("spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace")
    );
    let path = local(json!({"user": "x", "nonResourceAttributes": {"path": "/x", "verb": "get"}}));
    assert!(path.ends_with("Invalid value: {\"Path\":\"/x\",\"Verb\":\"get\"}: disallowed on this kind of request"));

    let named =
        parsed(json!({"metadata": {"name": "x"}, "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}));
    let refused = self_subject_access_review(named, &UserInfo::new("u", &[]), &chain(), &Cluster::default());
    assert!(refused.unwrap_err().message.ends_with("must be empty"));
}

#[test]
fn rules_reviews_list_rules() {
    let ask = |user: &UserInfo, spec: Value| self_subject_rules_review(parsed(json!({"spec": spec})), user, &rbac());
    let user = UserInfo::new("u", &[]);
    let answer = ask(&user, json!({"namespace": "default"})).unwrap();
    assert_eq!(answer["spec"], json!({}));
    let rules = answer["status"]["resourceRules"].as_array().unwrap();
    let reviews =
        json!({"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]});
    assert!(rules.contains(&reviews), "{rules:?}");
    assert_eq!(answer["status"]["incomplete"], json!(false));
    assert_eq!(ask(&user, json!({})).unwrap_err().message, "no namespace on request");
    let node = ask(&UserInfo::node("n"), json!({"namespace": "default"})).unwrap();
    assert_eq!(node["status"]["incomplete"], json!(true));
}

#[test]
fn self_review_shows_the_user() {
    let now = "2026-11-24T06:00:00.5Z".parse().unwrap();
    let user = UserInfo::service_account("ns", "robot", "uid");
    let answer = self_subject_review(Object::new(), &user, now);
    assert_eq!(answer["metadata"]["creationTimestamp"], json!("2026-11-24T06:00:00Z"));
    let expected = json!({"username": "system:serviceaccount:ns:robot", "uid": "uid",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]});
    assert_eq!(answer["status"]["userInfo"], expected);
}
