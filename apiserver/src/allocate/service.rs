//! What a Service's spec gets: cluster addresses, families, node ports (upstream's `service/storage/alloc.go`).

use std::net::Ipv4Addr;

use api::object::child_mut;
use api::{ErrorList, FieldError, Object, Path, object};
use serde_json::{Value, json};

use super::pool::Refused;
use super::{State, Taken};

/// Fills a Service in. What is taken newly is added to `held`, also when the whole fails.
pub fn give(state: &mut State, new: &mut Object, old: Option<&Object>, held: &mut Taken) -> Result<(), ErrorList> {
    let old_taken = old.map(Taken::of).unwrap_or_default();
    if let Some(old) = old {
        keep(new, old);
    }
    if is(new, "ExternalName") {
        return Ok(());
    }
    addresses(state, new, &old_taken, held)?;
    if wants_ports(new) {
        ports(state, new, &old_taken, held)?;
    }
    health_port(state, new, &old_taken, held)
}

fn kind(service: &Object) -> &str {
    match object::str_at(service, &["spec", "type"]) {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn is(service: &Object, wanted: &str) -> bool {
    kind(service) == wanted
}

fn wants_ports(service: &Object) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            object::at(service, &["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) != Some(false)
        }
        _ => false,
    }
}

/// What a caller left out of a replaced Service stays: addresses, and node ports of the same port.
fn keep(new: &mut Object, old: &Object) {
    let (old_has, new_has) = (!is(old, "ExternalName"), !is(new, "ExternalName"));
    let both_ports = kind_has_ports(old) && kind_has_ports(new);
    let Some(old_spec) = old.get("spec").and_then(Value::as_object) else { return };
    let spec = child_mut(new, "spec");
    if old_has && new_has && text(spec, "clusterIP").is_empty() && spec.get("clusterIPs").is_none_or(is_empty) {
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old_spec.get(key) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
    }
    if old_has && new_has {
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(key).is_none_or(is_empty)
                && let Some(value) = old_spec.get(key)
            {
                spec.insert(key.to_owned(), value.clone());
            }
        }
    }
    if both_ports {
        let old_ports = old_spec.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            keep_port(port, &old_ports);
        }
        let old_health = old_spec.get("healthCheckNodePort").cloned();
        if let (None, Some(health)) = (spec.get("healthCheckNodePort"), old_health) {
            spec.insert("healthCheckNodePort".to_owned(), health);
        }
    }
}

fn kind_has_ports(service: &Object) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_str().is_some_and(str::is_empty)
}

fn keep_port(port: &mut Value, old: &[Value]) {
    if port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) != 0 {
        return;
    }
    let same = |o: &&Value| ["port", "protocol"].iter().all(|k| o.get(k) == port.get(k));
    let kept = old.iter().find(same).and_then(|o| o.get("nodePort")).cloned();
    if let (Some(kept), Value::Object(port)) = (kept, port) {
        port.insert("nodePort".to_owned(), kept);
    }
}

fn text<'o>(spec: &'o Object, key: &str) -> &'o str {
    spec.get(key).and_then(Value::as_str).unwrap_or("")
}

fn addresses(state: &mut State, new: &mut Object, old: &Taken, held: &mut Taken) -> Result<(), ErrorList> {
    let has_selector = object::at(new, &["spec", "selector"]).and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    let spec = child_mut(new, "spec");
    let listed = spec.get("clusterIPs").and_then(Value::as_array).and_then(|a| a.first()).and_then(Value::as_str);
    let asked = match (text(spec, "clusterIP"), listed) {
        ("", Some(listed)) => listed.to_owned(),
        (asked, _) => asked.to_owned(),
    };
    let headless = asked == "None";
    let address = match asked.as_str() {
        "None" => asked,
        "" => {
            let random = uuid::Uuid::new_v4().as_u128() as u32;
            let Some(number) = state.addresses.pick(random) else {
                let path = Path::new("spec").child("clusterIPs");
                return Err(vec![FieldError::internal(&path, "failed to allocate a serviceIP: range is full")]);
            };
            held.addresses.push(number);
            Ipv4Addr::from(number).to_string()
        }
        _ => {
            chosen(state, &asked, old, held)?;
            asked
        }
    };
    spec.insert("clusterIP".to_owned(), json!(address));
    spec.insert("clusterIPs".to_owned(), json!([address]));
    let both = headless && !has_selector;
    if spec.get("ipFamilies").is_none_or(is_empty) {
        spec.insert("ipFamilies".to_owned(), if both { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) });
    }
    if spec.get("ipFamilyPolicy").is_none_or(is_empty) {
        spec.insert("ipFamilyPolicy".to_owned(), json!(if both { "RequireDualStack" } else { "SingleStack" }));
    }
    Ok(())
}

fn chosen(state: &mut State, asked: &str, old: &Taken, held: &mut Taken) -> Result<(), ErrorList> {
    let path = Path::new("spec").child("clusterIPs");
    let found = api::names::ip_legacy(asked);
    if !found.is_empty() {
        let first = path.index(0);
        return Err(found.into_iter().map(|why| FieldError::invalid(&first, asked, why)).collect());
    }
    // An address of another family is the validation's to refuse.
    let Ok(address) = asked.parse::<Ipv4Addr>() else { return Ok(()) };
    let number = u32::from(address);
    if old.addresses.contains(&number) {
        return Ok(());
    }
    let why = match state.addresses.reserve(number) {
        Ok(()) => {
            held.addresses.push(number);
            return Ok(());
        }
        Err(Refused::OutOfRange) => "the provided network does not match the current range".to_owned(),
        Err(Refused::InUse) => "provided IP is already allocated".to_owned(),
    };
    Err(vec![FieldError::invalid(&path, json!([asked]), format!("failed to allocate IP {asked}: {why}"))])
}

