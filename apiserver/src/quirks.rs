//! What single resources do otherwise than all others, as data: facts of upstream's strategies that clients see.

use api::Gvr;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Resources that an update creates when they are not there.
const CREATED_ON_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leases"),
    ("coordination.k8s.io", "leasecandidates"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    (RBAC, "clusterrolebindings"),
    (RBAC, "clusterroles"),
    (RBAC, "rolebindings"),
    (RBAC, "roles"),
];

/// Resources whose delete answers with the object instead of a Status.
const RETURNED_WHEN_DELETED: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("node.k8s.io", "runtimeclasses"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// Resources whose dependents stay unless the caller says otherwise.
const ORPHANS_BY_DEFAULT: &[(&str, &str)] = &[("", "replicationcontrollers"), ("batch", "jobs")];

/// Resources whose every use is warned of.
const DEPRECATED: &[(&str, &str, &str)] = &[
    ("", "endpoints", "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    ("", "componentstatuses", "v1 ComponentStatus is deprecated in v1.19+"),
];

/// What a client of the resource is warned of, if of anything.
pub fn deprecation(gvr: &Gvr) -> Option<&'static str> {
    let found = DEPRECATED.iter().find(|(group, resource, _)| *group == gvr.group && *resource == gvr.resource);
    found.map(|(_, _, text)| *text)
}

/// Storage prefixes of objects that die after these seconds.
pub const TIME_TO_LIVE: &[(&str, u64)] = &[("events", 3600)];

/// Storage prefixes whose objects are encrypted at rest.
pub const SEALED: &[&str] = &["secrets"];

fn has(list: &[(&str, &str)], gvr: &Gvr) -> bool {
    list.iter().any(|(group, resource)| *group == gvr.group && *resource == gvr.resource)
}

pub fn creates_on_update(gvr: &Gvr) -> bool {
    has(CREATED_ON_UPDATE, gvr)
}

pub fn returned_when_deleted(gvr: &Gvr) -> bool {
    has(RETURNED_WHEN_DELETED, gvr)
}

pub fn orphans_by_default(gvr: &Gvr) -> bool {
    has(ORPHANS_BY_DEFAULT, gvr)
}
