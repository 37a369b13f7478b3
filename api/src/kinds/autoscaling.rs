//! HorizontalPodAutoscalers, versions 1 and 2.

mod convert;
mod validate;

use serde_json::{Value, json};

use super::json::{default, ensure, get, list, object, object_mut};
use super::prepare;
use crate::Object;
use crate::table::{Conversion, Hooks};

/// Target utilization of CPU where nothing else is asked for, in percent of the request.
const CPU_UTILIZATION: i64 = 80;

pub fn hooks(version: &str) -> Hooks {
    let hooks = Hooks {
        prepare: Some(prepare_v2),
        default: Some(default_v2),
        validate: Some(validate::autoscaler),
        ..Hooks::default()
    };
    if version != "v1" {
        return hooks;
    }
    let convert = Conversion { from_stored: convert::to_v1, to_stored: convert::from_v1 };
    Hooks { prepare: Some(prepare_v1), default: Some(default_v1), convert: Some(convert), ..hooks }
}

fn default_v1(autoscaler: &mut Object) {
    let has_metrics = convert::has_metrics(autoscaler);
    let spec = ensure(autoscaler, "spec");
    default(spec, "minReplicas", 1);
    if !has_metrics {
        default(spec, "targetCPUUtilizationPercentage", CPU_UTILIZATION);
    }
    let status = ensure(autoscaler, "status");
    default(status, "currentReplicas", 0);
    default(status, "desiredReplicas", 0);
}

fn default_v2(autoscaler: &mut Object) {
    let spec = ensure(autoscaler, "spec");
    default(spec, "minReplicas", 1);
    if list(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_UTILIZATION});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
    if let Some(behavior) = object_mut(spec, "behavior") {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        rules(behavior, "scaleUp", Some(0), json!([pods, percent]));
        rules(behavior, "scaleDown", None, json!([percent]));
    }
    let status = ensure(autoscaler, "status");
    default(status, "desiredReplicas", 0);
    if get(status, "currentMetrics").is_none() {
        status.insert("currentMetrics".to_owned(), Value::Null);
    }
}

fn rules(behavior: &mut Object, key: &str, window: Option<i64>, policies: Value) {
    let given = object(behavior, key).cloned().unwrap_or_default();
    let rules = ensure(behavior, key);
    *rules = given;
    default(rules, "selectPolicy", "Max");
    default(rules, "policies", policies);
    if let Some(seconds) = window {
        default(rules, "stabilizationWindowSeconds", seconds);
    }
}

fn prepare_v1(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::with_status(new, old, subresource, || json!({"currentReplicas": 0, "desiredReplicas": 0}));
}

fn prepare_v2(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::with_status(new, old, subresource, || json!({"currentMetrics": null, "desiredReplicas": 0}));
}
