//! Requests and limits: amounts by resource, of containers and of a whole Pod.

use std::collections::BTreeMap;

use api::Object;
use api::quantity::Quantity;
use serde_json::Value;

use crate::read::{spec_list, text};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a map of quantities; what is none is left to validation.
pub fn read(value: Option<&Value>) -> Amounts {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?))).collect()
}

/// A container's `requests` or `limits`.
pub fn of_container(container: &Value, kind: &str) -> Amounts {
    read(container.pointer(&format!("/resources/{kind}")))
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        total.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = total.entry(name.clone()).or_insert_with(|| amount.clone());
        if amount > most {
            *most = amount.clone();
        }
    }
}

/// A Pod's `requests` or `limits`: what its containers need together, or more if an init container does; what is said
/// for the Pod as a whole counts for CPU and memory.
pub fn of_pod(pod: &Object, kind: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in spec_list(pod, "containers") {
        add(&mut total, &of_container(container, kind));
    }
    let (mut sidecars, mut init) = (Amounts::new(), Amounts::new());
    for container in spec_list(pod, "initContainers") {
        let mut needed = of_container(container, kind);
        if text(container, "/restartPolicy") == "Always" {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut init, &needed);
    }
    raise(&mut total, &init);
    let whole = read(pod.get("spec").and_then(|spec| spec.pointer(&format!("/resources/{kind}"))));
    total.extend(whole.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")));
    total
}
