//! The small plugins, as tables, and that the chain is whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use apiserver_auth::objects::{INGRESS_CLASSES, NAMESPACES, NODES, PRIORITY_CLASSES, RUNTIME_CLASSES, STORAGE_CLASSES};
use apiserver_auth::pki::{Profile, csr};
use apiserver_auth::testing::Cluster;
use apiserver_auth::{Authorizer, Rbac, UserInfo};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::certificates::*;
use crate::default_class::*;
use crate::default_toleration_seconds::DefaultTolerationSeconds;
use crate::namespace_lifecycle::NamespaceLifecycle;
use crate::pod_topology_labels::PodTopologyLabels;
use crate::priority::Priority;
use crate::rbac_escalation::RbacEscalation;
use crate::runtime_class::RuntimeClass;
use crate::storage::*;
use crate::taint_nodes::TaintNodesByCondition;
use crate::testing::{Ask, may, refusal, run};

#[test]
fn the_chain_has_upstreams_order() {
    let rbac = Arc::new(Rbac::default());
    let authorizer: Arc<dyn Authorizer> = rbac.clone();
    let names: Vec<_> = crate::standard(&authorizer, &rbac).names().collect();
    let expected = [
        "NamespaceLifecycle",
        "LimitRanger",
        "ServiceAccount",
        "NodeRestriction",
        "TaintNodesByCondition",
        "Priority",
        "DefaultTolerationSeconds",
        "DefaultStorageClass",
        "StorageObjectInUseProtection",
        "PersistentVolumeClaimResize",
        "RuntimeClass",
        "CertificateApproval",
        "CertificateSigning",
        "ClusterTrustBundleAttest",
        "CertificateSubjectRestriction",
        "DefaultIngressClass",
        "PodTopologyLabels",
        "RBACEscalation",
    ];
    assert_eq!(names, expected);
}

#[test]
fn namespaces_live_and_die() {
    let cluster = Cluster::default()
        .with(&NAMESPACES, json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}))
        .with(&NAMESPACES, json!({"metadata": {"name": "dying"}, "status": {"phase": "Terminating"}}));
    let pod = || json!({"metadata": {"name": "p"}});
    let at = |namespace, ask: Ask| Ask { namespace, ..ask };
    let plugin = NamespaceLifecycle;
    assert!(run(&plugin, at("ns", Ask::create("pods", pod())), &cluster).is_ok());
    let status = run(&plugin, at("gone", Ask::create("pods", pod())), &cluster).unwrap_err();
    assert_eq!((status.message.as_str(), status.code), ("namespaces \"gone\" not found", 404));
    let status = run(&plugin, at("dying", Ask::create("pods", pod())), &cluster).unwrap_err();
    let message =
        "pods \"p\" is forbidden: unable to create new content in namespace dying because it is being terminated";
    assert_eq!((status.message.as_str(), status.code), (message, 403));
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
    assert_eq!(cause.message, "namespace dying is being terminated");
    assert!(run(&plugin, at("dying", Ask::update("pods", pod(), pod())), &cluster).is_ok(), "finalizers must go");
    assert!(run(&plugin, at("dying", Ask::delete("pods", "p", pod())), &cluster).is_ok());
    assert!(
        run(&plugin, at("gone", Ask::create("authorization.k8s.io/localsubjectaccessreviews", pod())), &cluster)
            .is_ok()
    );
    assert!(run(&plugin, at("", Ask::create("nodes", pod())), &cluster).is_ok());
    assert!(run(&plugin, at("new", Ask::create("namespaces", pod())), &cluster).is_ok());
    for immortal in ["default", "kube-system", "kube-public"] {
        let message = refusal(&plugin, at("", Ask::delete("namespaces", immortal, pod())), &cluster);
        assert_eq!(message, format!("namespaces \"{immortal}\" is forbidden: this namespace may not be deleted"));
    }
    assert!(run(&plugin, at("", Ask::delete("namespaces", "ns", pod())), &cluster).is_ok());
}

