//! Pods and Pod templates.

use serde_json::{Value, json};

use super::parts::{annotations, controller, labels, labels_and_annotations, tolerations};
use super::text::{Text, is_on, number, or_none, plain, time};
use super::volumes::{mounts, volumes};
use crate::verbs::pods::{items, text};

pub(super) fn pod(out: &mut Text, pod: &Value) {
    super::parts::head(out, pod);
    out.field_of(0, "Priority", pod, "/spec/priority");
    out.field_of(0, "Priority Class Name", pod, "/spec/priorityClassName");
    out.field_of(0, "Runtime Class Name", pod, "/spec/runtimeClassName");
    out.field_of(0, "Service Account", pod, "/spec/serviceAccountName");
    match text(pod, "/spec/nodeName") {
        "" => out.field(0, "Node", "<none>"),
        node => out.field(0, "Node", format!("{node}/{}", text(pod, "/status/hostIP"))),
    }
    if pod.pointer("/status/startTime").is_some() {
        out.field(0, "Start Time", time(pod, "/status/startTime"));
    }
    labels_and_annotations(out, pod);
    status(out, pod);
    out.field_of(0, "SeccompProfile", pod, "/spec/securityContext/seccompProfile/type");
    out.field(0, "IP", text(pod, "/status/podIP"));
    ips(out, pod);
    controller(out, pod);
    out.field_of(0, "NominatedNodeName", pod, "/status/nominatedNodeName");
    let null = Value::Null;
    let spec = pod.get("spec").unwrap_or(&null);
    let of_status = |field: &str| pod.pointer(&format!("/status/{field}"));
    for (title, field, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        if field == "containers" || items(spec, &format!("/{field}")).next().is_some() {
            containers(out, title, spec, field, of_status(statuses), Some(pod), "");
        }
    }
    let mut conditions = items(pod, "/status/conditions").peekable();
    if conditions.peek().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus");
        for condition in conditions {
            out.line(1, format!("{} \t{} ", text(condition, "/type"), text(condition, "/status")));
        }
    }
    volumes(out, spec, "");
    out.field(0, "QoS Class", text(pod, "/status/qosClass"));
    labels(out, "Node-Selectors", spec.get("nodeSelector"));
    tolerations(out, "Tolerations", spec);
    spread(out, spec, "");
}

fn status(out: &mut Text, pod: &Value) {
    let phase = text(pod, "/status/phase");
    let is_over = matches!(phase, "Failed" | "Succeeded");
    match text(pod, "/metadata/deletionTimestamp") {
        deleted if !deleted.is_empty() && !is_over => {
            let lasts = api::printer::since(deleted, jiff::Timestamp::now().as_second());
            out.field(0, "Status", format!("Terminating (lasts {lasts})"));
            let grace = number(pod, "/metadata/deletionGracePeriodSeconds");
            out.field(0, "Termination Grace Period", format!("{grace}s"));
        }
        _ => out.field(0, "Status", phase),
    }
    out.field_of(0, "Reason", pod, "/status/reason");
    out.field_of(0, "Message", pod, "/status/message");
}

fn ips(out: &mut Text, pod: &Value) {
    let mut ips = items(pod, "/status/podIPs").peekable();
    match ips.peek() {
        None => out.field(0, "IPs", "<none>"),
        Some(_) => {
            out.line(0, "IPs:");
            ips.for_each(|ip| out.field(1, "IP", text(ip, "/ip")));
        }
    }
}

fn containers(
    out: &mut Text,
    title: &str,
    spec: &Value,
    field: &str,
    statuses: Option<&Value>,
    pod: Option<&Value>,
    space: &str,
) {
    let mut containers = items(spec, &format!("/{field}")).peekable();
    out.line(0, format!("{space}{title}:{}", if containers.peek().is_none() { " <none>" } else { "" }));
    for container in containers {
        let name = text(container, "/name");
        let mut statuses = statuses.and_then(Value::as_array).into_iter().flatten();
        let status = statuses.find(|status| text(status, "/name") == name);
        out.line(1, format!("{}{name}:", if space.is_empty() { "" } else { " " }));
        basics(out, container, status);
        for (title, member) in [("Command", "/command"), ("Args", "/args")] {
            let mut words = items(container, member).filter_map(Value::as_str).peekable();
            if words.peek().is_some() {
                out.line(2, format!("{title}:"));
                words.flat_map(|word| word.split('\n')).for_each(|line| out.line(3, line));
            }
        }
        if let Some(status) = status {
            state(out, status);
        }
        resources(out, container, 2);
        for (title, member) in
            [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
        {
            if let Some(probe) = container.get(member) {
                out.field(2, title, probe_text(probe));
            }
        }
        environment(out, container, pod);
        mounts(out, container);
    }
}

fn basics(out: &mut Text, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        out.field(2, "Container ID", text(status, "/containerID"));
    }
    out.field(2, "Image", text(container, "/image"));
    if let Some(status) = status {
        out.field(2, "Image ID", text(status, "/imageID"));
    }
    for (title, member) in [("Port", "/containerPort"), ("Host Port", "/hostPort")] {
        let ports = items(container, "/ports").map(|port| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            let shown = format!("{}/{protocol}", number(port, member));
            match text(port, "/name") {
                "" => shown,
                name => format!("{shown} ({name})"),
            }
        });
        let ports: Vec<String> = ports.collect();
        let plural = if ports.len() > 1 { "s" } else { "" };
        out.field(2, &format!("{title}{plural}"), or_none(&ports.join(", ")));
    }
    out.field_of(2, "SeccompProfile", container, "/securityContext/seccompProfile/type");
}

