//! What Kubernetes v1.36 does and no published document says: the core group's discovery, what is off by default,
//! how the registry stores kinds, and which fields can be selected by.

/// What discovery says of a resource of the core group.
pub struct Core {
    pub plural: &'static str,
    pub singular: &'static str,
    pub short: &'static str,
    pub in_all: bool,
}

const fn core(plural: &'static str, singular: &'static str, short: &'static str, in_all: bool) -> Core {
    Core { plural, singular, short, in_all }
}

pub const CORE: [Core; 17] = [
    core("bindings", "binding", "", false),
    core("componentstatuses", "componentstatus", "cs", false),
    core("configmaps", "configmap", "cm", false),
    core("endpoints", "endpoints", "ep", false),
    core("events", "event", "ev", false),
    core("limitranges", "limitrange", "limits", false),
    core("namespaces", "namespace", "ns", false),
    core("nodes", "node", "no", false),
    core("persistentvolumeclaims", "persistentvolumeclaim", "pvc", false),
    core("persistentvolumes", "persistentvolume", "pv", false),
    core("pods", "pod", "po", true),
    core("podtemplates", "podtemplate", "", false),
    core("replicationcontrollers", "replicationcontroller", "rc", true),
    core("resourcequotas", "resourcequota", "quota", false),
    core("secrets", "secret", "", false),
    core("serviceaccounts", "serviceaccount", "sa", false),
    core("services", "service", "svc", true),
];

/// Group versions that `--runtime-config` must turn on: everything that is not stable.
pub fn is_off(version: &str) -> bool {
    version.contains("alpha") || version.contains("beta")
}

/// The storage key's first part.
pub fn storage_prefix(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => format!("{group}/{plural}"),
        _ => plural.to_owned(),
    }
}

/// The group and version whose form is stored; `versions` are those of the group that have the resource.
pub fn stored_as(group: &str, plural: &str, versions: &[&str]) -> (String, String) {
    let version = match (group, plural) {
        ("events.k8s.io", "events") => return (String::new(), "v1".to_owned()),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "mutatingadmissionpolicybindings") => "v1beta1",
        ("resource.k8s.io", "devicetaintrules") => "v1alpha3",
        _ => most_stable(versions),
    };
    (group.to_owned(), version.to_owned())
}

/// The newest of the most stable versions: v2 before v1 before v1beta2 before v1alpha3.
fn most_stable<'a>(versions: &[&'a str]) -> &'a str {
    let stability = |v: &str| {
        if v.contains("alpha") {
            0
        } else if v.contains("beta") {
            1
        } else {
            2
        }
    };
    versions.iter().max_by_key(|v| (stability(v), v.to_owned())).copied().unwrap_or_default()
}

/// Selectable fields besides `metadata.name` and `metadata.namespace`.
pub fn selectable(group: &str, plural: &str) -> &'static str {
    match (group, plural) {
        ("", "pods") => {
            "spec.nodeName,spec.restartPolicy,spec.schedulerName,spec.serviceAccountName,spec.hostNetwork,\
             status.phase,status.podIP,status.podIPs,status.nominatedNodeName"
        }
        ("", "nodes") => "spec.unschedulable",
        ("", "namespaces") => "status.phase",
        ("", "secrets") => "type",
        ("", "services") => "spec.clusterIP,spec.type",
        ("", "replicationcontrollers") => "status.replicas",
        ("", "events") => {
            "involvedObject.kind,involvedObject.namespace,involvedObject.name,involvedObject.uid,\
             involvedObject.apiVersion,involvedObject.resourceVersion,involvedObject.fieldPath,reason,\
             reportingComponent,source,type"
        }
        ("events.k8s.io", "events") => {
            "reason,regarding.kind,regarding.namespace,regarding.name,regarding.uid,regarding.apiVersion,\
             regarding.resourceVersion,regarding.fieldPath,reportingController,type"
        }
        ("batch", "jobs") => "status.successful",
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => "spec.signerName",
        ("certificates.k8s.io", "podcertificaterequests") => "spec.signerName,spec.podName,spec.nodeName",
        ("resource.k8s.io", "resourceslices") => "spec.nodeName,spec.driver",
        _ => "",
    }
}
