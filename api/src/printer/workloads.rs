//! Kinds that run Pods: apps, batch, autoscaling, policy, and replication controllers.

use serde_json::Value;

use super::human;
use super::view::{
    NONE, UNKNOWN, UNSET, age, containers, is_true, labels, list, map, named, number, number_if_set, objects, plain,
    selector, selector_or_empty, size, text, text_or,
};
use crate::Object;
use crate::object::{at, is_terminating, meta_str, str_at};

const TEMPLATE: [&str; 4] = ["spec", "template", "spec", "containers"];

fn counts(object: &Object, paths: &[&[&str]]) -> Vec<Value> {
    paths.iter().map(|path| Value::from(number(object, path))).collect()
}

pub(super) fn deployment(object: &Object, now: i64) -> Vec<Value> {
    let [names, images] = containers(object, &TEMPLATE);
    let (ready, desired) = (number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]));
    vec![
        named(object),
        Value::from(format!("{ready}/{desired}")),
        Value::from(number(object, &["status", "updatedReplicas"])),
        Value::from(number(object, &["status", "availableReplicas"])),
        age(object, now),
        names,
        images,
        selector_or_empty(object, &["spec", "selector"]),
    ]
}

fn replicas(object: &Object, now: i64, selector: Value) -> Vec<Value> {
    let mut cells = vec![named(object)];
    cells.extend(counts(object, &[&["spec", "replicas"], &["status", "replicas"], &["status", "readyReplicas"]]));
    cells.push(age(object, now));
    cells.extend(containers(object, &TEMPLATE));
    cells.push(selector);
    cells
}

pub(super) fn replica_set(object: &Object, now: i64) -> Vec<Value> {
    replicas(object, now, selector(object, &["spec", "selector"]))
}

pub(super) fn replication_controller(object: &Object, now: i64) -> Vec<Value> {
    replicas(object, now, Value::from(labels(map(object, &["spec", "selector"]))))
}

pub(super) fn stateful_set(object: &Object, now: i64) -> Vec<Value> {
    let (ready, desired) = (number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]));
    let mut cells = vec![named(object), Value::from(format!("{ready}/{desired}")), age(object, now)];
    cells.extend(containers(object, &TEMPLATE));
    cells
}

pub(super) fn daemon_set(object: &Object, now: i64) -> Vec<Value> {
    let mut cells = vec![named(object)];
    cells.extend(counts(
        object,
        &[
            &["status", "desiredNumberScheduled"],
            &["status", "currentNumberScheduled"],
            &["status", "numberReady"],
            &["status", "updatedNumberScheduled"],
            &["status", "numberAvailable"],
        ],
    ));
    cells.push(Value::from(labels(map(object, &["spec", "template", "spec", "nodeSelector"]))));
    cells.push(age(object, now));
    cells.extend(containers(object, &TEMPLATE));
    cells.push(selector(object, &["spec", "selector"]));
    cells
}

pub(super) fn controller_revision(object: &Object, now: i64) -> Vec<Value> {
    let mut owners = objects(object, &["metadata", "ownerReferences"]);
    let owner = owners.find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    let controller = owner.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let group = str_at(owner, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
            let kind = str_at(owner, &["kind"]).to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", str_at(owner, &["name"]))
        },
    );
    vec![named(object), Value::from(controller), Value::from(number(object, &["revision"])), age(object, now)]
}

