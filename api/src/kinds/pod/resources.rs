//! What a Pod asks for in all, and the quality of service that follows from it.

use std::collections::BTreeMap;

use crate::Object;
use crate::kinds::json::{object, objects, text};
use crate::quantity::Quantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// A container's `resources.requests` or `resources.limits`; what is no quantity reads as missing.
pub fn amounts(owner: &Object, list: &str) -> Amounts {
    let resources = object(owner, "resources").and_then(|r| object(r, list));
    let parsed = |(name, value): (&String, _)| Some((name.clone(), Quantity::from_value(value).ok()?));
    resources.into_iter().flatten().filter_map(parsed).collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        total.entry(name.clone()).or_default().add(quantity);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        let slot = total.entry(name.clone()).or_default();
        if quantity > slot {
            *slot = quantity.clone();
        }
    }
}

fn is_sidecar(init_container: &Object) -> bool {
    text(init_container, "restartPolicy") == "Always"
}

/// What a Pod's containers request: the sum over those that run together, or what an init container needs if that is
/// more (KEP-753). Neither overhead nor Pod-level resources are in it.
pub fn requests(spec: &Object) -> Amounts {
    let mut total = Amounts::new();
    for (_, container) in objects(spec, "containers") {
        add(&mut total, &amounts(container, "requests"));
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for (_, container) in objects(spec, "initContainers") {
        let mut now = amounts(container, "requests");
        if is_sidecar(container) {
            add(&mut total, &now);
            add(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut most, &now);
    }
    raise(&mut total, &most);
    total
}

/// `status.qosClass` of a Pod with this spec: `BestEffort`, `Burstable` or `Guaranteed`.
pub fn qos_class(spec: &Object) -> &'static str {
    let owners: Vec<&Object> = if object(spec, "resources").is_some() {
        vec![spec]
    } else {
        ["containers", "initContainers"].into_iter().flat_map(|key| objects(spec, key)).map(|(_, c)| c).collect()
    };
    let (mut requests, mut limits, mut all_limited) = (Amounts::new(), Amounts::new(), true);
    for owner in owners {
        let counted = |list: &str| {
            let mut amounts = amounts(owner, list);
            amounts.retain(|name, q| matches!(name.as_str(), "cpu" | "memory") && !q.is_zero() && !q.is_negative());
            amounts
        };
        add(&mut requests, &counted("requests"));
        let limited = counted("limits");
        all_limited &= limited.len() == 2;
        add(&mut limits, &limited);
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn spec(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn quality_of_service() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        for (resources, class) in [
            (json!([{}]), "BestEffort"),
            (json!([full]), "Guaranteed"),
            (json!([full, {}]), "Burstable"),
            (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
            (json!([{"requests": {"example.com/gpu": "1"}}]), "BestEffort"),
            (json!([{"limits": {"cpu": "0"}}]), "BestEffort"),
        ] {
            let containers: Vec<_> = resources.as_array().unwrap().iter().map(|r| json!({"resources": r})).collect();
            assert_eq!(qos_class(&spec(json!({"containers": containers}))), class, "{resources}");
        }
    }

    #[test]
    fn init_containers_and_sidecars_count() {
        let cpu = |cpu: &str, policy: Value| json!({"resources": {"requests": {"cpu": cpu}}, "restartPolicy": policy});
        let spec = spec(json!({
            "containers": [cpu("1", Value::Null), cpu("500m", Value::Null)],
            "initContainers": [cpu("200m", json!("Always")), cpu("2", Value::Null), cpu("100m", json!("Always"))],
        }));
        assert_eq!(requests(&spec)["cpu"].to_string(), "2200m");
    }
}
