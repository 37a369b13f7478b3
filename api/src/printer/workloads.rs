//! Kinds that run Pods: apps, batch, autoscaling, policy, and replication controllers.

use serde_json::Value;

use super::human;
use super::shown::Shown;
use super::view::{
    NONE, UNKNOWN, UNSET, age, containers, is_true, labels, list, map, named, number, number_if_set, objects, plain,
    selector, selector_or_empty, size, text, text_or,
};
use crate::Object;
use crate::object::{at, is_terminating, meta_str, str_at};

const TEMPLATE: [&str; 4] = ["spec", "template", "spec", "containers"];

fn counts(object: &Object, paths: &[&[&str]]) -> Vec<Shown> {
    paths.iter().map(|path| Shown::from(number(object, path))).collect()
}

pub(super) fn deployment(object: &Object) -> Vec<Shown> {
    let [names, images] = containers(object, &TEMPLATE);
    let (ready, desired) = (number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]));
    vec![
        named(object),
        Shown::from(format!("{ready}/{desired}")),
        Shown::from(number(object, &["status", "updatedReplicas"])),
        Shown::from(number(object, &["status", "availableReplicas"])),
        age(object),
        names,
        images,
        selector_or_empty(object, &["spec", "selector"]),
    ]
}

fn replicas(object: &Object, selector: Shown) -> Vec<Shown> {
    let mut cells = vec![named(object)];
    cells.extend(counts(object, &[&["spec", "replicas"], &["status", "replicas"], &["status", "readyReplicas"]]));
    cells.push(age(object));
    cells.extend(containers(object, &TEMPLATE));
    cells.push(selector);
    cells
}

pub(super) fn replica_set(object: &Object) -> Vec<Shown> {
    replicas(object, selector(object, &["spec", "selector"]))
}

pub(super) fn replication_controller(object: &Object) -> Vec<Shown> {
    replicas(object, Shown::from(labels(map(object, &["spec", "selector"]))))
}

pub(super) fn stateful_set(object: &Object) -> Vec<Shown> {
    let (ready, desired) = (number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]));
    let mut cells = vec![named(object), Shown::from(format!("{ready}/{desired}")), age(object)];
    cells.extend(containers(object, &TEMPLATE));
    cells
}

pub(super) fn daemon_set(object: &Object) -> Vec<Shown> {
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
    cells.push(Shown::from(labels(map(object, &["spec", "template", "spec", "nodeSelector"]))));
    cells.push(age(object));
    cells.extend(containers(object, &TEMPLATE));
    cells.push(selector(object, &["spec", "selector"]));
    cells
}

pub(super) fn controller_revision(object: &Object) -> Vec<Shown> {
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
    vec![named(object), Shown::from(controller), Shown::from(number(object, &["revision"])), age(object)]
}

pub(super) fn job(object: &Object) -> Vec<Shown> {
    let succeeded = number(object, &["status", "succeeded"]);
    let parallelism = number(object, &["spec", "parallelism"]);
    let completions = match number_if_set(object, &["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let (start, end) = (str_at(object, &["status", "startTime"]), str_at(object, &["status", "completionTime"]));
    let duration = match (human::seconds(start), human::seconds(end)) {
        (None, _) => Shown::from(""),
        (Some(start), None) => Shown::age(start),
        (Some(start), Some(end)) => Shown::from(human::duration(end - start)),
    };
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
        Shown::from(status),
        Shown::from(completions),
        duration,
        age(object),
        names,
        images,
        selector(object, &["spec", "selector"]),
    ]
}

pub(super) fn cron_job(object: &Object) -> Vec<Shown> {
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
        Shown::from(suspend),
        size(object, &["status", "active"]),
        if last.is_empty() { Shown::from(NONE) } else { Shown::since(last) },
        age(object),
        names,
        images,
        selector(object, &["spec", "jobTemplate", "spec", "selector"]),
    ]
}

pub(super) fn pod_disruption_budget(object: &Object) -> Vec<Shown> {
    let budget = |key: &str| Shown::from(plain(at(object, &["spec", key])).unwrap_or_else(|| "N/A".to_owned()));
    vec![
        named(object),
        budget("minAvailable"),
        budget("maxUnavailable"),
        Shown::from(number(object, &["status", "disruptionsAllowed"])),
        age(object),
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

pub(super) fn horizontal_pod_autoscaler(object: &Object) -> Vec<Shown> {
    let target = |key: &str| str_at(object, &["spec", "scaleTargetRef", key]);
    let minimum = number_if_set(object, &["spec", "minReplicas"]);
    vec![
        Shown::from(meta_str(object, "name")),
        Shown::from(format!("{}/{}", target("kind"), target("name"))),
        Shown::from(metrics(object)),
        Shown::from(minimum.map_or_else(|| UNSET.to_owned(), |n| n.to_string())),
        Shown::from(number(object, &["spec", "maxReplicas"])),
        Shown::from(number(object, &["status", "currentReplicas"])),
        age(object),
    ]
}

pub(super) fn scale(object: &Object) -> Vec<Shown> {
    let mut cells = vec![named(object)];
    cells.extend(counts(object, &[&["spec", "replicas"], &["status", "replicas"]]));
    cells.push(age(object));
    cells
}