pub(super) fn job(object: &Object, now: i64) -> Vec<Value> {
    let succeeded = number(object, &["status", "succeeded"]);
    let parallelism = number(object, &["spec", "parallelism"]);
    let completions = match number_if_set(object, &["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let (start, end) = (str_at(object, &["status", "startTime"]), str_at(object, &["status", "completionTime"]));
    let duration = human::seconds(start).map(|start| human::seconds(end).unwrap_or(now) - start);
    let states = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    let status = if is_true(object, "Complete") {
        "Complete"
    } else if is_true(object, "Failed") {
        "Failed"
    } else if is_terminating(object) {
        "Terminating"
    } else {
        states.into_iter().find(|state| is_true(object, state)).unwrap_or("Running")
    };
    let [names, images] = containers(object, &TEMPLATE);
    vec![
        named(object),
        Value::from(status),
        Value::from(completions),
        Value::from(duration.map(human::duration).unwrap_or_default()),
        age(object, now),
        names,
        images,
        selector(object, &["spec", "selector"]),
    ]
}

pub(super) fn cron_job(object: &Object, now: i64) -> Vec<Value> {
    let last = str_at(object, &["status", "lastScheduleTime"]);
    let suspend = match at(object, &["spec", "suspend"]).and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => UNSET,
    };
    let template = ["spec", "jobTemplate", "spec", "template", "spec", "containers"];
    let [names, images] = containers(object, &template);
    vec![
        named(object),
        text(object, &["spec", "schedule"]),
        text_or(object, &["spec", "timeZone"], NONE),
        Value::from(suspend),
        size(object, &["status", "active"]),
        Value::from(if last.is_empty() { NONE.to_owned() } else { human::since(last, now) }),
        age(object, now),
        names,
        images,
        selector(object, &["spec", "jobTemplate", "spec", "selector"]),
    ]
}

pub(super) fn pod_disruption_budget(object: &Object, now: i64) -> Vec<Value> {
    let budget = |key: &str| Value::from(plain(at(object, &["spec", key])).unwrap_or_else(|| "N/A".to_owned()));
    vec![
        named(object),
        budget("minAvailable"),
        budget("maxUnavailable"),
        Value::from(number(object, &["status", "disruptionsAllowed"])),
        age(object, now),
    ]
}

/// A metric's current and target value, `cpu: 50%/80%`.
fn metric(spec: &Object, status: Option<&Object>) -> String {
    let ty = str_at(spec, &["type"]);
    let key = match ty {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |field: &str| plain(at(spec, &[key, "target", field]));
    let current = |field: &str| status.and_then(|status| plain(at(status, &[key, "current", field])));
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN.to_owned());
    let resource = str_at(spec, &[key, "name"]);
    let average = target("averageValue");
    match (ty, average) {
        ("Resource" | "ContainerResource", Some(target)) => {
            format!("{resource}: {}/{target}", or_unknown(current("averageValue")))
        }
        ("Resource" | "ContainerResource", None) => {
            let target = target("averageUtilization").map_or_else(|| "<auto>".to_owned(), |t| format!("{t}%"));
            format!("{resource}: {}/{target}", or_unknown(current("averageUtilization").map(|c| format!("{c}%"))))
        }
        ("Pods", target) => format!("{}/{}", or_unknown(current("averageValue")), target.unwrap_or_default()),
        (_, Some(target)) => format!("{}/{target} (avg)", or_unknown(current("averageValue"))),
        (_, None) => format!("{}/{}", or_unknown(current("value")), target("value").unwrap_or_default()),
    }
}

fn metrics(object: &Object) -> String {
    const MOST: usize = 2;
    if let Some(target) = number_if_set(object, &["spec", "targetCPUUtilizationPercentage"]) {
        let current = number_if_set(object, &["status", "currentCPUUtilizationPercentage"]);
        let current = current.map_or_else(|| UNKNOWN.to_owned(), |current| format!("{current}%"));
        return format!("cpu: {current}/{target}%");
    }
    let statuses = list(object, &["status", "currentMetrics"]);
    let specs = objects(object, &["spec", "metrics"]).enumerate();
    let shown: Vec<_> = specs.map(|(i, spec)| metric(spec, statuses.get(i).and_then(Value::as_object))).collect();
    match shown.len() {
        0 => NONE.to_owned(),
        count if count > MOST => format!("{} + {} more...", shown[..MOST].join(", "), count - MOST),
        _ => shown.join(", "),
    }
}

pub(super) fn horizontal_pod_autoscaler(object: &Object, now: i64) -> Vec<Value> {
    let target = |key: &str| str_at(object, &["spec", "scaleTargetRef", key]);
    let minimum = number_if_set(object, &["spec", "minReplicas"]);
    vec![
        Value::from(meta_str(object, "name")),
        Value::from(format!("{}/{}", target("kind"), target("name"))),
        Value::from(metrics(object)),
        Value::from(minimum.map_or_else(|| UNSET.to_owned(), |n| n.to_string())),
        Value::from(number(object, &["spec", "maxReplicas"])),
        Value::from(number(object, &["status", "currentReplicas"])),
        age(object, now),
    ]
}

pub(super) fn scale(object: &Object, now: i64) -> Vec<Value> {
    let mut cells = vec![named(object)];
    cells.extend(counts(object, &[&["spec", "replicas"], &["status", "replicas"]]));
    cells.push(age(object, now));
    cells
}