fn state(out: &mut Text, status: &Value) {
    one_state(out, "State", status.get("state"));
    if status.pointer("/lastState/terminated").is_some() {
        one_state(out, "Last State", status.get("lastState"));
    }
    out.field(2, "Ready", if is_on(status, "/ready") { "True" } else { "False" });
    out.field(2, "Restart Count", number(status, "/restartCount").to_string());
}

fn one_state(out: &mut Text, title: &str, state: Option<&Value>) {
    let empty = json!({});
    let state = state.unwrap_or(&empty);
    if let Some(running) = state.get("running") {
        out.field(2, title, "Running");
        out.field(3, "Started", time(running, "/startedAt"));
    } else if let Some(over) = state.get("terminated") {
        out.field(2, title, "Terminated");
        out.field_of(3, "Reason", over, "/reason");
        out.field_of(3, "Message", over, "/message");
        out.field(3, "Exit Code", number(over, "/exitCode").to_string());
        if number(over, "/signal") > 0 {
            out.field_of(3, "Signal", over, "/signal");
        }
        out.field(3, "Started", time(over, "/startedAt"));
        out.field(3, "Finished", time(over, "/finishedAt"));
    } else {
        out.field(2, title, "Waiting");
        out.field_of(3, "Reason", state, "/waiting/reason");
    }
}

pub(super) fn resources(out: &mut Text, container: &Value, depth: usize) {
    for (title, member) in [("Limits", "/resources/limits"), ("Requests", "/resources/requests")] {
        let list = container.pointer(member).and_then(Value::as_object).filter(|list| !list.is_empty());
        let Some(list) = list else { continue };
        out.line(depth, format!("{title}:"));
        for (name, amount) in list {
            out.field(depth + 1, name, plain(amount));
        }
    }
}

fn probe_text(probe: &Value) -> String {
    let number = |pointer: &str, default: i64| probe.pointer(pointer).and_then(Value::as_i64).unwrap_or(default);
    let attributes = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        number("/initialDelaySeconds", 0),
        number("/timeoutSeconds", 0),
        number("/periodSeconds", 0),
        number("/successThreshold", 0),
        number("/failureThreshold", 0)
    );
    let of = |pointer: &str| probe.pointer(pointer).map(plain).unwrap_or_default();
    let what = if probe.get("exec").is_some() {
        let words: Vec<&str> = items(probe, "/exec/command").filter_map(Value::as_str).collect();
        format!("exec [{}]", words.join(" "))
    } else if probe.get("httpGet").is_some() {
        let scheme = of("/httpGet/scheme").to_lowercase();
        format!("http-get {scheme}://{}:{}{}", of("/httpGet/host"), of("/httpGet/port"), of("/httpGet/path"))
    } else if probe.get("tcpSocket").is_some() {
        format!("tcp-socket {}:{}", of("/tcpSocket/host"), of("/tcpSocket/port"))
    } else if probe.get("grpc").is_some() {
        format!("grpc <pod>:{} {}", of("/grpc/port"), of("/grpc/service"))
    } else {
        "unknown".to_owned()
    };
    format!("{what} {attributes}")
}

fn environment(out: &mut Text, container: &Value, pod: Option<&Value>) {
    let mut sources = items(container, "/envFrom").peekable();
    if sources.peek().is_some() {
        out.line(2, "Environment Variables from:");
    }
    for source in sources {
        for (member, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            let Some(reference) = source.get(member) else { continue };
            let prefix = match text(source, "/prefix") {
                "" => String::new(),
                prefix => format!(" with prefix '{prefix}'"),
            };
            let optional = is_on(reference, "/optional");
            out.line(3, format!("{}\t{kind}{prefix}\tOptional: {optional}", text(reference, "/name")));
        }
    }
    let mut variables = items(container, "/env").peekable();
    out.line(2, format!("Environment:{}", if variables.peek().is_none() { "\t<none>" } else { "" }));
    for variable in variables {
        let name = text(variable, "/name");
        let Some(from) = variable.get("valueFrom") else {
            let mut lines = text(variable, "/value").split('\n');
            out.line(3, format!("{name}:\t{}", lines.next().unwrap_or_default()));
            lines.for_each(|line| out.line(3, format!("\t{line}")));
            continue;
        };
        out.line(3, format!("{name}:\t{}", variable_source(from, pod)));
    }
}

