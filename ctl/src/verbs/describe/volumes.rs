//! Volumes of Pods and PersistentVolumes.

use serde_json::Value;

use super::text::{Text, is_on, number, or_none, plain};
use crate::verbs::pods::{items, text};

type Kind = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The fields that are shown of each kind of volume: the member, what it is, and titles with pointers.
const KINDS: &[Kind] = &[
    ("hostPath", "HostPath (bare host directory volume)", &[("Path", "/path"), ("HostPathType", "/type")]),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium", "/medium"), ("SizeLimit", "/sizeLimit")],
    ),
    ("secret", "Secret (a volume populated by a Secret)", &[("SecretName", "/secretName"), ("Optional", "/optional")]),
    ("configMap", "ConfigMap (a volume populated by a ConfigMap)", &[("Name", "/name"), ("Optional", "/optional")]),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName", "/claimName"), ("ReadOnly", "/readOnly")],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[("Server", "/server"), ("Path", "/path"), ("ReadOnly", "/readOnly")],
    ),
    ("local", "LocalVolume (a persistent volume backed by local storage on a node)", &[("Path", "/path")]),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        &[("Driver", "/driver"), ("FSType", "/fsType"), ("ReadOnly", "/readOnly")],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &[("Reference", "/reference"), ("PullPolicy", "/pullPolicy")],
    ),
];

pub(super) fn volumes(out: &mut Text, spec: &Value, space: &str) {
    let mut volumes = items(spec, "/volumes").peekable();
    if volumes.peek().is_none() {
        return out.line(0, format!("{space}Volumes:\t<none>"));
    }
    out.line(0, format!("{space}Volumes:"));
    for volume in volumes {
        out.line(1, format!("{}{}:", if space.is_empty() { "" } else { " " }, text(volume, "/name")));
        source(out, volume);
    }
}

/// What is behind a volume.
pub(super) fn source(out: &mut Text, volume: &Value) {
    if let Some(projected) = volume.get("projected") {
        return self::projected(out, projected);
    }
    if let Some(downward) = volume.get("downwardAPI") {
        out.line(2, "Type:\tDownwardAPI (a volume populated by information about the pod)\n    Items:");
        for item in items(downward, "/items") {
            let from = [text(item, "/fieldRef/fieldPath"), text(item, "/resourceFieldRef/resource")].concat();
            out.line(3, format!("{from} -> {}", text(item, "/path")));
        }
        return;
    }
    let known = KINDS.iter().find_map(|(member, what, fields)| Some((volume.get(member)?, what, fields)));
    let Some((source, what, fields)) = known else { return out.line(1, "<unknown>") };
    out.field(2, "Type", what);
    for (title, pointer) in *fields {
        let value = source.pointer(pointer).map(plain).unwrap_or_default();
        let value = match (*title, value.as_str()) {
            ("Optional" | "ReadOnly", "") => "false",
            ("SizeLimit", "" | "0") => "<unset>",
            ("HostPathType", _) if source.get("type").is_none() => "<none>",
            (_, value) => value,
        };
        out.field(2, title, value);
    }
}

fn projected(out: &mut Text, projected: &Value) {
    out.field(2, "Type", "Projected (a volume that contains injected data from multiple sources)");
    for source in items(projected, "/sources") {
        for (member, title) in [("secret", "SecretName"), ("configMap", "ConfigMapName")] {
            if let Some(source) = source.get(member) {
                out.field(2, title, text(source, "/name"));
                out.field(2, "Optional", is_on(source, "/optional").to_string());
            }
        }
        if source.get("downwardAPI").is_some() {
            out.field(2, "DownwardAPI", "true");
        }
        if let Some(token) = source.get("serviceAccountToken") {
            out.field(2, "TokenExpirationSeconds", number(token, "/expirationSeconds").to_string());
        }
    }
}

/// `RWO,ROX`
pub(super) fn access_modes(object: &Value, pointer: &str) -> String {
    let modes = items(object, pointer).filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    modes.collect::<Vec<_>>().join(",")
}

pub(super) fn mounts(out: &mut Text, container: &Value) {
    let mut mounts: Vec<&Value> = items(container, "/volumeMounts").collect();
    mounts.sort_by_key(|mount| text(mount, "/mountPath"));
    out.line(2, format!("Mounts:{}", if mounts.is_empty() { "\t<none>" } else { "" }));
    for mount in mounts {
        let mode = if is_on(mount, "/readOnly") { "ro" } else { "rw" };
        let path = match text(mount, "/subPath") {
            "" => String::new(),
            path => format!(",path={path:?}"),
        };
        out.line(3, format!("{} from {} ({mode}{path})", text(mount, "/mountPath"), or_none(text(mount, "/name"))));
    }
}
