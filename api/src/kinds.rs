//! What is particular to single kinds: which names they allow, and the hooks of their rows.

mod autoscaling;
mod certificates;
mod check;
mod config;
mod endpoints;
mod event;
mod extension;
mod json;
mod namespace;
mod networking;
mod node;
pub mod pod;
mod policy;
mod prepare;
mod rbac;
mod service;
mod stated;
mod storage;
mod workload;

use crate::names::NameRule;
use crate::table::Hooks;

/// Which names objects of a kind may have; of kinds that are not built in, [`NameRule::Subdomain`].
pub fn name_rule(group: &str, kind: &str) -> NameRule {
    match (group, kind) {
        ("", "Namespace" | "Service") => NameRule::Label,
        ("rbac.authorization.k8s.io", _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

/// The hooks of a built-in kind; those of other kinds are empty.
pub fn hooks(group: &str, version: &str, kind: &str) -> Hooks {
    match (group, kind) {
        ("", "Pod") => pod::hooks(),
        ("", "PodTemplate") => pod::template_hooks(),
        ("", "ReplicationController") | ("apps" | "batch", _) => workload::hooks(kind),
        ("", "Service") => service::hooks(),
        ("", "Endpoints") => endpoints::endpoints_hooks(),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::slice_hooks(),
        ("", "ConfigMap") => config::config_map_hooks(),
        ("", "Secret") => config::secret_hooks(),
        ("", "Namespace") => namespace::hooks(),
        ("", "Node") => node::hooks(),
        ("", "Event") => event::core_hooks(),
        ("events.k8s.io", "Event") => event::events_hooks(),
        ("", "PersistentVolume") => storage::volume_hooks(),
        ("", "PersistentVolumeClaim") => storage::claim_hooks(),
        ("storage.k8s.io", "StorageClass") => storage::class_hooks(),
        ("networking.k8s.io", "Ingress") => networking::ingress_hooks(),
        ("networking.k8s.io", "IngressClass") => networking::class_hooks(),
        ("networking.k8s.io", "NetworkPolicy") => networking::policy_hooks(),
        ("", "ResourceQuota") => policy::quota_hooks(),
        ("", "LimitRange") => policy::limit_range_hooks(),
        ("policy", "PodDisruptionBudget") => policy::budget_hooks(),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_hooks(),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::hooks(version),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rbac::role_hooks(),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => rbac::binding_hooks(),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::hooks(),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => extension::definition_hooks(),
        ("apiregistration.k8s.io", "APIService") => extension::api_service_hooks(),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            extension::webhook_hooks(kind)
        }
        ("admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io", _)
        | ("storage.k8s.io", "CSIDriver")
        | ("resource.k8s.io", "ResourceClaim" | "ResourceClaimTemplate") => stated::hooks(kind),
        ("coordination.k8s.io", "Lease") => policy::lease_hooks(),
        ("node.k8s.io", "RuntimeClass") => policy::runtime_hooks(),
        ("", "ServiceAccount") => Hooks { prepare: Some(prepare::nothing), ..Hooks::default() },
        _ => Hooks::default(),
    }
}

#[cfg(test)]
mod tests;