fn variable_source(from: &Value, pod: Option<&Value>) -> String {
    if let Some(field) = from.get("fieldRef") {
        let path = text(field, "/fieldPath");
        let value = pod.map(|pod| field_value(pod, path)).unwrap_or_default();
        let version = field.get("apiVersion").and_then(Value::as_str).unwrap_or("v1");
        return format!("{value} ({version}:{path})");
    }
    if let Some(field) = from.get("resourceFieldRef") {
        return format!(" ({})", text(field, "/resource"));
    }
    let key = |reference: &Value| (text(reference, "/key").to_owned(), text(reference, "/name").to_owned());
    if let Some(reference) = from.get("secretKeyRef") {
        let (key, name) = key(reference);
        let optional = is_on(reference, "/optional");
        return format!("<set to the key '{key}' in secret '{name}'>\tOptional: {optional}");
    }
    if let Some(reference) = from.get("configMapKeyRef") {
        let (key, name) = key(reference);
        let optional = is_on(reference, "/optional");
        return format!("<set to the key '{key}' of config map '{name}'>\tOptional: {optional}");
    }
    String::new()
}

/// The value of a field that the downward API gives.
fn field_value(pod: &Value, path: &str) -> String {
    if let Some((map, key)) = path.split_once("['").and_then(|(map, rest)| Some((map, rest.strip_suffix("']")?))) {
        return pod
            .pointer(&format!("/{}", map.replace('.', "/")))
            .and_then(|m| m.get(key))
            .map(plain)
            .unwrap_or_default();
    }
    pod.pointer(&format!("/{}", path.replace('.', "/"))).map(plain).unwrap_or_default()
}

fn spread(out: &mut Text, spec: &Value, space: &str) {
    let mut constraints: Vec<&Value> = items(spec, "/topologySpreadConstraints").collect();
    constraints.sort_by_key(|constraint| text(constraint, "/topologyKey"));
    for (at, constraint) in constraints.iter().enumerate() {
        let title = if at == 0 { "Topology Spread Constraints:" } else { "" };
        let selector = api::labels::Selector::from_label_selector(constraint.get("labelSelector"));
        let selector = match (constraint.get("labelSelector"), selector) {
            (Some(_), Ok(selector)) => format!(" for selector {selector}"),
            _ => String::new(),
        };
        let (key, when) = (text(constraint, "/topologyKey"), text(constraint, "/whenUnsatisfiable"));
        let skew = number(constraint, "/maxSkew");
        out.line(0, format!("{space}{title}\t{key}:{when} when max skew {skew} is exceeded{selector}"));
    }
}

/// The template that a workload's Pods are made from.
pub(super) fn template(out: &mut Text, template: &Value) {
    let null = Value::Null;
    let spec = template.get("spec").unwrap_or(&null);
    out.line(0, "Pod Template:");
    labels(out, "  Labels", template.pointer("/metadata/labels"));
    if template.pointer("/metadata/annotations").and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
        annotations(out, "  Annotations", template.pointer("/metadata/annotations"));
    }
    out.field_of(1, "Service Account", spec, "/serviceAccountName");
    if items(spec, "/initContainers").next().is_some() {
        containers(out, "Init Containers", spec, "initContainers", None, None, "  ");
    }
    containers(out, "Containers", spec, "containers", None, None, "  ");
    volumes(out, spec, "  ");
    spread(out, spec, "  ");
    out.field_of(1, "Priority Class Name", spec, "/priorityClassName");
    labels(out, "  Node-Selectors", spec.get("nodeSelector"));
    tolerations(out, "  Tolerations", spec);
}

/// A template alone, as `rollout history` shows it.
pub(crate) fn template_text(object: &Value) -> String {
    let mut out = Text::default();
    template(&mut out, object);
    // kubectl leaves the tabs of these as they are.
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_and_fields() {
        let probe = json!({
            "httpGet": {"path": "/x", "port": 80, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        });
        let expected = "http-get http://:80/x delay=0s timeout=1s period=10s successThreshold=1 failureThreshold=3";
        assert_eq!(probe_text(&probe), expected);
        let pod = json!({"metadata": {"name": "p", "labels": {"a.b/c": "d"}}});
        assert_eq!(field_value(&pod, "metadata.name"), "p");
        assert_eq!(field_value(&pod, "metadata.labels['a.b/c']"), "d");
    }
}