#[test]
fn pods_get_their_priority() {
    let cluster = Cluster::default()
        .with(&PRIORITY_CLASSES, json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}))
        .with(&PRIORITY_CLASSES, json!({"metadata": {"name": "system-node-critical"}, "value": 2000001000}));
    let ask = |spec: Value, cluster: &Cluster| {
        let pod = Ask::create("pods", json!({"metadata": {"name": "p"}, "spec": spec}));
        run(&Priority, pod, cluster).map(|p| p["spec"].clone()).map_err(|s| s.message)
    };
    let table = [
        (json!({}), Ok(json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}))),
        (
            json!({"priorityClassName": "high"}),
            Ok(json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"})),
        ),
        (
            json!({"priorityClassName": "system-node-critical"}),
            Ok(json!({"priorityClassName": "system-node-critical", "priority": 2000001000})),
        ),
        (json!({"priorityClassName": "none"}), Err("no PriorityClass with name none was found")),
        (
            json!({"priority": 5}),
            Err("the integer value of priority (5) must not be provided in pod spec; priority admission controller \
                 computed 0 from the given PriorityClass name"),
        ),
        (
            json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
            Err("the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; \
                 priority admission controller computed Never from the given PriorityClass name"),
        ),
    ];
    for (spec, expected) in table {
        let expected = expected.map_err(|why| format!("pods \"p\" is forbidden: {why}"));
        assert_eq!(ask(spec.clone(), &cluster), expected, "{spec}");
    }
    let cluster =
        cluster.with(&PRIORITY_CLASSES, json!({"metadata": {"name": "std"}, "value": 7, "globalDefault": true}));
    assert_eq!(ask(json!({}), &cluster), Ok(json!({"priorityClassName": "std", "priority": 7})));

    let another = json!({"metadata": {"name": "b"}, "value": 8, "globalDefault": true});
    let target = "scheduling.k8s.io/priorityclasses";
    let message = refusal(&Priority, Ask::create(target, another.clone()), &cluster);
    assert!(
        message.ends_with("PriorityClass std is already marked as default. Only one default can exist"),
        "{message}"
    );
    let same = json!({"metadata": {"name": "std"}, "value": 7, "globalDefault": true});
    assert!(run(&Priority, Ask::update(target, same, another), &cluster).is_ok());

    let old = json!({"spec": {"priority": 7, "preemptionPolicy": "Never"}});
    let kept = run(&Priority, Ask::update("pods", json!({"spec": {}}), old.clone()), &cluster).unwrap();
    assert_eq!(kept, old);
}

#[test]
fn pods_get_tolerations_and_nodes_a_taint() {
    let none = Cluster::default();
    let added = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let (not_ready, unreachable) = (added("node.kubernetes.io/not-ready"), added("node.kubernetes.io/unreachable"));
    let with = |tolerations: Value| {
        let pod = Ask::create("pods", json!({"spec": {"tolerations": tolerations}}));
        run(&DefaultTolerationSeconds, pod, &none).unwrap()["spec"]["tolerations"].clone()
    };
    assert_eq!(with(json!(null)), json!([not_ready, unreachable]));
    let all = json!([{"operator": "Exists"}]);
    assert_eq!(with(all.clone()), all);
    let own = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"});
    assert_eq!(with(json!([own])), json!([own, unreachable]));
    let other = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    assert_eq!(with(json!([other])), json!([other, not_ready, unreachable]));

    let taint = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    let node = |spec: Value| run(&TaintNodesByCondition, Ask::create("nodes", json!({"spec": spec})), &none).unwrap();
    assert_eq!(node(json!({}))["spec"]["taints"], taint);
    assert_eq!(node(json!({"taints": taint}))["spec"]["taints"], taint);
    let updated = run(&TaintNodesByCondition, Ask::update("nodes", json!({}), json!({})), &none).unwrap();
    assert_eq!(updated, json!({}), "only new ones");
}

#[test]
fn classes_default_to_the_newest() {
    let class = |name: &str, created: &str, mark: &str| {
        let annotations = json!({mark: "true"});
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}})
    };
    let storage = "storageclass.kubernetes.io/is-default-class";
    let ingress = "ingressclass.kubernetes.io/is-default-class";
    let cluster = Cluster::default()
        .with(&STORAGE_CLASSES, class("a", "2026-01-01T00:00:00Z", storage))
        .with(&STORAGE_CLASSES, class("b", "2026-01-02T00:00:00Z", storage))
        .with(&STORAGE_CLASSES, class("c", "2026-01-03T00:00:00Z", "other"))
        .with(&INGRESS_CLASSES, class("nginx", "2026-01-01T00:00:00Z", ingress));
    let claim =
        |object: Value| run(&DefaultStorageClass, Ask::create("persistentvolumeclaims", object), &cluster).unwrap();
    assert_eq!(claim(json!({"spec": {}}))["spec"]["storageClassName"], json!("b"));
    assert_eq!(claim(json!({"spec": {"storageClassName": ""}}))["spec"]["storageClassName"], json!(""));
    let old_way = json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "x"}}});
    assert_eq!(claim(old_way.clone()), old_way);
    let ingress = |object: Value| {
        run(&DefaultIngressClass, Ask::create("networking.k8s.io/ingresses", object), &cluster).unwrap()
    };
    assert_eq!(ingress(json!({"spec": {}}))["spec"]["ingressClassName"], json!("nginx"));
    let old_way = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}});
    assert_eq!(ingress(old_way.clone()), old_way);
}

