//! What happens to claims and volumes, as tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

fn volume_of(name: &str, extra: Value) -> Arc<PersistentVolume> {
    let mut volume = json!({"metadata": {"name": name}, "status": {"phase": "Available"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/x"}}});
    merge(&mut volume, extra);
    Arc::new(serde_json::from_value(volume).unwrap())
}

fn claim_of(extra: Value) -> PersistentVolumeClaim {
    let mut claim = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec":
        {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}});
    merge(&mut claim, extra);
    serde_json::from_value(claim).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn class(name: &str, provisioner: &str, mode: &str, is_default: bool) -> Arc<StorageClass> {
    let class = json!({"metadata": {"name": name, "annotations": {IS_DEFAULT: is_default.to_string()}},
        "provisioner": provisioner, "volumeBindingMode": mode});
    Arc::new(serde_json::from_value(class).unwrap())
}

/// The step in one line.
fn step(extra: Value, volumes: &[Arc<PersistentVolume>]) -> String {
    let classes = [
        class("ext", "example.com/disk", "Immediate", false),
        class("local", "kubernetes.io/no-provisioner", WAIT_FOR_CONSUMER, false),
        class("manual", "kubernetes.io/no-provisioner", "Immediate", false),
    ];
    show(claim(&claim_of(extra), &World { volumes, classes: &classes, waiting_pods: &["web".to_owned()] }))
}

fn show(step: ClaimStep) -> String {
    match step {
        ClaimStep::Wait(None) => "wait".to_owned(),
        ClaimStep::Wait(Some(said)) | ClaimStep::Lose(said) => format!("{}: {}", said.reason, said.message),
        ClaimStep::Assign(class) => format!("assign {class}"),
        ClaimStep::Bind(volume) => format!("bind {}", volume.name_any()),
        ClaimStep::Provision { provisioner, .. } => format!("provision {provisioner}"),
    }
}

#[test]
fn claims_find_volumes_or_say_why_not() {
    let free = [volume_of("v", json!({}))];
    let claimed =
        |uid: &str| [volume_of("v", json!({"spec": {"claimRef": {"name": "c", "namespace": "ns", "uid": uid}}}))];
    let named = || json!({"spec": {"volumeName": "v"}});
    let bound = || json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"}});
    let of_class = |name: &str| json!({"spec": {"storageClassName": name}});
    for (extra, volumes, expected) in [
        (json!({}), &free[..], "bind v"),
        (json!({}), &[], "FailedBinding: no persistent volumes available for this claim and no storage class is set"),
        (of_class("gone"), &[], "ProvisioningFailed: storageclass.storage.k8s.io \"gone\" not found"),
        (of_class("manual"), &[], "ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner"),
        (of_class("ext"), &[], "provision example.com/disk"),
        (of_class("local"), &[], "WaitForPodScheduled: waiting for pod web to be scheduled"),
        (named(), &[], "wait"),
        (named(), &free, "bind v"),
        (named(), &claimed("u"), "bind v"),
        (named(), &claimed("other"), "FailedBinding: volume \"v\" already bound to a different claim."),
        (
            json!({"spec": {"volumeName": "v", "resources": {"requests": {"storage": "2Gi"}}}}),
            &free,
            "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
        ),
        (bound(), &[], "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        (bound(), &claimed("u"), "bind v"),
        (
            bound(),
            &claimed("other"),
            "ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    ] {
        assert_eq!(step(extra.clone(), volumes), expected, "{extra}");
    }
}

#[test]
fn a_claim_without_a_class_gets_the_default() {
    let classes = [class("a", "x", "Immediate", true), class("b", "x", "Immediate", false)];
    let world = World { volumes: &[], classes: &classes, waiting_pods: &[] };
    let mut without = claim_of(json!({}));
    without.spec.as_mut().unwrap().storage_class_name = None;
    assert_eq!(show(claim(&without, &world)), "assign a");
    assert!(show(claim(&claim_of(json!({})), &world)).starts_with("FailedBinding"), "an empty class is a class");
    let waiting = claim_of(json!({"spec": {"storageClassName": "w"}}));
    let classes = [class("w", "x", WAIT_FOR_CONSUMER, false)];
    let world = World { volumes: &[], classes: &classes, waiting_pods: &[] };
    let expected = "WaitForFirstConsumer: waiting for first consumer to be created before binding";
    assert_eq!(show(claim(&waiting, &world)), expected);
}

#[test]
fn volumes_follow_their_claims() {
    let of = |uid: &str| json!({"spec": {"claimRef": {"name": "c", "namespace": "ns", "uid": uid}}});
    let has = |name: &str| Some(claim_of(json!({"spec": {"volumeName": name}})));
    for (extra, claim, expected) in [
        (json!({}), None, VolumeStep::Phase("Available")),
        (of(""), has(""), VolumeStep::Phase("Available")),
        (of("u"), None, VolumeStep::Release),
        (of("older"), has("v"), VolumeStep::Release),
        (of("u"), has(""), VolumeStep::Claim),
        (of("u"), has("v"), VolumeStep::Phase("Bound")),
        (of("u"), has("w"), VolumeStep::Unbind),
    ] {
        assert_eq!(volume(&volume_of("v", extra.clone()), claim.as_ref()), expected, "{extra}");
    }
}

#[test]
fn what_becomes_of_a_released_volume() {
    let with = |policy: &str, path: &str| {
        volume_of("v", json!({"spec": {"persistentVolumeReclaimPolicy": policy, "hostPath": {"path": path}}}))
    };
    assert_eq!(reclaim(&with("Retain", "/tmp/x")), Reclaim::Keep);
    assert_eq!(reclaim(&with("Delete", "/tmp/x/y")), Reclaim::Delete("/tmp/x/y".to_owned()));
    for path in ["/etc", "/tmp/", "/tmp/../etc", "/tmpx/y"] {
        let Reclaim::Fail(said) = reclaim(&with("Delete", path)) else { panic!("{path} would be deleted") };
        assert_eq!(said.message, format!("host_path deleter only supports /tmp/.+ but received provided {path}"));
    }
    assert!(matches!(reclaim(&with("Recycle", "/tmp/x")), Reclaim::Fail(_)));
}

#[test]
fn both_sides_of_a_binding() {
    let (volume, claim) = (volume_of("v", json!({})), claim_of(json!({})));
    let bound = given(&volume, &claim).unwrap();
    assert!(volumes::is_of(&bound, &claim) && bound.annotations().contains_key(BOUND_BY_CONTROLLER));
    assert!(given(&bound, &claim).is_none(), "once is enough");
    let done = taken(&claim, &volume).unwrap();
    assert!(volumes::is_bound(&done) && taken(&done, &volume).is_none());
    assert!(volumes::claimant(&unbound(&bound)).is_none());
    let promised = volume_of("v", json!({"spec": {"claimRef": {"name": "c", "namespace": "ns"}}}));
    let again = unbound(&given(&promised, &claim).unwrap());
    assert_eq!(volumes::claimant(&again).unwrap().uid, None, "the user's promise stays");
}
