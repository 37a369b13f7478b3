//! Quotas, disruption budgets, priority classes, cron jobs, and the addresses behind Services.

use serde_json::Value;

use super::name_of;
use super::parts::{annotations, head, inline_labels, labels_and_annotations};
use super::pod::template;
use super::text::{Text, is_on, number, or_none, plain, time};
use crate::verbs::pods::{items, text};

/// What a scope of a quota chooses.
const SCOPES: [(&str, &str); 4] = [
    (
        "Terminating",
        "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being \
         actively terminated by the system.",
    ),
    (
        "NotTerminating",
        "Matches all pods that do not have an active deadline. These pods usually include long running pods whose \
         container command is not expected to terminate.",
    ),
    (
        "BestEffort",
        "Matches all pods that do not have resource requirements set. These pods have a best effort quality of \
         service.",
    ),
    (
        "NotBestEffort",
        "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed \
         quality of service.",
    ),
];

pub(super) fn quota(out: &mut Text, object: &Value) {
    head(out, object);
    let mut scopes: Vec<&str> = items(object, "/spec/scopes").filter_map(Value::as_str).collect();
    scopes.sort_unstable();
    if !scopes.is_empty() {
        out.field(0, "Scopes", scopes.join(", "));
    }
    for (_, meaning) in SCOPES.iter().filter(|(scope, _)| scopes.contains(scope)) {
        out.line(0, format!(" * {meaning}"));
    }
    out.line(0, "Resource\tUsed\tHard\n--------\t----\t----");
    for (resource, hard) in object.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten() {
        let used = object.pointer("/status/used").and_then(|used| used.get(resource)).map_or("0".to_owned(), plain);
        out.line(0, format!("{resource}\t{used}\t{}", plain(hard)));
    }
}

pub(super) fn disruption_budget(out: &mut Text, object: &Value) {
    head(out, object);
    out.field_of(0, "Min available", object, "/spec/minAvailable");
    out.field_of(0, "Max unavailable", object, "/spec/maxUnavailable");
    match api::labels::Selector::from_label_selector(object.pointer("/spec/selector")) {
        Ok(selector) if object.pointer("/spec/selector").is_some() => out.field(0, "Selector", selector.to_string()),
        _ => out.field(0, "Selector", "<unset>"),
    }
    out.line(0, "Status:");
    for (title, field) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        out.field(2, title, number(object, &format!("/status/{field}")).to_string());
    }
}

pub(super) fn priority_class(out: &mut Text, object: &Value) {
    out.field(0, "Name", name_of(object));
    out.field(0, "Value", number(object, "/value").to_string());
    out.field(0, "GlobalDefault", is_on(object, "/globalDefault").to_string());
    out.field(0, "PreemptionPolicy", text(object, "/preemptionPolicy"));
    out.field(0, "Description", text(object, "/description"));
    annotations(out, "Annotations", object.pointer("/metadata/annotations"));
}

pub(super) fn cron_job(out: &mut Text, object: &Value) {
    let or_unset = |pointer: &str| object.pointer(pointer).map_or("<unset>".to_owned(), plain);
    head(out, object);
    labels_and_annotations(out, object);
    out.field(0, "Schedule", text(object, "/spec/schedule"));
    out.field(0, "Concurrency Policy", text(object, "/spec/concurrencyPolicy"));
    out.field(0, "Suspend", if is_on(object, "/spec/suspend") { "True" } else { "False" });
    out.field(0, "Time Zone", or_unset("/spec/timeZone"));
    out.field(0, "Successful Job History Limit", or_unset("/spec/successfulJobsHistoryLimit"));
    out.field(0, "Failed Job History Limit", or_unset("/spec/failedJobsHistoryLimit"));
    let deadline = object.pointer("/spec/startingDeadlineSeconds");
    out.field(0, "Starting Deadline Seconds", deadline.map_or("<unset>".to_owned(), |s| format!("{}s", plain(s))));
    out.field(
        0,
        "Selector",
        match object.pointer("/spec/jobTemplate/spec/selector") {
            Some(selector) => inline_labels(selector.get("matchLabels")),
            None => "<unset>".to_owned(),
        },
    );
    out.field(0, "Parallelism", or_unset("/spec/jobTemplate/spec/parallelism"));
    out.field(0, "Completions", or_unset("/spec/jobTemplate/spec/completions"));
    if let Some(seconds) = object.pointer("/spec/jobTemplate/spec/activeDeadlineSeconds") {
        out.field(0, "Active Deadline Seconds", format!("{}s", plain(seconds)));
    }
    template(out, object.pointer("/spec/jobTemplate/spec/template").unwrap_or(&Value::Null));
    let last = object.pointer("/status/lastScheduleTime");
    out.field(
        0,
        "Last Schedule Time",
        match last {
            Some(_) => time(object, "/status/lastScheduleTime"),
            None => "<unset>".to_owned(),
        },
    );
    let active: Vec<&str> = items(object, "/status/active").map(|job| text(job, "/name")).collect();
    out.field(0, "Active Jobs", or_none(&active.join(", ")));
}