#[test]
fn storage_is_protected_and_grows_where_it_may() {
    let cluster = Cluster::default()
        .with(&STORAGE_CLASSES, json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true}))
        .with(&STORAGE_CLASSES, json!({"metadata": {"name": "fixed"}}));
    let plugin = StorageObjectInUseProtection;
    let made = run(&plugin, Ask::create("persistentvolumeclaims", json!({})), &cluster).unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(run(&plugin, Ask::create("persistentvolumeclaims", made.clone()), &cluster).unwrap(), made);
    let made = run(&plugin, Ask::create("persistentvolumes", json!({})), &cluster).unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));

    let claim = |size: &str, class: &str, phase: &str| {
        let resources = json!({"requests": {"storage": size}});
        json!({"spec": {"storageClassName": class, "resources": resources}, "status": {"phase": phase}})
    };
    let resize = |new: Value, old: Value| {
        refusal(&PersistentVolumeClaimResize, Ask::update("persistentvolumeclaims", new, old), &cluster)
    };
    let unsupported = "persistentvolumeclaims \"x\" is forbidden: only dynamically provisioned pvc can be resized and \
    the storageclass that provisions the pvc must support resize";
    let unbound = "persistentvolumeclaims \"x\" is forbidden: Only bound persistent volume claims can be expanded";
    assert_eq!(resize(claim("2Gi", "grows", "Bound"), claim("1Gi", "grows", "Bound")), "");
    assert_eq!(resize(claim("1024Mi", "fixed", "Bound"), claim("1Gi", "fixed", "Bound")), "");
    assert_eq!(resize(claim("2Gi", "fixed", "Bound"), claim("1Gi", "fixed", "Bound")), unsupported);
    assert_eq!(resize(claim("2Gi", "none", "Bound"), claim("1Gi", "none", "Bound")), unsupported);
    assert_eq!(resize(claim("2Gi", "grows", "Pending"), claim("1Gi", "grows", "Pending")), unbound);
}

