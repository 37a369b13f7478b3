//! Services and Ingresses.

use serde_json::Value;

use super::parts::{annotations, head, inline_labels, labels, labels_and_annotations};
use super::text::{Text, number, or_none, plain};
use super::{Subject, list};
use crate::session::Query;
use crate::verbs::pods::{items, text};

/// Addresses that are shown of a port.
const SHOWN: usize = 3;

pub(super) async fn service(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    head(out, object);
    labels_and_annotations(out, object);
    out.field(0, "Selector", inline_labels(object.pointer("/spec/selector")));
    out.field(0, "Type", text(object, "/spec/type"));
    out.field_of(0, "IP Family Policy", object, "/spec/ipFamilyPolicy");
    let joined = |pointer: &str| object.pointer(pointer).map(plain).unwrap_or_default();
    out.field(0, "IP Families", or_none(&joined("/spec/ipFamilies")));
    out.field(0, "IP", text(object, "/spec/clusterIP"));
    out.field(0, "IPs", or_none(&joined("/spec/clusterIPs")));
    out.field_of(0, "External IPs", object, "/spec/externalIPs");
    out.field_of(0, "Desired LoadBalancer IP", object, "/spec/loadBalancerIP");
    out.field_of(0, "External Name", object, "/spec/externalName");
    let ingress: Vec<String> = items(object, "/status/loadBalancer/ingress").map(address).collect();
    if !ingress.is_empty() {
        out.field(0, "LoadBalancer Ingress", ingress.join(", "));
    }
    let slices = slices(subject, subject.name).await;
    for port in items(object, "/spec/ports") {
        let name = text(port, "/name");
        let shown = if name.is_empty() { "<unset>" } else { name };
        let protocol = text(port, "/protocol");
        out.field(0, "Port", format!("{shown}\t{}/{protocol}", number(port, "/port")));
        out.field(0, "TargetPort", format!("{}/{protocol}", port.get("targetPort").map(plain).unwrap_or_default()));
        out.field_of(0, "AppProtocol", port, "/appProtocol");
        if number(port, "/nodePort") != 0 {
            out.field(0, "NodePort", format!("{shown}\t{}/{protocol}", number(port, "/nodePort")));
        }
        out.field(0, "Endpoints", endpoints(&slices, name));
    }
    out.field(0, "Session Affinity", text(object, "/spec/sessionAffinity"));
    out.field_of(0, "External Traffic Policy", object, "/spec/externalTrafficPolicy");
    out.field_of(0, "Internal Traffic Policy", object, "/spec/internalTrafficPolicy");
    if number(object, "/spec/healthCheckNodePort") != 0 {
        out.field_of(0, "HealthCheck NodePort", object, "/spec/healthCheckNodePort");
    }
    out.field_of(0, "LoadBalancer Source Ranges", object, "/spec/loadBalancerSourceRanges");
    out.field_of(0, "Traffic Distribution", object, "/spec/trafficDistribution");
}

/// `1.2.3.4 (VIP)`, or a host name.
fn address(ingress: &Value) -> String {
    match (text(ingress, "/ip"), text(ingress, "/ipMode")) {
        ("", _) => text(ingress, "/hostname").to_owned(),
        (ip, "") => ip.to_owned(),
        (ip, mode) => format!("{ip} ({mode})"),
    }
}

async fn slices(subject: &Subject<'_>, service: &str) -> Vec<Value> {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", subject.namespace);
    let query = Query::new().with("labelSelector", format!("kubernetes.io/service-name={service}"));
    // Without the right to read them there are none to show.
    list(subject.session, &path, query).await.unwrap_or_default()
}

/// The addresses behind a port of a Service.
fn endpoints(slices: &[Value], name: &str) -> String {
    let mut found = Vec::new();
    for slice in slices {
        for port in items(slice, "/ports").filter(|port| text(port, "/name") == name) {
            for endpoint in items(slice, "/endpoints") {
                if endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
                    continue;
                }
                for address in items(endpoint, "/addresses").filter_map(Value::as_str) {
                    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                    found.push(format!("{address}:{}", number(port, "/port")));
                }
            }
        }
    }
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let shown = found.join(",");
    if more > 0 { format!("{shown} + {more} more...") } else { shown }
}

pub(super) async fn ingress(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field(0, "Name", subject.name);
    labels(out, "Labels", object.pointer("/metadata/labels"));
    out.field(0, "Namespace", subject.namespace);
    let addresses: Vec<String> = items(object, "/status/loadBalancer/ingress").map(address).collect();
    out.field(0, "Address", addresses.join(","));
    out.field(0, "Ingress Class", or_none(text(object, "/spec/ingressClassName")));
    let default = match object.pointer("/spec/defaultBackend") {
        Some(backend) => self::backend(subject, backend).await,
        None => "<default>".to_owned(),
    };
    out.field(0, "Default backend", &default);
    let mut tls = items(object, "/spec/tls").peekable();
    if tls.peek().is_some() {
        out.line(0, "TLS:");
    }
    for one in tls {
        let hosts = one.get("hosts").map(plain).unwrap_or_default();
        out.line(
            1,
            match text(one, "/secretName") {
                "" => format!("SNI routes {hosts}"),
                secret => format!("{secret} terminates {hosts}"),
            },
        );
    }
    out.line(0, "Rules:\n  Host\tPath\tBackends\n  ----\t----\t--------");
    let mut has_rules = false;
    for rule in items(object, "/spec/rules").filter(|rule| rule.get("http").is_some()) {
        has_rules = true;
        let host = text(rule, "/host");
        out.line(1, format!("{}\t", if host.is_empty() { "*" } else { host }));
        for path in items(rule, "/http/paths") {
            let backend = self::backend(subject, path.get("backend").unwrap_or(&Value::Null)).await;
            out.line(2, format!("\t{} \t{backend}", text(path, "/path")));
        }
    }
    if !has_rules {
        out.line(1, format!("*\t*\t{default}"));
    }
    annotations(out, "Annotations", object.pointer("/metadata/annotations"));
}

/// `web:80 (10.244.0.5:8080)`
async fn backend(subject: &Subject<'_>, backend: &Value) -> String {
    if let Some(resource) = backend.get("resource") {
        let group = or_none(text(resource, "/apiGroup"));
        return format!("APIGroup: {group}, Kind: {}, Name: {}", text(resource, "/kind"), text(resource, "/name"));
    }
    let name = text(backend, "/service/name");
    let wanted = match backend.pointer("/service/port/number") {
        Some(number) => number.to_string(),
        None => text(backend, "/service/port/name").to_owned(),
    };
    let path = format!("/api/v1/namespaces/{}/services/{name}", subject.namespace);
    let service = match subject.session.get(&path).await {
        Ok(service) => service,
        Err(error) => return format!("{name}:{wanted} (<error: {error}>)"),
    };
    let port = items(&service, "/spec/ports").find(|port| {
        number(port, "/port").to_string() == wanted || (text(port, "/name") == wanted && !wanted.is_empty())
    });
    let slices = slices(subject, name).await;
    let port_name = port.map(|port| text(port, "/name")).unwrap_or_default();
    format!("{name}:{wanted} ({})", endpoints(&slices, port_name))
}
