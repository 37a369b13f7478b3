//! Access, certificates, admission, flow control, devices and storage versions.

use super::human;
use super::shown::Shown;
use super::view::{
    NONE, UNSET, age, condition, first_of, is_true, joined, labels, list, map, named, number, number_if_set, objects,
    size, text, text_or,
};
use crate::Object;
use crate::object::{is_terminating, str_at};

pub(super) fn role_binding(object: &Object) -> Vec<Shown> {
    let role = format!("{}/{}", str_at(object, &["roleRef", "kind"]), str_at(object, &["roleRef", "name"]));
    let subjects = |kind: &str| {
        let of_kind = objects(object, &["subjects"]).filter(|subject| str_at(subject, &["kind"]) == kind);
        of_kind.collect::<Vec<_>>()
    };
    let names = |kind: &str| Shown::from(joined(subjects(kind).into_iter().map(|s| str_at(s, &["name"])), ", "));
    let accounts: Vec<_> = subjects("ServiceAccount")
        .into_iter()
        .map(|s| format!("{}/{}", str_at(s, &["namespace"]), str_at(s, &["name"])))
        .collect();
    vec![named(object), Shown::from(role), age(object), names("User"), names("Group"), Shown::from(accounts.join(", "))]
}

pub(super) fn certificate_signing_request(object: &Object) -> Vec<Shown> {
    let has = |ty: &str| condition(object, ty).is_some();
    let decision = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let mut status = decision.to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !str_at(object, &["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    let duration = number_if_set(object, &["spec", "expirationSeconds"]);
    vec![
        named(object),
        age(object),
        text_or(object, &["spec", "signerName"], NONE),
        text(object, &["spec", "username"]),
        Shown::from(duration.map_or_else(|| NONE.to_owned(), human::duration)),
        Shown::from(status),
    ]
}

pub(super) fn cluster_trust_bundle(object: &Object) -> Vec<Shown> {
    vec![named(object), text_or(object, &["spec", "signerName"], NONE)]
}

pub(super) fn pod_certificate_request(object: &Object) -> Vec<Shown> {
    let conditions = objects(object, &["status", "conditions"]).map(|condition| str_at(condition, &["type"]));
    let state = conditions.filter(|ty| matches!(*ty, "Issued" | "Denied" | "Failed")).last().unwrap_or("Pending");
    let mut cells = vec![named(object)];
    let fields = ["podName", "serviceAccountName", "nodeName", "signerName"];
    cells.extend(fields.map(|key| text(object, &["spec", key])));
    cells.push(Shown::from(state));
    cells.push(Shown::from(labels(map(object, &["spec", "unverifiedUserAnnotations"]))));
    cells
}

pub(super) fn webhook_configuration(object: &Object) -> Vec<Shown> {
    vec![named(object), size(object, &["webhooks"]), age(object)]
}

fn admission_policy(object: &Object, rules: &str) -> Vec<Shown> {
    let parameters = map(object, &["spec", "paramKind"]).map_or_else(
        || UNSET.to_owned(),
        |kind| format!("{}/{}", str_at(kind, &["apiVersion"]), str_at(kind, &["kind"])),
    );
    vec![named(object), size(object, &["spec", rules]), Shown::from(parameters), age(object)]
}

pub(super) fn validating_policy(object: &Object) -> Vec<Shown> {
    admission_policy(object, "validations")
}

pub(super) fn mutating_policy(object: &Object) -> Vec<Shown> {
    admission_policy(object, "mutations")
}

/// A selector as Go prints the struct, which is what upstream shows here.
fn go_selector(selector: &Object) -> String {
    let mut pairs: Vec<_> = map(selector, &["matchLabels"]).into_iter().flatten().collect();
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or(""))).collect();
    let expression = |e: &Object| {
        let values = joined(super::view::texts(e, &["values"]), " ");
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
            str_at(e, &["key"]),
            str_at(e, &["operator"])
        )
    };
    let expressions: String = objects(selector, &["matchExpressions"]).map(expression).collect();
    let expressions = format!("[]LabelSelectorRequirement{{{expressions}}}");
    format!("&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:{expressions},}}", pairs.join(""))
}

pub(super) fn policy_binding(object: &Object) -> Vec<Shown> {
    let parameter = map(object, &["spec", "paramRef"]).map_or_else(
        || UNSET.to_owned(),
        |reference| match (str_at(reference, &["name"]), str_at(reference, &["namespace"])) {
            ("", _) => map(reference, &["selector"]).map_or_else(|| UNSET.to_owned(), go_selector),
            (name, "") => format!("*/{name}"),
            (name, namespace) => format!("{namespace}/{name}"),
        },
    );
    vec![named(object), text(object, &["spec", "policyName"]), Shown::from(parameter), age(object)]
}

