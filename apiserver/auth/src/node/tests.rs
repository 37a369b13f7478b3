//! What a node's credentials reach, as a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::objects::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTACHMENTS};
use crate::testing::Cluster;
use crate::user::UserInfo;

fn cluster() -> Cluster {
    Cluster::default()
        .with(&PODS, json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {
            "nodeName": "n1", "serviceAccountName": "robot",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env-secret"}}},
                {"valueFrom": {"configMapKeyRef": {"name": "env-map"}}}], "envFrom": [{"secretRef": {"name": "all"}}]}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "init-map"}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "volume-secret"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "scratch", "ephemeral": {}},
            ],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
        }}))
        .with(&PODS, json!({"metadata": {"name": "mirror", "namespace": "ns",
            "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "mighty",
                "volumes": [{"secret": {"secretName": "mirror-secret"}}]}}))
        .with(&PODS, json!({"metadata": {"name": "q", "namespace": "ns"},
            "spec": {"nodeName": "n2", "volumes": [{"secret": {"secretName": "other-secret"}}]}}))
        .with(&PODS, json!({"metadata": {"name": "waiting", "namespace": "ns"},
            "spec": {"volumes": [{"secret": {"secretName": "waiting-secret"}}]}}))
        .with(&PERSISTENT_VOLUME_CLAIMS, json!({"metadata": {"name": "claim", "namespace": "ns"},
            "spec": {"volumeName": "pv"}}))
        .with(&PERSISTENT_VOLUMES, json!({"metadata": {"name": "pv"}, "spec": {
            "claimRef": {"namespace": "ns", "name": "claim"},
            "csi": {"nodePublishSecretRef": {"name": "publish", "namespace": "storage"},
                "controllerExpandSecretRef": {"name": "expand", "namespace": "storage"}}}}))
        .with(&PERSISTENT_VOLUMES, json!({"metadata": {"name": "pv2"}, "spec": {}}))
        .with(&VOLUME_ATTACHMENTS, json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}))
}

/// `verb [group/]resource[/sub] namespace/name [selector]`; `-` is empty.
fn ask(authorizer: &NodeAuthorizer, cluster: &Cluster, user: &UserInfo, request: &str) -> Decision {
    let words: Vec<&str> = request.split(' ').collect();
    let (group, rest) = match words[1].split_once('/') {
        Some((group, rest)) if group.contains('.') => (group, rest),
        _ => ("", words[1]),
    };
    let (resource, subresource) = rest.split_once('/').unwrap_or((rest, ""));
    let (namespace, name) = words.get(2).and_then(|w| w.split_once('/')).unwrap_or(("-", "-"));
    let text = |word| if word == "-" { "" } else { word };
    let attributes = Attributes {
        subresource,
        namespace: text(namespace),
        name: text(name),
        field_selector: words.get(3).copied().unwrap_or(""),
        ..Attributes::resource(user, words[0], group, resource)
    };
    authorizer.authorize(&attributes, cluster)
}

