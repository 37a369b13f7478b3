//! Tables: the columns of each kind and the cells of each object, as upstream's printers give them. Columns are data
//! (`data/columns.txt`); cells are one small function a kind.

mod cluster;
mod columns;
mod control;
mod human;
mod json_path;
mod metrics;
mod network;
mod pod;
mod shown;
mod storage;
mod view;
mod workloads;

use serde_json::Value;

pub use columns::{of_kind as columns_of_kind, simple as default_columns};
pub use human::{duration, since};
pub use json_path::{JsonPath, PathError};
pub use shown::{Row, Shown};

use crate::Object;
use crate::object::meta_str;
use crate::table::{Cell, Column, Resource};

/// Computes the cells of an object, in the columns' order.
pub type Printer = fn(&Object) -> Vec<Shown>;

/// The columns of a resource's Table.
pub fn columns(resource: &Resource) -> &[Column] {
    &resource.columns
}

/// What the cells of an object show, in the columns' order.
pub fn shown(resource: &Resource, object: &Object) -> Vec<Shown> {
    match resource.hooks.cells {
        Some(printer) => printer(object),
        None => resource.columns.iter().map(|column| cell(column, object)).collect(),
    }
}

/// The cells of an object, in the columns' order, at a time in Unix seconds.
pub fn cells(resource: &Resource, object: &Object, now: i64) -> Vec<Value> {
    shown(resource, object).iter().map(|shown| shown.at(now).into_owned()).collect()
}

/// The cells of an object, ready to be written any number of times.
pub fn row(resource: &Resource, object: &Object) -> Row {
    Row::new(&shown(resource, object))
}

/// `conditions` of an object's row: `Completed` for Pods that are over.
pub fn row_conditions(resource: &Resource, object: &Object) -> Vec<Value> {
    if resource.group.is_empty() && resource.kind == "Pod" { pod::row_conditions(object) } else { Vec::new() }
}

/// A cell that is computed from the column alone: name, creation time, or a path of a custom resource.
fn cell(column: &Column, object: &Object) -> Shown {
    match &column.cell {
        Cell::Name => Shown::from(meta_str(object, "name")),
        Cell::CreatedAt => Shown::from(meta_str(object, "creationTimestamp")),
        Cell::Path(path) => json_path::cell(path, &column.ty, object),
        Cell::Computed => Shown::Value(Value::Null),
    }
}

/// The printer of a built-in kind, for those that have columns of their own.
pub(crate) fn printer(group: &str, kind: &str) -> Option<Printer> {
    if group.is_empty() { core(kind) } else { other(group, kind) }
}

fn core(kind: &str) -> Option<Printer> {
    Some(match kind {
        "ComponentStatus" => cluster::component_status,
        "ConfigMap" => cluster::config_map,
        "Endpoints" => network::endpoints,
        "Event" => cluster::event,
        "Namespace" => cluster::namespace,
        "Node" => cluster::node,
        "PersistentVolume" => storage::persistent_volume,
        "PersistentVolumeClaim" => storage::persistent_volume_claim,
        "Pod" => pod::cells,
        "PodTemplate" => pod::template_cells,
        "ReplicationController" => workloads::replication_controller,
        "ResourceQuota" => cluster::resource_quota,
        "Secret" => cluster::secret,
        "Service" => network::service,
        "ServiceAccount" => cluster::name_and_age,
        _ => return None,
    })
}

fn other(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => control::mutating_policy,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => control::validating_policy,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding") => {
            control::policy_binding
        }
        ("admissionregistration.k8s.io", _) => control::webhook_configuration,
        ("apiregistration.k8s.io", "APIService") => network::api_service,
        ("apps", "ControllerRevision") => workloads::controller_revision,
        ("apps", "DaemonSet") => workloads::daemon_set,
        ("apps", "Deployment") => workloads::deployment,
        ("apps", "ReplicaSet") => workloads::replica_set,
        ("apps", "StatefulSet") => workloads::stateful_set,
        ("autoscaling", "HorizontalPodAutoscaler") => workloads::horizontal_pod_autoscaler,
        ("autoscaling", "Scale") => workloads::scale,
        ("batch", "CronJob") => workloads::cron_job,
        ("batch", "Job") => workloads::job,
        ("certificates.k8s.io", "CertificateSigningRequest") => control::certificate_signing_request,
        ("certificates.k8s.io", "ClusterTrustBundle") => control::cluster_trust_bundle,
        ("certificates.k8s.io", "PodCertificateRequest") => control::pod_certificate_request,
        ("coordination.k8s.io", "Lease") => cluster::lease,
        ("coordination.k8s.io", "LeaseCandidate") => cluster::lease_candidate,
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice,
        ("events.k8s.io", "Event") => cluster::event,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => control::flow_schema,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => control::priority_level_configuration,
        ("internal.apiserver.k8s.io", "StorageVersion") => control::storage_version,
        ("metrics.k8s.io", "NodeMetrics") => metrics::node,
        ("metrics.k8s.io", "PodMetrics") => metrics::pod,
        ("networking.k8s.io", "IPAddress") => network::ip_address,
        ("networking.k8s.io", "Ingress") => network::ingress,
        ("networking.k8s.io", "IngressClass") => network::ingress_class,
        ("networking.k8s.io", "NetworkPolicy") => network::network_policy,
        ("networking.k8s.io", "ServiceCIDR") => network::service_cidr,
        ("node.k8s.io", "RuntimeClass") => cluster::runtime_class,
        ("policy", "PodDisruptionBudget") => workloads::pod_disruption_budget,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => control::role_binding,
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => cluster::name_and_age,
        ("resource.k8s.io", "DeviceTaintRule") => control::device_taint_rule,
        ("resource.k8s.io", "ResourceClaim") => control::resource_claim,
        ("resource.k8s.io", "ResourcePoolStatusRequest") => control::resource_pool_status_request,
        ("resource.k8s.io", "ResourceSlice") => control::resource_slice,
        ("scheduling.k8s.io", "PodGroup") => cluster::pod_group,
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class,
        ("scheduling.k8s.io", "Workload") => cluster::name_and_age,
        ("storage.k8s.io", "CSIDriver") => storage::csi_driver,
        ("storage.k8s.io", "CSINode") => storage::csi_node,
        ("storage.k8s.io", "StorageClass") => storage::storage_class,
        ("storage.k8s.io", "VolumeAttachment") => storage::volume_attachment,
        ("storage.k8s.io", "VolumeAttributesClass") => storage::volume_attributes_class,
        ("storagemigration.k8s.io", "StorageVersionMigration") => control::storage_version_migration,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