pub(super) fn endpoints(out: &mut Text, object: &Value) {
    head(out, object);
    labels_and_annotations(out, object);
    out.line(0, "Subsets:");
    for subset in items(object, "/subsets") {
        let addresses = |pointer: &str| {
            let all: Vec<&str> = items(subset, pointer).map(|address| text(address, "/ip")).collect();
            or_none(&all.join(",")).to_owned()
        };
        out.field(1, "Addresses", addresses("/addresses"));
        out.field(1, "NotReadyAddresses", addresses("/notReadyAddresses"));
        let mut ports = items(subset, "/ports").peekable();
        if ports.peek().is_some() {
            out.line(1, "Ports:\n    Name\tPort\tProtocol\n    ----\t----\t--------");
        }
        ports.for_each(|port| out.line(2, port_line(port)));
        out.line(0, "");
    }
}

/// Name, number and protocol of an endpoint's port.
fn port_line(port: &Value) -> String {
    let name = text(port, "/name");
    let number = port.get("port").map_or("<unset>".to_owned(), plain);
    format!("{}\t{number}\t{}", if name.is_empty() { "<unset>" } else { name }, text(port, "/protocol"))
}

pub(super) fn endpoint_slice(out: &mut Text, object: &Value) {
    head(out, object);
    labels_and_annotations(out, object);
    out.field(0, "AddressType", text(object, "/addressType"));
    let mut ports = items(object, "/ports").peekable();
    match ports.peek() {
        None => out.line(0, "Ports: <unset>"),
        Some(_) => out.line(0, "Ports:\n  Name\tPort\tProtocol\n  ----\t----\t--------"),
    }
    ports.for_each(|port| out.line(1, port_line(port)));
    let mut endpoints = items(object, "/endpoints").peekable();
    match endpoints.peek() {
        None => out.line(0, "Endpoints: <none>"),
        Some(_) => out.line(0, "Endpoints:"),
    }
    for endpoint in endpoints {
        let addresses: Vec<&str> = items(endpoint, "/addresses").filter_map(Value::as_str).collect();
        out.field(1, "- Addresses", addresses.join(", "));
        let or_unset = |pointer: &str| endpoint.pointer(pointer).map_or("<unset>".to_owned(), plain);
        out.line(2, "Conditions:");
        out.field(3, "Ready", or_unset("/conditions/ready"));
        out.field(2, "Hostname", or_unset("/hostname"));
        if let Some(target) = endpoint.get("targetRef") {
            out.field(2, "TargetRef", format!("{}/{}", text(target, "/kind"), text(target, "/name")));
        }
        out.field(2, "NodeName", or_unset("/nodeName"));
        out.field(2, "Zone", or_unset("/zone"));
        let topology = endpoint.get("deprecatedTopology").and_then(Value::as_object);
        if let Some(topology) = topology.filter(|topology| !topology.is_empty()) {
            let pairs = topology.iter().map(|(key, value)| format!("{key}={}", plain(value)));
            out.values("    Topology", pairs);
        }
    }
}