pub(super) fn flow_schema(object: &Object) -> Vec<Shown> {
    let dangling = condition(object, "Dangling").map_or("?", |condition| str_at(condition, &["status"]));
    vec![
        named(object),
        text(object, &["spec", "priorityLevelConfiguration", "name"]),
        Shown::from(number(object, &["spec", "matchingPrecedence"])),
        text_or(object, &["spec", "distinguisherMethod", "type"], NONE),
        age(object),
        Shown::from(dangling),
    ]
}

pub(super) fn priority_level_configuration(object: &Object) -> Vec<Shown> {
    let limited = map(object, &["spec", "limited"]);
    let queuing = limited.and_then(|limited| map(limited, &["limitResponse", "queuing"]));
    let or_none =
        |found: Option<&Object>, key: &str| found.map_or(Shown::from(NONE), |o| Shown::from(number(o, &[key])));
    let mut cells = vec![named(object), text(object, &["spec", "type"]), or_none(limited, "nominalConcurrencyShares")];
    cells.extend(["queues", "handSize", "queueLengthLimit"].map(|key| or_none(queuing, key)));
    cells.push(age(object));
    cells
}

pub(super) fn storage_version(object: &Object) -> Vec<Shown> {
    let version = |v: &Object| format!("{}={}", str_at(v, &["apiServerID"]), str_at(v, &["encodingVersion"]));
    let versions: Vec<_> = objects(object, &["status", "storageVersions"]).map(version).collect();
    vec![
        named(object),
        text_or(object, &["status", "commonEncodingVersion"], UNSET),
        Shown::from(first_of(&versions, 3, UNSET)),
        age(object),
    ]
}

pub(super) fn storage_version_migration(object: &Object) -> Vec<Shown> {
    let part = |key: &str| str_at(object, &["spec", "resource", key]);
    let dot = if part("group").is_empty() { "" } else { "." };
    let running = objects(object, &["status", "conditions"])
        .filter(|condition| str_at(condition, &["status"]) == "True")
        .map(|condition| str_at(condition, &["type"]))
        .filter(|ty| matches!(*ty, "Running" | "Failed" | "Succeeded"));
    let resource = format!("{}{dot}{}", part("resource"), part("group"));
    vec![named(object), Shown::from(resource), Shown::from(running.last().unwrap_or("Unknown"))]
}

pub(super) fn resource_claim(object: &Object) -> Vec<Shown> {
    let mut states = Vec::new();
    if is_terminating(object) {
        states.push("deleted");
    }
    if map(object, &["status", "allocation"]).is_some() {
        states.push("allocated");
        if !list(object, &["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if states.is_empty() {
        states.push("pending");
    }
    vec![named(object), Shown::from(states.join(",")), age(object)]
}

pub(super) fn resource_slice(object: &Object) -> Vec<Shown> {
    vec![
        named(object),
        text(object, &["spec", "nodeName"]),
        text(object, &["spec", "driver"]),
        text(object, &["spec", "pool", "name"]),
        age(object),
    ]
}

pub(super) fn device_taint_rule(object: &Object) -> Vec<Shown> {
    let added = str_at(object, &["spec", "taint", "timeAdded"]);
    let mut cells = vec![named(object)];
    cells.extend(["key", "value", "effect"].map(|key| text(object, &["spec", "taint", key])));
    cells.push(if added.is_empty() { Shown::from("") } else { Shown::since(added) });
    cells.push(age(object));
    cells
}

pub(super) fn resource_pool_status_request(object: &Object) -> Vec<Shown> {
    let (is_complete, is_failed) = (is_true(object, "Complete"), is_true(object, "Failed"));
    let pools = list(object, &["status", "pools"]).len();
    let count = number(object, &["status", "poolCount"]);
    let status = match (is_complete, is_failed) {
        (true, _) if usize::try_from(count).is_ok_and(|count| count > pools) => {
            format!("Complete ({pools}/{count} pools)")
        }
        (true, _) => "Complete".to_owned(),
        (false, true) => "Failed".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    let has_counts = map(object, &["status"]).is_some_and(|status| !status.is_empty()) && (is_complete || !is_failed);
    let sum = |key: &str| objects(object, &["status", "pools"]).map(|pool| number(pool, &[key])).sum::<i64>();
    let shown = |value: i64| Shown::from(if has_counts { value.to_string() } else { "-".to_owned() });
    let errors = objects(object, &["status", "pools"]).filter(|pool| pool.contains_key("validationError")).count();
    let completed = condition(object, "Complete").filter(|_| is_complete);
    let completed = completed.map(|condition| Shown::since(str_at(condition, &["lastTransitionTime"])));
    let mut cells = vec![named(object), text(object, &["spec", "driver"])];
    let devices = ["totalDevices", "availableDevices", "allocatedDevices", "unavailableDevices"];
    cells.extend(devices.map(|key| shown(sum(key))));
    cells.push(shown(i64::try_from(errors).unwrap_or(i64::MAX)));
    cells.push(Shown::from(count));
    cells.push(Shown::from(status));
    cells.push(completed.unwrap_or_else(|| Shown::from(NONE)));
    cells
}