#[test]
fn a_node_reaches_its_own_only() {
    let (authorizer, cluster, node) = (NodeAuthorizer::default(), cluster(), UserInfo::node("n1"));
    let table = [
        ("get secrets ns/pull", true),
        ("get secrets ns/env-secret", true),
        ("watch secrets ns/all", true),
        ("list secrets ns/volume-secret", true),
        ("get secrets ns/other-secret", false),
        ("get secrets ns/waiting-secret", false),
        ("get secrets ns/mirror-secret", false),
        ("get secrets other/pull", false),
        ("list secrets ns/-", false),
        ("list secrets -/-", false),
        ("update secrets ns/pull", false),
        ("delete secrets ns/pull", false),
        ("get secrets storage/publish", true),
        ("get secrets storage/expand", false),
        ("get secrets ns/publish", false),
        ("get configmaps ns/env-map", true),
        ("get configmaps ns/init-map", true),
        ("get configmaps ns/kube-root-ca.crt", true),
        ("get configmaps ns/pull", false),
        ("get persistentvolumeclaims ns/claim", true),
        ("get persistentvolumeclaims ns/p-scratch", true),
        ("list persistentvolumeclaims ns/-", false),
        ("patch persistentvolumeclaims/status ns/claim", true),
        ("patch persistentvolumeclaims ns/claim", false),
        ("get persistentvolumes -/pv", true),
        ("get persistentvolumes -/pv2", false),
        ("get persistentvolumes -/pv3", false),
        ("get resource.k8s.io/resourceclaims ns/gpu", true),
        ("get storage.k8s.io/volumeattachments -/va", true),
        ("get serviceaccounts ns/robot", true),
        ("create serviceaccounts/token ns/robot", true),
        ("create serviceaccounts/token ns/mighty", false),
        ("create serviceaccounts/token ns/other", false),
        ("list serviceaccounts ns/-", false),
        ("create serviceaccounts ns/-", false),
        ("get nodes -/n1", true),
        ("watch nodes -/n1", true),
        ("get nodes -/n2", false),
        ("list nodes -/-", false),
        ("create nodes -/-", true),
        ("patch nodes/status -/n1", true),
        ("delete nodes -/n1", false),
        ("get pods ns/p", true),
        ("get pods ns/q", false),
        ("list pods -/- spec.nodeName=n1", true),
        ("watch pods -/- status.phase!=Failed,spec.nodeName==n1", true),
        ("list pods -/- spec.nodeName=n2", false),
        ("list pods -/- spec.nodeName!=n1", false),
        ("list pods -/-", false),
        ("list pods ns/p", true),
        ("create pods ns/-", true),
        ("patch pods/status ns/p", true),
        ("create pods/eviction ns/p", true),
        ("update pods ns/p", false),
        ("create pods/exec ns/p", false),
        ("create pods/binding ns/p", false),
        ("get coordination.k8s.io/leases kube-node-lease/n1", true),
        ("update coordination.k8s.io/leases kube-node-lease/n2", false),
        ("update coordination.k8s.io/leases kube-system/n1", false),
        ("list coordination.k8s.io/leases kube-node-lease/-", false),
        ("get storage.k8s.io/csinodes -/n1", true),
        ("get storage.k8s.io/csinodes -/n2", false),
        ("list resource.k8s.io/resourceslices -/- spec.nodeName=n1", true),
        ("list resource.k8s.io/resourceslices -/-", false),
        ("list services -/-", true),
        ("create events ns/-", true),
        ("create certificates.k8s.io/certificatesigningrequests -/-", true),
        ("create authentication.k8s.io/tokenreviews -/-", true),
        ("create authorization.k8s.io/subjectaccessreviews -/-", true),
        ("list node.k8s.io/runtimeclasses -/-", true),
        ("get apps/deployments ns/d", false),
        ("list rbac.authorization.k8s.io/clusterroles -/-", false),
    ];
    for (request, allowed) in table {
        // Twice: the second answer comes from what the first remembered.
        for _ in 0..2 {
            let decision = ask(&authorizer, &cluster, &node, request);
            assert_eq!(decision.is_allowed(), allowed, "{request}: {decision:?}");
            assert!(!matches!(decision, Decision::Deny(_)), "RBAC may still allow it");
        }
        for other in [UserInfo::new("system:node:n1", &[]), UserInfo::new("n1", &["system:nodes"])] {
            assert!(!ask(&authorizer, &cluster, &other, request).is_allowed(), "{request} as {}", other.name);
        }
    }
}

#[test]
fn access_ends_with_the_pod() {
    let (authorizer, mut cluster, node) = (NodeAuthorizer::default(), cluster(), UserInfo::node("n1"));
    assert!(ask(&authorizer, &cluster, &node, "get secrets ns/pull").is_allowed());
    cluster.remove(&PODS, "ns", "p");
    let decision = ask(&authorizer, &cluster, &node, "get secrets ns/pull");
    assert_eq!(decision, Decision::NoOpinion("no relationship found between node 'n1' and this object".to_owned()));
}

#[test]
fn secrets_of_volumes_follow_their_claim() {
    let (authorizer, mut cluster, node) = (NodeAuthorizer::default(), cluster(), UserInfo::node("n1"));
    cluster.put(
        &PERSISTENT_VOLUMES,
        json!({"metadata": {"name": "pv"}, "spec": {
        "claimRef": {"namespace": "ns", "name": "claim"}, "iscsi": {"secretRef": {"name": "chap"}}}}),
    );
    assert!(ask(&authorizer, &cluster, &node, "get secrets ns/chap").is_allowed());
    assert!(!ask(&authorizer, &cluster, &UserInfo::node("n2"), "get secrets ns/chap").is_allowed());
    cluster.put(
        &PERSISTENT_VOLUMES,
        json!({"metadata": {"name": "pv"}, "spec": {
        "claimRef": {"namespace": "ns", "name": "stolen"}, "iscsi": {"secretRef": {"name": "chap"}}}}),
    );
    assert!(!ask(&authorizer, &cluster, &node, "get secrets ns/chap").is_allowed());
}