#[test]
fn runtime_classes_give_overhead_and_scheduling() {
    let cluster = Cluster::default()
        .with(
            &RUNTIME_CLASSES,
            json!({"metadata": {"name": "vm"}, "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}}),
        )
        .with(&RUNTIME_CLASSES, json!({"metadata": {"name": "plain"}}));
    let ask = |spec: Value| {
        let pod = Ask::create("pods", json!({"metadata": {"name": "p"}, "spec": spec}));
        run(&RuntimeClass, pod, &cluster).map(|p| p["spec"].clone()).map_err(|s| s.message)
    };
    let expected = json!({"runtimeClassName": "vm", "overhead": {"cpu": "250m"},
        "nodeSelector": {"disk": "ssd", "vm": "yes"},
        "tolerations": [{"key": "vm", "operator": "Exists"}]});
    let given = json!({"runtimeClassName": "vm", "nodeSelector": {"disk": "ssd"}, "overhead": {"cpu": "0.25"},
        "tolerations": [{"key": "vm", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]});
    assert_eq!(ask(given), Ok(expected));
    assert_eq!(ask(json!({})), Ok(json!({})));
    assert_eq!(ask(json!({"runtimeClassName": "plain"})), Ok(json!({"runtimeClassName": "plain"})));
    let table = [
        (json!({"runtimeClassName": "gone"}), "pod rejected: RuntimeClass \"gone\" not found"),
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ];
    for (spec, why) in table {
        assert_eq!(ask(spec), Err(format!("pods \"p\" is forbidden: {why}")));
    }
}

#[test]
fn pods_carry_their_nodes_topology() {
    let cluster = Cluster::default()
        .with(&NODES, json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z", "a": "b"}}}));
    let zone = json!({"topology.kubernetes.io/zone": "z"});
    let bound = json!({"target": {"kind": "Node", "name": "n1"}});
    assert_eq!(
        run(&PodTopologyLabels, Ask::create("pods/binding", bound), &cluster).unwrap()["metadata"]["labels"],
        zone
    );
    let made = json!({"spec": {"nodeName": "n1"}});
    assert_eq!(run(&PodTopologyLabels, Ask::create("pods", made), &cluster).unwrap()["metadata"]["labels"], zone);
    for plain in [json!({"spec": {}}), json!({"spec": {"nodeName": "n2"}})] {
        assert_eq!(run(&PodTopologyLabels, Ask::create("pods", plain.clone()), &cluster).unwrap(), plain);
    }
}

fn request_of(user: &str, groups: &[&str], signer: &str) -> Value {
    let (pem, _) = csr::generate(&Profile::client(user, groups)).unwrap();
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    json!({"metadata": {"name": "x"}, "spec": {"signerName": signer, "request": request}})
}

#[test]
fn certificates_are_a_matter_of_their_signers() {
    let none = Cluster::default();
    let target = "certificates.k8s.io/certificatesigningrequests";
    let subject = |groups: &[&str], signer| {
        refusal(&CertificateSubjectRestriction, Ask::create(target, request_of("jane", groups, signer)), &none)
    };
    let refused = "certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: use of \
                   kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert_eq!(subject(&["dev"], csr::SIGNER_CLIENT), "");
    assert_eq!(subject(&["system:masters"], csr::SIGNER_CLIENT), refused);
    assert_eq!(subject(&["system:masters"], "example.com/mine"), "");

    let stored = request_of("jane", &[], "example.com/mine");
    let signed = json!({"spec": stored["spec"], "status": {"certificate": "abc"}});
    let approve = |list, old: Value| {
        let ask = Ask::update("certificates.k8s.io/certificatesigningrequests/approval", stored.clone(), old);
        refusal(&CertificateApproval(may(list)), ask, &none)
    };
    let sign = |list, new: Value| {
        let ask = Ask::update("certificates.k8s.io/certificatesigningrequests/status", new, stored.clone());
        refusal(&CertificateSigning(may(list)), ask, &none)
    };
    let head = "certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: user not permitted to";
    assert_eq!(approve(&["approve signers example.com/mine"], stored.clone()), "");
    assert_eq!(approve(&["approve signers example.com/*"], stored.clone()), "");
    let why = format!("{head} approve requests with signerName \"example.com/mine\"");
    assert_eq!(approve(&["sign signers example.com/mine"], stored.clone()), why);
    let other = request_of("jane", &[], "example.com/other");
    assert!(!approve(&["approve signers example.com/mine"], other).is_empty(), "the stored signer counts");
    assert_eq!(sign(&["sign signers example.com/mine"], signed.clone()), "");
    assert_eq!(sign(&[], stored.clone()), "", "nothing was signed");
    let why = format!("{head} sign requests with signerName \"example.com/mine\"");
    assert_eq!(sign(&["approve signers example.com/mine"], signed), why);

    let bundle = json!({"metadata": {"name": "b"}, "spec": {"signerName": "example.com/mine", "trustBundle": "x"}});
    let attest = |list, ask| refusal(&ClusterTrustBundleAttest(may(list)), ask, &none);
    let target = "certificates.k8s.io/clustertrustbundles";
    assert_eq!(attest(&["attest signers example.com/mine"], Ask::create(target, bundle.clone())), "");
    assert!(attest(&[], Ask::create(target, bundle.clone())).contains("attest for signerName \"example.com/mine\""));
    assert_eq!(attest(&[], Ask::update(target, bundle.clone(), bundle)), "");
    assert_eq!(attest(&[], Ask::create(target, json!({"spec": {"trustBundle": "x"}}))), "");
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let rbac = Arc::new(Rbac::default());
    let plugin = RbacEscalation { rbac: rbac.clone(), authorizer: rbac };
    let role =
        json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    let target = "rbac.authorization.k8s.io/roles";
    let message = refusal(&plugin, Ask::create(target, role.clone()), &Cluster::default());
    assert!(message.contains("is attempting to grant RBAC permissions not currently held"), "{message}");
    let master = UserInfo::new("root", &["system:masters"]);
    assert!(run(&plugin, Ask::create(target, role).by(master), &Cluster::default()).is_ok());
}
