//! What a node may write, as tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use apiserver_auth::UserInfo;
use apiserver_auth::objects::{NODES, PODS};
use apiserver_auth::pki::{Profile, csr};
use apiserver_auth::testing::Cluster;
use base64::Engine as _;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Ask, may, refusal};

fn cluster() -> Cluster {
    let token = |value: Value| json!({"serviceAccountToken": value});
    let sources = [token(json!({"path": "t", "audience": "vault"})), token(json!({"path": "u"}))];
    let token = json!([{"projected": {"sources": sources}}]);
    Cluster::default()
        .with(&NODES, json!({"metadata": {"name": "n1", "uid": "node-uid"}}))
        .with(
            &PODS,
            json!({"metadata": {"name": "mine", "namespace": "ns", "uid": "pod-uid"},
            "spec": {"nodeName": "n1", "serviceAccountName": "robot", "volumes": token}}),
        )
        .with(&PODS, json!({"metadata": {"name": "theirs", "namespace": "ns", "uid": "x"}, "spec": {"nodeName": "n2"}}))
}

/// The reason of the refusal, empty when it went through.
fn why(ask: Ask) -> String {
    let stranger = Ask {
        user: UserInfo::new("u", &[]),
        object: ask.object.clone(),
        old: ask.old.clone(),
        operation: ask.operation,
        target: ask.target,
        namespace: ask.namespace,
        name: ask.name,
    };
    assert_eq!(refusal(&NodeRestriction(may(&[])), stranger, &cluster()), "", "no matter to those who are no nodes");
    let message = refusal(&NodeRestriction(may(&[])), ask.by(UserInfo::node("n1")), &cluster());
    message.split_once("is forbidden: ").map_or(message.clone(), |(_, why)| why.to_owned())
}

fn mirror(changes: &[(&str, Value)]) -> Value {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": true});
    let mut pod = json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner]}, "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}});
    for (pointer, value) in changes {
        *pod.pointer_mut(pointer).unwrap() = value.clone();
    }
    pod
}

#[test]
fn mirror_pods_only() {
    let create = |changes: &[(&str, Value)]| why(Ask::create("pods", mirror(changes)));
    assert_eq!(create(&[]), "");
    let spec = |more: Value| {
        let mut spec = json!({"nodeName": "n1", "containers": [{"name": "c"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&[("/spec", spec)])
    };
    let reference = |what: &str| format!("node \"n1\" can not create pods that reference {what}");
    let table = [
        (
            create(&[("/metadata/annotations", json!({}))]),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods"
                .to_owned(),
        ),
        (
            create(&[("/spec/nodeName", json!("n2"))]),
            "node \"n1\" can only create pods with spec.nodeName set to itself".to_owned(),
        ),
        (
            create(&[("/metadata/ownerReferences", json!([]))]),
            "node \"n1\" can only create pods with an owner reference set to itself".to_owned(),
        ),
        (
            create(&[("/metadata/ownerReferences/0/name", json!("n2"))]),
            "node \"n1\" can only create pods with an owner reference set to itself".to_owned(),
        ),
        (
            create(&[("/metadata/ownerReferences/0/controller", json!(false))]),
            "node \"n1\" can only create pods with a controller owner reference set to itself".to_owned(),
        ),
        (
            create(&[("/metadata/ownerReferences/0/uid", json!("other"))]),
            "node n1 UID mismatch: expected other got node-uid".to_owned(),
        ),
        (spec(json!({"serviceAccountName": "default"})), reference("serviceaccounts")),
        (spec(json!({"imagePullSecrets": [{"name": "s"}]})), reference("secrets")),
        (spec(json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}]})), reference("configmaps")),
        (
            spec(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]})),
            reference("persistentvolumeclaims"),
        ),
        (
            spec(
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            ),
            reference("serviceaccounts (via projected volumes)"),
        ),
        (
            spec(json!({"volumes": [{"name": "v", "magic": {}}]})),
            "error checking mirror pod for API references: unknown volume type for volume  \"v\"".to_owned(),
        ),
        (
            spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {}}]})),
            String::new(),
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}

