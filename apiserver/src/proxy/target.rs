//! Where a forwarded request goes.

use std::net::IpAddr;

use api::{ErrorList, FieldError, Gvk, Object, Path, Reason, Status, object};
use serde_json::Value;

use crate::http::params::{number, pairs};
use crate::pipeline::Call;

/// Default port of kubelets.
const KUBELET_PORT: u64 = 10250;

/// Address and path of a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// TLS towards something whose certificate nobody vouches for (a Pod).
    Https,
    /// TLS with the API server's client certificate.
    Kubelet,
}

/// The target of a connection to an object.
pub fn of(call: &Call<'_>, object: &Object, query: &str, rest: &str) -> Result<Target, Status> {
    match (call.row.gvr.resource.as_str(), call.subresource) {
        ("pods", "proxy") => pod_proxy(call, object, query, rest),
        ("pods", kind) => pod(call, object, kind, query),
        ("nodes", _) => {
            let (host, port) = kubelet(object)?;
            Ok(Target { scheme: Scheme::Kubelet, host, port, path: with_query(&format!("/{rest}"), query) })
        }
        ("services", _) => service_proxy(call, object, query, rest),
        (resource, _) => Err(Status::method_not_allowed(&call.row.gvr.group, resource, call.verb)),
    }
}

/// A node's kubelet: its internal address and port.
pub(super) fn kubelet(node: &Object) -> Result<(String, u16), Status> {
    let addresses = object::at(node, &["status", "addresses"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let of_type = |wanted: &str| {
        addresses.iter().find(|a| a["type"] == wanted).and_then(|a| a["address"].as_str()).map(str::to_owned)
    };
    let host = of_type("InternalIP").or_else(|| of_type("Hostname")).or_else(|| of_type("ExternalIP"));
    let known = || Value::from(addresses.clone());
    let host =
        host.ok_or_else(|| Status::unexpected(format!("no preferred addresses found; known addresses: {}", known())))?;
    let port = object::at(node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_u64);
    Ok((host, u16::try_from(port.filter(|p| *p > 0).unwrap_or(KUBELET_PORT)).unwrap_or(10250)))
}

fn with_query(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

fn pod(call: &Call<'_>, pod: &Object, kind: &str, query: &str) -> Result<Target, Status> {
    let asked = pairs(query).find(|(k, _)| k == "container").map(|(_, v)| v.into_owned()).unwrap_or_default();
    let container = if kind == "portforward" { String::new() } else { container(pod, &asked)? };
    let node = object::str_at(pod, &["spec", "nodeName"]);
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    if kind == "log" {
        log_options(name, query)?;
    }
    if node.is_empty() {
        let why = format!("pod {name} does not have a host assigned");
        return Err(Status::bad_request(why));
    }
    let gvr = &apiserver_auth::objects::NODES;
    let found = apiserver_auth::Objects::get(&**call.server, gvr, "", node);
    let found = found.ok_or_else(|| Status::not_found("", "nodes", node))?;
    let (host, port) = kubelet(&found)?;
    let path = match kind {
        "log" => with_query(&format!("/containerLogs/{namespace}/{name}/{container}"), &log_query(query)),
        "exec" => with_query(&format!("/exec/{namespace}/{name}/{container}"), &stream_query(query)),
        "attach" => with_query(&format!("/attach/{namespace}/{name}/{container}"), &stream_query(query)),
        _ => with_query(&format!("/portForward/{namespace}/{name}"), &port_query(query)),
    };
    Ok(Target { scheme: Scheme::Kubelet, host, port, path })
}

/// The container that is meant: the one asked for, which must exist, or the only one, or the annotated default.
fn container(pod: &Object, asked: &str) -> Result<String, Status> {
    let names = |key: &str| -> Vec<String> {
        let list = object::at(pod, &["spec", key]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (own, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let name = object::name(pod);
    if !asked.is_empty() {
        if own.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    let annotated = object::str_at(pod, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    if own.iter().any(|c| c == annotated) {
        return Ok(annotated.to_owned());
    }
    match &own[..] {
        [one] => Ok(one.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut text =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(text))
        }
    }
}

/// What cannot be asked of logs (upstream's `ValidatePodLogOptions`).
fn log_options(pod: &str, query: &str) -> Result<(), Status> {
    let mut errors = ErrorList::new();
    let mut since = 0;
    for (key, value) in pairs(query) {
        let low = match &*key {
            "tailLines" => 0,
            "limitBytes" | "sinceSeconds" => 1,
            _ => {
                since += i32::from(key == "sinceTime");
                continue;
            }
        };
        since += i32::from(key == "sinceSeconds");
        let number = number(&value)?;
        if number < low {
            let why = format!("must be greater than {}", if low == 0 { "or equal to 0" } else { "0" });
            errors.push(FieldError::invalid(&Path::new(&key), number, why));
        }
    }
    if since > 1 {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::empty_name(), why));
    }
    let gvk = Gvk::new("", "v1", "PodLogOptions");
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&gvk, pod, &errors)) }
}

/// Query parameters that go on to the kubelet under their own names.
fn kept(query: &str, names: &[&str]) -> String {
    let mut out = String::new();
    for pair in query.split('&') {
        let key = pair.split('=').next().unwrap_or("");
        if names.contains(&key) {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(pair);
        }
    }
    out
}

fn log_query(query: &str) -> String {
    kept(query, &["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"])
}

/// exec's and attach's parameters as kubelets name them.
fn stream_query(query: &str) -> String {
    let mut out = kept(query, &["command", "tty"]);
    let on = |name: &str| pairs(query).any(|(k, v)| k == name && (v == "true" || v == "1"));
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error")] {
        if on(ours) {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(theirs);
            out.push_str("=1");
        }
    }
    out.replace("tty=true", "tty=1").replace("tty=false", "tty=0")
}

fn port_query(query: &str) -> String {
    let ports: Vec<String> = pairs(query).filter(|(k, _)| k == "ports").map(|(_, v)| format!("port={v}")).collect();
    ports.join("&")
}

/// `[SCHEME:]NAME[:PORT]` of a proxied name, taken apart.
fn proxied(name: &str) -> (Scheme, &str, &str) {
    let mut parts: Vec<&str> = name.split(':').collect();
    let scheme = match parts.first() {
        Some(&"https") if parts.len() > 1 => Scheme::Https,
        _ => Scheme::Http,
    };
    if parts.len() == 3 || (parts.len() == 2 && matches!(parts.first(), Some(&"https" | &"http"))) {
        parts.remove(0);
    }
    (scheme, parts.first().copied().unwrap_or(""), parts.get(1).copied().unwrap_or(""))
}

/// The name of the object that a request means: proxied names carry scheme and port.
pub fn object_name<'c>(call: &'c Call<'_>) -> &'c str {
    let plain = call.subresource != "proxy" || call.row.gvr.resource == "nodes";
    if plain { call.name } else { proxied(call.name).1 }
}

fn unavailable(text: String) -> Status {
    Status::failure(Reason::ServiceUnavailable, text)
}

fn pod_proxy(call: &Call<'_>, pod: &Object, query: &str, rest: &str) -> Result<Target, Status> {
    let (scheme, _, port) = proxied(call.name);
    let host = object::str_at(pod, &["status", "podIP"]);
    check_address(host)?;
    let port = match port {
        "" => first_port(pod).unwrap_or(80),
        text => text.parse().map_err(|_| Status::bad_request(format!("invalid port {text:?}")))?,
    };
    Ok(Target { scheme, host: host.to_owned(), port, path: with_query(&format!("/{rest}"), query) })
}

fn first_port(pod: &Object) -> Option<u16> {
    let containers = object::at(pod, &["spec", "containers"])?.as_array()?;
    let port = containers.iter().find_map(|c| c.get("ports")?.as_array()?.first()?.get("containerPort")?.as_u64())?;
    u16::try_from(port).ok()
}

/// Loopback and link-local addresses are the server's own and never proxied to.
fn check_address(host: &str) -> Result<(), Status> {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified() => Ok(()),
        Ok(IpAddr::V6(ip)) if !ip.is_loopback() && !ip.is_unspecified() => Ok(()),
        _ => Err(Status::bad_request("address not allowed")),
    }
}

