//! What upstream warns of in a Pod or Pod template that is valid all the same.

use crate::field::{Path, go_quote};
use crate::kinds::json::{get, int, object, objects, text};
use crate::{Object, names, object as meta};

/// Node labels that have a successor.
const OLD_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
];
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The `warnings` hook of Pods.
pub fn pod(pod: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    dns_name(meta::name(pod), "the Pod's hostname", &mut warnings);
    if let Some(spec) = object(pod, "spec") {
        of_spec(spec, &Path::new("spec"), &mut warnings);
    }
    warnings
}

/// Names of Pods, and of what makes Pods, should be DNS labels.
pub fn dns_name(name: &str, used_in: &str, warnings: &mut Vec<String>) {
    let found = names::dns1123_label(name);
    if !name.is_empty() && !found.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            found.join(" ")
        ));
    }
}

/// Warnings of a Pod's spec, in a Pod or in a template.
pub fn of_spec(spec: &Object, path: &Path, warnings: &mut Vec<String>) {
    let old_label = |key: &str| OLD_LABELS.iter().find(|(label, _)| *label == key).map(|(_, words)| *words);
    for (key, _) in object(spec, "nodeSelector").into_iter().flatten() {
        if let Some(words) = old_label(key) {
            warnings.push(format!("{}: {words}", path.child("nodeSelector").key(key)));
        }
    }
    for (i, constraint) in objects(spec, "topologySpreadConstraints") {
        let path = path.child("topologySpreadConstraints").index(i);
        let key = text(constraint, "topologyKey");
        if let Some(words) = old_label(key) {
            warnings.push(format!("{}: {key} is {words}", path.child("topologyKey")));
        }
        if get(constraint, "labelSelector").is_none() {
            let path = path.child("labelSelector");
            warnings.push(format!("{path}: a null labelSelector results in matching no pod"));
        }
    }
    for (i, volume) in objects(spec, "volumes") {
        for (key, words) in OLD_VOLUMES {
            if get(volume, key).is_some() {
                // Upstream spells this one field differently here.
                let key = if key == "storageos" { "storageOS" } else { key };
                warnings.push(format!("{}: {words}", path.child("volumes").index(i).child(key)));
            }
        }
    }
    containers(spec, path, warnings);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let path = path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
}

fn containers(spec: &Object, path: &Path, warnings: &mut Vec<String>) {
    let all = super::defaults::CONTAINER_LISTS
        .into_iter()
        .flat_map(|key| objects(spec, key).map(move |(i, container)| (key, i, container)));
    let at = |key: &str, i: usize| path.child(key).index(i);
    let mut ports: Vec<(&Object, (&str, usize, usize))> = Vec::new();
    for (key, i, container) in all {
        let mut variables: Vec<&str> = Vec::new();
        for (j, variable) in objects(container, "env") {
            let name = text(variable, "name");
            if variables.contains(&name) {
                let extends = get(variable, "valueFrom").is_none() && {
                    let (value, reference) = (text(variable, "value"), format!("$({name})"));
                    value != reference && value.contains(&reference)
                };
                if !extends {
                    let path = at(key, i).child("env").index(j);
                    let words = "which may be dropped when using apply";
                    warnings.push(format!("{path}: hides previous definition of {}, {words}", go_quote(name)));
                }
            }
            variables.push(name);
        }
        for (j, port) in objects(container, "ports") {
            ports.push((port, (key, i, j)));
        }
    }
    let place = |(key, i, j): (&str, usize, usize)| at(key, i).child("ports").index(j);
    for (n, (port, here)) in ports.iter().enumerate() {
        for (other, there) in &ports[..n] {
            if let Some(words) = overlap(port, other) {
                warnings.push(format!("{}: {words} port definition with {}", place(*here), place(*there)));
            }
        }
    }
    for (n, (port, here)) in ports.iter().enumerate() {
        let name = text(port, "name");
        let first = ports[..n].iter().find(|(other, _)| !name.is_empty() && text(other, "name") == name);
        if let Some((_, first)) = first {
            let first = place(*first);
            warnings.push(format!(
                "{}: duplicate port name {} with {first}, services and probes that select ports by name will use {first}",
                place(*here),
                go_quote(name)
            ));
        }
    }
}

fn overlap(port: &Object, other: &Object) -> Option<&'static str> {
    let number = |o: &Object, key: &str| int(o, key).unwrap_or(0);
    let same = |key: &str| number(port, key) == number(other, key);
    if !same("containerPort") || text(port, "protocol") != text(other, "protocol") {
        return None;
    }
    let (ip, other_ip) = (text(port, "hostIP"), text(other, "hostIP"));
    if ip == other_ip && same("hostPort") {
        Some("duplicate")
    } else if number(port, "hostPort") == 0 || number(other, "hostPort") == 0 {
        Some("overlapping")
    } else if same("hostPort") && ip.is_empty() != other_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}