#[test]
fn own_pods_only() {
    let pod = |node: &str| json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"nodeName": node}});
    let mut relabelled = pod("n1");
    relabelled["metadata"]["labels"]["a"] = json!("c");
    let mut reported = pod("n1");
    reported["status"] = json!({"phase": "Running"});
    let mut claims = pod("n1");
    claims["status"] = json!({"resourceClaimStatuses": [{"name": "c"}]});
    let table = [
        (Ask::delete("pods", "mine", pod("n1")), ""),
        (Ask::delete("pods", "theirs", pod("n2")), "node \"n1\" can only delete pods with spec.nodeName set to itself"),
        (Ask::delete("pods", "gone", pod("n1")), "pods \"gone\" not found"),
        (
            Ask::update("pods", pod("n1"), pod("n1")),
            "unexpected operation \"UPDATE\", node \"n1\" can only create and delete mirror pods",
        ),
        (Ask::update("pods/status", reported, pod("n1")), ""),
        (Ask::update("pods/status", relabelled, pod("n1")), "node \"n1\" cannot update labels through pod status"),
        (Ask::update("pods/status", claims, pod("n1")), "node \"n1\" cannot update resource claim statues"),
        (
            Ask::update("pods/status", pod("n1"), pod("n2")),
            "node \"n1\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (Ask::create("pods/eviction", json!({})).named("mine"), ""),
        (Ask::create("pods/eviction", json!({"metadata": {"name": "mine"}})), ""),
        (
            Ask::create("pods/eviction", json!({})).named("theirs"),
            "node n1 can only evict pods with spec.nodeName set to itself",
        ),
        (Ask::create("pods/eviction", json!({})), "could not determine pod from request data"),
        (
            Ask::create("pods/binding", json!({})).named("mine"),
            "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
        ),
    ];
    for (ask, expected) in table {
        assert_eq!(why(ask), expected);
    }
}

