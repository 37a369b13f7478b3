//! Limits and budgets: ResourceQuota, LimitRange, PodDisruptionBudget, PriorityClass, RuntimeClass, Lease.

mod validate;

use serde_json::json;

use super::json::{default, each_mut, ensure, get, object, object_mut, text};
use super::pod::defaults::round_resources;
use super::prepare;
use crate::Object;
use crate::table::Hooks;

pub fn quota_hooks() -> Hooks {
    Hooks {
        default: Some(default_quota),
        prepare: Some(prepare_quota),
        validate: Some(validate::quota),
        ..Hooks::default()
    }
}

pub fn limit_range_hooks() -> Hooks {
    Hooks {
        default: Some(default_limits),
        prepare: Some(prepare::nothing),
        validate: Some(validate::limit_range),
        ..Hooks::default()
    }
}

pub fn budget_hooks() -> Hooks {
    Hooks {
        default: Some(default_budget),
        prepare: Some(prepare_budget),
        validate: Some(validate::budget),
        ..Hooks::default()
    }
}

pub fn priority_hooks() -> Hooks {
    Hooks {
        default: Some(|class| {
            default(class, "value", 0);
            default(class, "preemptionPolicy", "PreemptLowerPriority");
        }),
        prepare: Some(|new, old, _| prepare::generation(new, old, |_, _| false)),
        validate: Some(validate::priority),
        ..Hooks::default()
    }
}

pub fn lease_hooks() -> Hooks {
    Hooks {
        default: Some(|lease| {
            ensure(lease, "spec");
        }),
        prepare: Some(prepare_lease),
        validate: Some(validate::lease),
        ..Hooks::default()
    }
}

pub fn runtime_hooks() -> Hooks {
    Hooks { prepare: Some(prepare::nothing), validate: Some(validate::runtime_class), ..Hooks::default() }
}

/// Coordinated leader election is behind a feature gate upstream; its fields are dropped unless they are stored
/// already.
fn prepare_lease(new: &mut Object, old: Option<&Object>, _subresource: &str) {
    let stored = |key: &str| old.and_then(|old| object(old, "spec")).is_some_and(|spec| get(spec, key).is_some());
    let spec = ensure(new, "spec");
    for key in ["strategy", "preferredHolder"] {
        if !stored(key) {
            spec.remove(key);
        }
    }
}

fn default_quota(quota: &mut Object) {
    object_mut(ensure(quota, "spec"), "hard").into_iter().for_each(round_resources);
    let status = ensure(quota, "status");
    for key in ["hard", "used"] {
        object_mut(status, key).into_iter().for_each(round_resources);
    }
}

fn prepare_quota(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::with_status(new, old, subresource, || json!({}));
}

/// For containers the default limit follows from the maximum, the default request from the limit or the minimum.
fn default_limits(range: &mut Object) {
    each_mut(ensure(range, "spec"), "limits", |item| {
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            object_mut(item, key).into_iter().for_each(round_resources);
        }
        if text(item, "type") != "Container" {
            return;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let source = object(item, from).cloned().unwrap_or_default();
            let target = ensure(item, to);
            for (name, value) in source {
                target.entry(name).or_insert(value);
            }
        }
        for key in ["default", "defaultRequest"] {
            if object(item, key).is_some_and(Object::is_empty) {
                item.remove(key);
            }
        }
    });
}

fn default_budget(budget: &mut Object) {
    ensure(budget, "spec");
    let status = ensure(budget, "status");
    for key in ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"] {
        default(status, key, 0);
    }
}

fn prepare_budget(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::counted(
        new,
        old,
        subresource,
        || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
    );
}