/// A ready endpoint of the Service, one of them at random.
fn service_proxy(call: &Call<'_>, service: &Object, query: &str, rest: &str) -> Result<Target, Status> {
    let (scheme, name, port) = proxied(call.name);
    let ports = object::at(service, &["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = match (port, &ports[..]) {
        ("", [one]) => Some(one),
        ("", many) => many.iter().find(|p| p["name"].as_str().unwrap_or("").is_empty()),
        (text, many) => many.iter().find(|p| p["name"] == text || p["port"].as_u64() == text.parse().ok()),
    };
    let gvr = api::Gvr::new("discovery.k8s.io", "v1", "endpointslices");
    let mut slices = apiserver_auth::Objects::list(&**call.server, &gvr, call.namespace);
    slices.retain(|slice| object::str_at(slice, &["metadata", "labels", "kubernetes.io/service-name"]) == name);
    if slices.is_empty() {
        return Err(Status::not_found("", "services", name));
    }
    let none = || unavailable(format!("no service port {port:?} found for service {name:?}"));
    let port_name = wanted.ok_or_else(none)?["name"].as_str().unwrap_or("");
    let found: Vec<_> = slices.iter().flat_map(|slice| endpoints(slice, port_name)).collect();
    let random = uuid::Uuid::new_v4().as_u128() as usize;
    let Some((host, port)) = found.get(random % found.len().max(1)) else {
        return Err(unavailable(format!("no endpoints available for service {name:?}")));
    };
    let path = with_query(&format!("/{rest}"), query);
    Ok(Target { scheme, host: host.clone(), port: *port, path })
}

fn endpoints(slice: &Object, port_name: &str) -> Vec<(String, u16)> {
    let array = |key: &str| slice.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let port =
        array("ports").iter().find(|p| p["name"].as_str().unwrap_or("") == port_name).and_then(|p| p["port"].as_u64());
    let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { return Vec::new() };
    let ready = |e: &&Value| e["conditions"]["ready"].as_bool().unwrap_or(true);
    array("endpoints")
        .iter()
        .filter(ready)
        .filter_map(|e| e["addresses"].as_array()?.first()?.as_str().map(|a| (a.to_owned(), port)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_parameters_get_the_kubelets_names() {
        let query = "command=sh&command=-c&container=c&stdin=true&stdout=true&tty=true";
        assert_eq!(stream_query(query), "command=sh&command=-c&tty=1&input=1&output=1");
        assert_eq!(log_query("follow=true&container=x&tailLines=5"), "follow=true&tailLines=5");
    }

    #[test]
    fn proxied_names() {
        assert_eq!(proxied("web"), (Scheme::Http, "web", ""));
        assert_eq!(proxied("web:http"), (Scheme::Http, "web", "http"));
        assert_eq!(proxied("https:web:443"), (Scheme::Https, "web", "443"));
        assert_eq!(proxied("https:web:"), (Scheme::Https, "web", ""));
    }
}