#[test]
fn own_node_only() {
    let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let tainted = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a"}]}});
    let owned = json!({"metadata": {"name": "n1", "ownerReferences": [{"name": "x"}]}});
    let none = || json!({});
    let forbidden = json!({"node-restriction.kubernetes.io/x": "1", "example.com/y": "1",
        "node-role.kubernetes.io/master": "",
        "kubernetes.io/hostname": "n1", "node.kubernetes.io/z": "1", "a.k8s.io/b": "1"});
    let table = [
        (Ask::create("nodes", node("n1", none())), ""),
        (Ask::create("nodes", node("n2", none())), "node \"n1\" is not allowed to modify node \"n2\""),
        (
            Ask::create("nodes", node("n1", forbidden)),
            "node \"n1\" is not allowed to set the following labels: a.k8s.io/b, node-restriction.kubernetes.io/x, \
             node-role.kubernetes.io/master",
        ),
        (
            Ask::update("nodes", node("n1", json!({"topology.kubernetes.io/zone": "z"})), node("n1", none()))
                .named("n1"),
            "",
        ),
        (
            Ask::update("nodes", node("n1", none()), node("n1", json!({"node-role.kubernetes.io/master": ""})))
                .named("n1"),
            "is not allowed to modify labels: node-role.kubernetes.io/master",
        ),
        (Ask::update("nodes/status", node("n1", none()), node("n1", none())).named("n1"), ""),
        (
            Ask::update("nodes/status", node("n2", none()), node("n2", none())).named("n2"),
            "node \"n1\" is not allowed to modify node \"n2\"",
        ),
        (Ask::update("nodes", tainted, node("n1", none())).named("n1"), "node \"n1\" is not allowed to modify taints"),
        (
            Ask::update("nodes", owned, node("n1", none())).named("n1"),
            "node \"n1\" is not allowed to modify ownerReferences",
        ),
        (Ask::delete("nodes", "n2", node("n2", none())), "node \"n1\" is not allowed to modify node \"n2\""),
        (
            Ask::create("coordination.k8s.io/leases", node("n1", none())),
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (Ask { namespace: "kube-node-lease", ..Ask::create("coordination.k8s.io/leases", node("n1", none())) }, ""),
        (
            Ask { namespace: "kube-node-lease", ..Ask::create("coordination.k8s.io/leases", node("n2", none())) },
            "can only access node lease with the same name as the requesting node",
        ),
        (
            Ask::create("storage.k8s.io/csinodes", node("n2", none())),
            "can only access CSINode with the same name as the requesting node",
        ),
        (
            Ask::create("resource.k8s.io/resourceslices", json!({"spec": {"nodeName": "n2"}})),
            "can only create ResourceSlice with the same NodeName as the requesting node",
        ),
        (Ask::delete("resource.k8s.io/resourceslices", "s", json!({"spec": {"nodeName": "n1"}})), ""),
    ];
    for (ask, expected) in table {
        assert_eq!(why(ask), expected);
    }
}

#[test]
fn tokens_of_own_pods_only() {
    let token = |reference: Value, audiences: Value| {
        let ask = Ask::create(
            "serviceaccounts/token",
            json!({"spec": {"boundObjectRef": reference, "audiences": audiences}}),
        );
        ask.named("robot")
    };
    let bound = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    let mine = || bound("mine", "pod-uid");
    let table = [
        (token(mine(), json!(null)), ""),
        (token(mine(), json!(["vault"])), ""),
        (
            token(mine(), json!(["other"])),
            "audience \"other\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for \
             this audience",
        ),
        (token(mine(), json!(["vault", "other"])), "node may only request 0 or 1 audiences"),
        (token(json!(null), json!(null)), "node requested token not bound to a pod"),
        (
            token(json!({"apiVersion": "v1", "kind": "Node", "name": "n1"}), json!(null)),
            "node requested token not bound to a pod",
        ),
        (token(bound("mine", ""), json!(null)), "node requested token with a pod binding without a uid"),
        (token(bound("gone", "x"), json!(null)), "pods \"gone\" not found"),
        (token(bound("theirs", "x"), json!(null)), "node requested token bound to a pod scheduled on a different node"),
        (
            token(bound("mine", "other"), json!(null)),
            "the UID in the bound object reference (other) does not match the UID in record. The object might have \
             been deleted and then recreated",
        ),
    ];
    for (ask, expected) in table {
        assert_eq!(why(ask), expected);
    }
}

#[test]
fn own_certificates_only() {
    let ask = |user: &str, signer: &str| {
        let (pem, _) = csr::generate(&Profile::client(user, &["system:nodes"])).unwrap();
        let request = base64::engine::general_purpose::STANDARD.encode(pem);
        let object = json!({"metadata": {"name": "x"}, "spec": {"signerName": signer, "request": request}});
        why(Ask::create("certificates.k8s.io/certificatesigningrequests", object))
    };
    let refused = "can only create a node CSR with CN=system:node:n1";
    assert_eq!(ask("system:node:n1", csr::SIGNER_KUBELET_CLIENT), "");
    assert_eq!(ask("system:node:n2", csr::SIGNER_KUBELET_CLIENT), refused);
    assert_eq!(ask("system:node:n2", csr::SIGNER_KUBELET_SERVING), refused);
    assert_eq!(ask("system:node:n2", "example.com/mine"), "");
}

#[test]
fn pod_certificates_of_own_pods_only() {
    let cluster = cluster().with(
        &apiserver_auth::objects::SERVICE_ACCOUNTS,
        json!({"metadata": {"name": "robot", "namespace": "ns", "uid": "sa-uid"}}),
    );
    let ask = |changes: &[(&str, &str)]| {
        let mut spec = json!({"nodeName": "n1", "nodeUID": "node-uid", "podName": "mine", "podUID": "pod-uid",
            "serviceAccountName": "robot", "serviceAccountUID": "sa-uid"});
        for (key, value) in changes {
            spec[*key] = json!(value);
        }
        let ask =
            Ask::create("certificates.k8s.io/podcertificaterequests", json!({"metadata": {"name": "r"}, "spec": spec}));
        refusal(&NodeRestriction(may(&[])), ask.by(UserInfo::node("n1")), &cluster)
    };
    assert_eq!(ask(&[]), "");
    for bad in ["nodeName", "nodeUID", "podName", "podUID", "serviceAccountName", "serviceAccountUID"] {
        assert!(!ask(&[(bad, "other")]).is_empty(), "{bad}");
    }
    assert!(ask(&[("podName", "theirs"), ("podUID", "x")]).contains("is not running on node"));
}
