//! Pods, of which only what the scheduler and the controllers look at is read: they watch all Pods there are, and who
//! wrote which field, environments, probes and mounts are most of a Pod's text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EphemeralVolumeSource, PersistentVolumeClaimVolumeSource, Pod,
    PodReadinessGate, PodSchedulingGate, PodSpec, PodStatus, ResourceRequirements, Toleration,
    TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;

#[derive(Deserialize)]
struct Sparse {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<PodStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    affinity: Option<Affinity>,
    #[serde(default)]
    containers: Vec<SparseContainer>,
    host_network: Option<bool>,
    hostname: Option<String>,
    init_containers: Option<Vec<SparseContainer>>,
    node_name: Option<String>,
    node_selector: Option<BTreeMap<String, String>>,
    overhead: Option<BTreeMap<String, Quantity>>,
    preemption_policy: Option<String>,
    priority: Option<i32>,
    readiness_gates: Option<Vec<PodReadinessGate>>,
    resources: Option<ResourceRequirements>,
    restart_policy: Option<String>,
    scheduler_name: Option<String>,
    scheduling_gates: Option<Vec<PodSchedulingGate>>,
    subdomain: Option<String>,
    tolerations: Option<Vec<Toleration>>,
    topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    volumes: Option<Vec<SparseVolume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SparseContainer {
    #[serde(default)]
    name: String,
    image: Option<String>,
    ports: Option<Vec<ContainerPort>>,
    resources: Option<ResourceRequirements>,
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SparseVolume {
    #[serde(default)]
    name: String,
    persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    ephemeral: Option<EphemeralVolumeSource>,
}

/// Reads a Pod: of its metadata all but who wrote which field, its status, and of its specification what decides where
/// it runs, what reaches it and which claims it has.
///
/// # Errors
/// The text is no JSON, or what is read of it is not as a Pod has it.
pub fn pod(text: &str) -> serde_json::Result<Pod> {
    let Sparse { metadata, spec, status } = serde_json::from_str(text)?;
    Ok(Pod { metadata: metadata.into(), spec: spec.map(PodSpec::from), status })
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            name: read.name,
            generate_name: read.generate_name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            generation: read.generation,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            labels: read.labels,
            annotations: read.annotations,
            owner_references: read.owner_references,
            finalizers: read.finalizers,
            ..Self::default()
        }
    }
}

impl From<Spec> for PodSpec {
    fn from(read: Spec) -> Self {
        let containers = |all: Vec<SparseContainer>| all.into_iter().map(Container::from).collect();
        Self {
            affinity: read.affinity,
            containers: containers(read.containers),
            host_network: read.host_network,
            hostname: read.hostname,
            init_containers: read.init_containers.map(containers),
            node_name: read.node_name,
            node_selector: read.node_selector,
            overhead: read.overhead,
            preemption_policy: read.preemption_policy,
            priority: read.priority,
            readiness_gates: read.readiness_gates,
            resources: read.resources,
            restart_policy: read.restart_policy,
            scheduler_name: read.scheduler_name,
            scheduling_gates: read.scheduling_gates,
            subdomain: read.subdomain,
            tolerations: read.tolerations,
            topology_spread_constraints: read.topology_spread_constraints,
            volumes: read.volumes.and_then(claiming),
            ..Self::default()
        }
    }
}

/// The volumes that are claims; `None` when there are none, as there are in most Pods.
fn claiming(all: Vec<SparseVolume>) -> Option<Vec<Volume>> {
    let is_claim = |volume: &SparseVolume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
    let volume = |read: SparseVolume| Volume {
        name: read.name,
        persistent_volume_claim: read.persistent_volume_claim,
        ephemeral: read.ephemeral,
        ..Volume::default()
    };
    let claims: Vec<Volume> = all.into_iter().filter(is_claim).map(volume).collect();
    (!claims.is_empty()).then_some(claims)
}

impl From<SparseContainer> for Container {
    fn from(read: SparseContainer) -> Self {
        Self {
            name: read.name,
            image: read.image,
            ports: read.ports,
            resources: read.resources,
            restart_policy: read.restart_policy,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    /// What is kept is as the whole reader has it; the rest is not there.
    #[test]
    fn a_pod_is_read_without_what_nobody_looks_at() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "annotations": {"c": "d"}, "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2,
                "managedFields": [{"manager": "m", "fieldsV1": {"f:metadata": {}}}], "finalizers": ["f"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicaSet", "name": "rs", "uid": "o"}]},
            "spec": {"nodeName": "n", "priority": 5, "schedulerName": "s", "hostNetwork": true, "subdomain": "sub",
                "nodeSelector": {"k": "v"}, "overhead": {"cpu": "1"}, "preemptionPolicy": "Never",
                "readinessGates": [{"conditionType": "t"}], "schedulingGates": [{"name": "g"}],
                "tolerations": [{"key": "k", "operator": "Exists"}], "resources": {"requests": {"cpu": "3"}},
                "topologySpreadConstraints":
                    [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    [{"topologyKey": "host", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
                "volumes": [{"name": "token", "projected": {"sources": []}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}],
                "initContainers": [{"name": "i", "image": "j", "restartPolicy": "Always"}],
                "containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "1"}],
                    "resources": {"requests": {"cpu": "1"}}, "ports": [{"containerPort": 80, "hostPort": 8080}],
                    "livenessProbe": {"exec": {"command": ["x"]}}}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        let text = object.to_string();
        let mut whole: Pod = serde_json::from_str(&text).unwrap();
        whole.metadata.managed_fields = None;
        let spec = whole.spec.as_mut().unwrap();
        spec.volumes.as_mut().unwrap().remove(0);
        spec.containers[0].env = None;
        spec.containers[0].liveness_probe = None;
        assert_eq!(pod(&text).unwrap(), whole);
    }

    #[test]
    fn a_pod_of_the_wrong_shape_is_refused() {
        assert!(pod(r#"{"metadata":{"name":1}}"#).is_err());
        assert!(pod("{").is_err());
        assert_eq!(pod("{}").unwrap(), Pod::default());
    }
}