fn ports(state: &mut State, new: &mut Object, old: &Taken, held: &mut Taken) -> Result<(), ErrorList> {
    let spec = child_mut(new, "spec");
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else { return Ok(()) };
    // One number may serve one port under several protocols.
    let mut by_port: Vec<(Value, Value, u32)> = Vec::new();
    for (n, port) in ports.iter_mut().enumerate() {
        let Value::Object(port) = port else { continue };
        let number = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) as u32;
        let (own, protocol) =
            (port.get("port").cloned().unwrap_or_default(), port.get("protocol").cloned().unwrap_or_default());
        let shared = by_port.iter().find(|(p, proto, given)| {
            if number == 0 { *p == own && *proto != protocol } else { *given == number && *proto != protocol }
        });
        let given = match (number, shared) {
            (_, Some((_, _, given))) => *given,
            (0, None) => any_port(state, n, held)?,
            (number, None) => {
                let path = Path::new("spec").child("ports").index(n).child("nodePort");
                one_port(state, number, &path, old, held)?;
                number
            }
        };
        port.insert("nodePort".to_owned(), json!(given));
        by_port.push((own, protocol, given));
    }
    Ok(())
}

fn any_port(state: &mut State, n: usize, held: &mut Taken) -> Result<u32, ErrorList> {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    let Some(number) = state.ports.pick(random) else {
        let path = Path::new("spec").child("ports").index(n).child("nodePort");
        return Err(vec![FieldError::internal(&path, "failed to allocate a nodePort: range is full")]);
    };
    held.ports.push(number);
    Ok(number)
}

fn one_port(state: &mut State, number: u32, path: &Path, old: &Taken, held: &mut Taken) -> Result<(), ErrorList> {
    if old.ports.contains(&number) {
        return Ok(());
    }
    match state.ports.reserve(number) {
        Ok(()) => {
            held.ports.push(number);
            Ok(())
        }
        Err(Refused::InUse) => Err(vec![FieldError::invalid(path, number, "provided port is already allocated")]),
        Err(Refused::OutOfRange) => {
            let range = state.ports.range();
            let why = format!("provided port is not in the valid range. The range of valid ports is {range}");
            Err(vec![FieldError::invalid(path, number, why)])
        }
    }
}

/// The port that load balancers ask for health, for those that send traffic to nodes with endpoints only.
fn health_port(state: &mut State, new: &mut Object, old: &Taken, held: &mut Taken) -> Result<(), ErrorList> {
    let wanted = is(new, "LoadBalancer") && object::str_at(new, &["spec", "externalTrafficPolicy"]) == "Local";
    if !wanted {
        return Ok(());
    }
    let spec = child_mut(new, "spec");
    let number = spec.get("healthCheckNodePort").and_then(Value::as_u64).unwrap_or(0) as u32;
    let path = Path::new("spec").child("healthCheckNodePort");
    let given = if number == 0 {
        any_port(state, 0, held)?
    } else {
        one_port(state, number, &path, old, held)?;
        number
    };
    spec.insert("healthCheckNodePort".to_owned(), json!(given));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::HashMap;

    use super::super::pool::Pool;
    use super::*;
    use crate::config::Network;

    fn state() -> State {
        State {
            addresses: Pool::addresses(Network { first: Ipv4Addr::new(10, 96, 0, 0), prefix: 12 }),
            ports: Pool::ports((30000, 32767)),
            services: HashMap::new(),
        }
    }

    fn service(spec: Value) -> Object {
        match json!({"metadata": {"name": "s"}, "spec": spec}) {
            Value::Object(object) => object,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn a_service_gets_an_address_and_families() {
        let mut new = service(json!({"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]}));
        let mut held = Taken::default();
        give(&mut state(), &mut new, None, &mut held).unwrap();
        let spec = &new["spec"];
        assert_eq!(spec["clusterIPs"][0], spec["clusterIP"]);
        assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
        assert_eq!(held.addresses.len(), 1);
        assert!(spec["ports"][0].get("nodePort").is_none());
    }

    #[test]
    fn node_ports_are_shared_by_protocols_and_kept() {
        let mut state = state();
        let ports =
            json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]);
        let mut new = service(json!({"type": "NodePort", "ports": ports}));
        give(&mut state, &mut new, None, &mut Taken::default()).unwrap();
        let given = &new["spec"]["ports"];
        assert_eq!(given[0]["nodePort"], given[1]["nodePort"]);
        assert_ne!(given[0]["nodePort"], given[2]["nodePort"]);
        let mut replaced = service(json!({"type": "NodePort", "ports": ports}));
        give(&mut state, &mut replaced, Some(&new), &mut Taken::default()).unwrap();
        assert_eq!(replaced["spec"], new["spec"]);
    }

    #[test]
    fn refuses_what_is_taken_or_outside() {
        let mut state = state();
        let chosen = json!({"clusterIP": "10.96.0.10", "type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}]});
        give(&mut state, &mut service(chosen.clone()), None, &mut Taken::default()).unwrap();
        let errors = give(&mut state, &mut service(chosen), None, &mut Taken::default()).unwrap_err();
        let expected = "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: \
                        provided IP is already allocated";
        assert_eq!(errors[0].to_string(), expected);
        let outside = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]});
        let errors = give(&mut state, &mut service(outside), None, &mut Taken::default()).unwrap_err();
        assert!(errors[0].to_string().contains("spec.ports[0].nodePort: Invalid value: 80: provided port is not in"));
    }
}
