//! The bounds of a LimitRange, and upstream's words for what lies outside them.

use api::Object;
use api::quantity::Quantity;
use serde_json::Value;

use super::amounts::{self, Amounts};
use crate::read::{spec_list, text};

/// Beyond this, amounts are compared in whole units, as upstream does to keep thousandths from overflowing.
const MAX_MILLI: i64 = i64::MAX / 1000;

/// What is asked for, of one container, Pod or claim.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

/// What is wrong with a Pod.
pub fn of_pod(range: &Object, pod: &Object) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in spec_list(range, "limits") {
        match text(limit, "/type") {
            "Container" => {
                for container in spec_list(pod, "containers").iter().chain(spec_list(pod, "initContainers")) {
                    let amounts = |kind| amounts::of_container(container, kind);
                    let asked = Asked { requests: amounts("requests"), limits: amounts("limits") };
                    check(limit, "Container", &asked, &mut errors);
                }
            }
            "Pod" => {
                let amounts = |kind| amounts::of_pod(pod, kind);
                let asked = Asked { requests: amounts("requests"), limits: amounts("limits") };
                check(limit, "Pod", &asked, &mut errors);
            }
            _ => {}
        }
    }
    errors
}

/// What is wrong with a PersistentVolumeClaim; only its requests count.
pub fn of_claim(range: &Object, claim: &Object) -> Vec<String> {
    let mut errors = Vec::new();
    let kind = "PersistentVolumeClaim";
    let requests = amounts::read(claim.get("spec").and_then(|spec| spec.pointer("/resources/requests")));
    let asked = Asked { requests, limits: Amounts::new() };
    for limit in spec_list(range, "limits").iter().filter(|l| text(l, "/type") == kind) {
        for (name, least) in bounds(limit, "min") {
            errors.extend(below(kind, &name, &least, &asked));
        }
        for (name, most) in bounds(limit, "max") {
            errors.extend(request_above(kind, &name, &most, &asked));
        }
    }
    errors
}

fn bounds(limit: &Value, key: &str) -> Amounts {
    amounts::read(limit.get(key))
}

fn check(limit: &Value, kind: &str, asked: &Asked, errors: &mut Vec<String>) {
    for (name, least) in bounds(limit, "min") {
        errors.extend(below(kind, &name, &least, asked));
    }
    for (name, most) in bounds(limit, "max") {
        errors.extend(above(kind, &name, &most, asked));
    }
    for (name, ratio) in bounds(limit, "maxLimitRequestRatio") {
        errors.extend(ratio_above(kind, &name, &ratio, asked));
    }
}

/// Amounts in the same unit: thousandths where none overflows.
fn values(amounts: [&Quantity; 3]) -> [i64; 3] {
    let whole = amounts.map(Quantity::value);
    if whole.iter().all(|v| *v <= MAX_MILLI) { amounts.map(Quantity::milli_value) } else { whole }
}

fn compared(name: &str, bound: &Quantity, asked: &Asked) -> [i64; 3] {
    let zero = Quantity::default();
    let of = |amounts: &Amounts| amounts.get(name).cloned().unwrap_or_else(|| zero.clone());
    values([&of(&asked.requests), &of(&asked.limits), bound])
}

fn below(kind: &str, name: &str, least: &Quantity, asked: &Asked) -> Option<String> {
    let [request, limit, bound] = compared(name, least, asked);
    let head = format!("minimum {name} usage per {kind} is {least}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(shown), _) if request < bound => Some(format!("{head}, but request is {shown}")),
        (_, Some(shown)) if limit < bound => Some(format!("{head}, but limit is {shown}")),
        _ => None,
    }
}

fn above(kind: &str, name: &str, most: &Quantity, asked: &Asked) -> Option<String> {
    let [request, limit, bound] = compared(name, most, asked);
    let head = format!("maximum {name} usage per {kind} is {most}");
    match (asked.limits.get(name), asked.requests.get(name)) {
        (None, _) => Some(format!("{head}.  No limit is specified")),
        (Some(shown), _) if limit > bound => Some(format!("{head}, but limit is {shown}")),
        (_, Some(shown)) if request > bound => Some(format!("{head}, but request is {shown}")),
        _ => None,
    }
}

fn request_above(kind: &str, name: &str, most: &Quantity, asked: &Asked) -> Option<String> {
    let [request, _, bound] = compared(name, most, asked);
    let head = format!("maximum {name} usage per {kind} is {most}");
    match asked.requests.get(name) {
        None => Some(format!("{head}.  No request is specified")),
        Some(shown) if request > bound => Some(format!("{head}, but request is {shown}")),
        Some(_) => None,
    }
}

fn ratio_above(kind: &str, name: &str, most: &Quantity, asked: &Asked) -> Option<String> {
    let [request, limit, _] = compared(name, most, asked);
    let head = format!("{name} max limit to request ratio per {kind} is {most}");
    if request == 0 {
        return Some(format!("{head}, but no request is specified or request is 0"));
    }
    if limit == 0 {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    }
    let ratio = limit as f64 / request as f64;
    (ratio > most.as_f64()).then(|| format!("{head}, but provided ratio is {ratio:.6}"))
}
