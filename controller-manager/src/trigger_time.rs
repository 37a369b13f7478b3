//! When that happened which a change of a Service's endpoints follows, as an annotation on what is written: proxies
//! measure by it how long a change takes to reach them (upstream's network programming latency).

use std::collections::HashMap;
use std::sync::Arc;

use api::NamespacedName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use parking_lot::Mutex;

const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was known of a Service when its endpoints were looked at last.
struct Known {
    service: Option<Timestamp>,
    /// By the Pod's name: when its readiness changed last.
    pods: HashMap<String, Timestamp>,
}

/// The times of all Services.
#[derive(Default)]
pub struct TriggerTimes(Mutex<HashMap<NamespacedName, Known>>);

impl TriggerTimes {
    /// The earliest of what changed since the last look; at the first look, when the Service was made.
    pub fn look(&self, key: &NamespacedName, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let made = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let pods: HashMap<String, Timestamp> =
            pods.iter().filter_map(|pod| Some((pod.name_any(), ready_since(pod)?))).collect();
        let mut all = self.0.lock();
        let Some(known) = all.get(key) else {
            all.insert(key.clone(), Known { service: made, pods });
            return made;
        };
        let changed = pods.iter().filter(|(name, at)| known.pods.get(*name).is_none_or(|before| *at > before));
        let service_changed = made.filter(|at| known.service.is_none_or(|before| *at > before));
        let earliest = changed.map(|(_, at)| *at).chain(service_changed).min();
        all.insert(key.clone(), Known { service: made, pods });
        earliest
    }

    /// The Service is gone.
    pub fn forget(&self, key: &NamespacedName) {
        self.0.lock().remove(key);
    }
}

/// When a Pod became ready, or ceased to be.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Says on what is to be written when its cause happened, or that there is none.
pub fn annotate(metadata: &mut ObjectMeta, at: Option<Timestamp>) {
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    match at {
        Some(at) => drop(annotations.insert(ANNOTATION.to_owned(), at.to_string())),
        None => drop(annotations.remove(ANNOTATION)),
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn service(made: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "creationTimestamp": made}})).unwrap()
    }

    fn pod(name: &str, since: &str) -> Arc<Pod> {
        let conditions = json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
        let pod = json!({"metadata": {"name": name}, "status": {"conditions": conditions}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_earliest_change_since_the_last_look_counts() {
        let (times, key) = (TriggerTimes::default(), NamespacedName::new("ns", "s"));
        let at = |second: u8| format!("2026-01-01T00:00:{second:02}Z");
        let (first, later) = (service(&at(1)), service(&at(50)));
        let look = |service: &Service, pods: &[Arc<Pod>]| times.look(&key, service, pods).map(|at| at.to_string());
        assert_eq!(look(&first, &[pod("a", &at(5))]), Some(at(1)), "of a new Service its own time");
        assert_eq!(look(&first, &[pod("a", &at(5))]), None);
        assert_eq!(look(&first, &[pod("a", &at(9)), pod("b", &at(7))]), Some(at(7)));
        assert_eq!(look(&first, &[pod("b", &at(7))]), None, "that a Pod went has no time");
        assert_eq!(look(&first, &[pod("a", &at(9)), pod("b", &at(7))]), Some(at(9)));
        assert_eq!(look(&later, &[]), Some(at(50)), "a Service that was made anew");
        times.forget(&key);
        assert_eq!(look(&later, &[pod("a", &at(2))]), Some(at(50)));
    }

    #[test]
    fn the_annotation_comes_and_goes() {
        let mut metadata = ObjectMeta::default();
        annotate(&mut metadata, None);
        assert_eq!(metadata.annotations, None);
        annotate(&mut metadata, Some("2026-01-01T00:00:01Z".parse().unwrap()));
        assert_eq!(metadata.annotations.clone().unwrap()[ANNOTATION], "2026-01-01T00:00:01Z");
        annotate(&mut metadata, None);
        assert_eq!(metadata.annotations, None);
    }
}
