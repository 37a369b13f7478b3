//! Quality of service: class, cgroup parent, CPU shares and quota, memory limit and OOM score of Pods and containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kubelet_runtime::cri;

use crate::quantity;
use crate::spec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The class's cgroup below `kubepods`; Guaranteed Pods stand in `kubepods` itself.
    pub fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "kubepods",
            Self::Burstable => "kubepods/burstable",
            Self::BestEffort => "kubepods/besteffort",
        }
    }
}

type List = BTreeMap<String, Quantity>;

const PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA: i64 = 1_000;

/// A resource of a list in thousandths of its unit; zero when missing.
fn millis(list: Option<&List>, name: &str) -> i64 {
    list.and_then(|l| l.get(name)).and_then(|q| quantity::millis(&q.0)).unwrap_or(0)
}

fn value(list: Option<&List>, name: &str) -> i64 {
    list.and_then(|l| l.get(name)).and_then(|q| quantity::value(&q.0)).unwrap_or(0)
}

fn requests(r: Option<&ResourceRequirements>) -> Option<&List> {
    r.and_then(|r| r.requests.as_ref())
}

fn limits(r: Option<&ResourceRequirements>) -> Option<&List> {
    r.and_then(|r| r.limits.as_ref())
}

/// A container's request, which defaults to its limit. CPU in thousandths, others in their unit.
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> i64 {
    let of = if name == "cpu" { millis } else { value };
    match of(requests(resources), name) {
        0 => of(limits(resources), name),
        request => request,
    }
}

/// The Pod's class by the requests and limits of its containers, or of the Pod as a whole (`spec.resources`).
pub fn class(pod: &Pod) -> Class {
    let pod_level = spec::spec(pod).resources.as_ref();
    if pod_level.is_some_and(|r| r.requests.is_some() || r.limits.is_some()) {
        return class_of(std::iter::once(pod_level));
    }
    let all = spec::containers(pod).iter().chain(spec::init_containers(pod));
    class_of(all.map(|c| c.resources.as_ref()))
}

fn class_of<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> Class {
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let (request, limit) = (
                request(resources, name),
                match name {
                    "cpu" => millis(limits(resources), name),
                    _ => value(limits(resources), name),
                },
            );
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => Class::BestEffort,
        (true, true) => Class::Guaranteed,
        (true, false) => Class::Burstable,
    }
}

/// The Pod's cgroup, relative to a hierarchy's root.
pub fn pod_cgroup(root: &str, pod: &Pod) -> String {
    format!("{}/{}/pod{}", root.trim_end_matches('/'), class(pod).cgroup(), spec::uid(pod))
}

fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { MIN_SHARES } else { (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * PERIOD / 1000).max(MIN_QUOTA) }
}

/// CPU shares of the class Burstable: what its Pods among these ask for, together.
pub fn burstable_shares(pods: impl Iterator<Item = Arc<Pod>>) -> i64 {
    let burstable = pods.filter(|pod| class(pod) == Class::Burstable);
    shares(burstable.map(|pod| pod_request(&pod, "cpu")).fold(0, i64::saturating_add))
}

/// A container's cgroup limits. `node_memory` in bytes is what the OOM score is measured by.
pub fn container_resources(pod: &Pod, container: &Container, node_memory: i64) -> cri::Resources {
    let resources = container.resources.as_ref();
    let limit = millis(limits(resources), "cpu");
    cri::Resources {
        cpu_shares: shares(request(resources, "cpu")),
        cpu_period: PERIOD,
        cpu_quota: quota(limit),
        memory_limit_bytes: value(limits(resources), "memory"),
        oom_score_adj: oom_score_adj(pod, container, node_memory),
        ..cri::Resources::default()
    }
}

/// The Pod's own cgroup: the sum of its containers; a limit only where each of them has one.
pub fn pod_resources(pod: &Pod) -> cri::Resources {
    if let Some(whole) = spec::spec(pod).resources.as_ref().filter(|r| r.limits.is_some() || r.requests.is_some()) {
        return cri::Resources {
            cpu_shares: shares(request(Some(whole), "cpu")),
            cpu_period: PERIOD,
            cpu_quota: quota(millis(limits(Some(whole)), "cpu")),
            memory_limit_bytes: value(limits(Some(whole)), "memory"),
            ..cri::Resources::default()
        };
    }
    let all = || spec::containers(pod).iter().chain(spec::init_containers(pod));
    let cpu_limited = all().all(|c| millis(limits(c.resources.as_ref()), "cpu") > 0);
    let memory_limited = all().all(|c| value(limits(c.resources.as_ref()), "memory") > 0);
    let cpu_limit = total(pod, |c| millis(limits(c.resources.as_ref()), "cpu"));
    let memory_limit = total(pod, |c| value(limits(c.resources.as_ref()), "memory"));
    cri::Resources {
        cpu_shares: shares(pod_request(pod, "cpu")),
        cpu_period: PERIOD,
        cpu_quota: if cpu_limited { quota(cpu_limit) } else { 0 },
        memory_limit_bytes: if memory_limited { memory_limit } else { 0 },
        ..cri::Resources::default()
    }
}

/// What a Pod asks for: main containers and sidecars together, or the largest init container with the sidecars before
/// it, whichever is more; with its overhead. CPU in thousandths.
pub fn pod_request(pod: &Pod, name: &str) -> i64 {
    let overhead = spec::spec(pod).overhead.as_ref();
    let overhead = if name == "cpu" { millis(overhead, name) } else { value(overhead, name) };
    if let Some(whole) = spec::spec(pod).resources.as_ref() {
        let asked = request(Some(whole), name);
        if asked > 0 {
            return asked + overhead;
        }
    }
    total(pod, |c| request(c.resources.as_ref(), name)) + overhead
}

fn total(pod: &Pod, of: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec::init_containers(pod) {
        if spec::is_sidecar(container) {
            sidecars += of(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(container));
        }
    }
    let main: i64 = spec::containers(pod).iter().map(&of).sum();
    peak.max(main + sidecars)
}

/// Upstream's oom_score_adj: the less memory a Burstable container asked for, the sooner it is killed.
fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    if is_critical(pod) {
        return -997;
    }
    match class(pod) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable if node_memory <= 0 => 999,
        Class::Burstable => {
            let asked = request(container.resources.as_ref(), "memory");
            let adjusted = 1000 - i64::try_from(1000 * i128::from(asked) / i128::from(node_memory)).unwrap_or(1000);
            adjusted.clamp(3, 999)
        }
    }
}

/// A Pod that the node itself depends on: priority of at least system-cluster-critical, or a static one of that class.
pub fn is_critical(pod: &Pod) -> bool {
    spec::is_static(pod) || spec::spec(pod).priority.is_some_and(|p| p >= 2_000_000_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"uid": "u", "name": "p", "namespace": "n"},
            "spec": {"containers": containers},
        }))
        .unwrap()
    }

    #[test]
    fn classes_as_upstream() {
        let none = pod(json!([{"name": "a"}]));
        assert_eq!(class(&none), Class::BestEffort);
        assert_eq!(pod_cgroup("/cox-1", &none), "/cox-1/kubepods/besteffort/podu");
        let some = pod(json!([{"name": "a", "resources": {"requests": {"cpu": "100m"}}}]));
        assert_eq!(class(&some), Class::Burstable);
        let full = pod(json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]));
        assert_eq!(class(&full), Class::Guaranteed);
        assert_eq!(pod_cgroup("/", &full), "/kubepods/podu");
    }

    #[test]
    fn the_burstable_class_weighs_what_its_pods_ask_for() {
        let of = |resources: serde_json::Value| Arc::new(pod(json!([{"name": "a", "resources": resources}])));
        let quarter = of(json!({"requests": {"cpu": "250m"}}));
        let limited = of(json!({"limits": {"cpu": "1500m"}}));
        let memory = of(json!({"requests": {"memory": "1Gi"}}));
        let guaranteed = of(json!({"limits": {"cpu": "1", "memory": "1Gi"}}));
        let huge = of(json!({"requests": {"cpu": "1000"}}));
        let cases = [
            (vec![], 2),
            (vec![&guaranteed, &memory], 2),
            (vec![&quarter, &guaranteed], 256),
            (vec![&quarter, &limited, &memory], 1792),
            (vec![&huge], 262_144),
        ];
        for (pods, expected) in cases {
            assert_eq!(burstable_shares(pods.iter().map(|pod| (*pod).clone())), expected, "{pods:?}");
        }
    }

    #[test]
    fn limits_become_cgroup_values() {
        let pod = pod(json!([{"name": "a", "resources": {
            "requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}}]));
        let got = container_resources(&pod, &spec::containers(&pod)[0], 1 << 30);
        assert_eq!((got.cpu_shares, got.cpu_quota, got.cpu_period), (256, 50_000, 100_000));
        assert_eq!(got.memory_limit_bytes, 128 << 20);
        assert_eq!(got.oom_score_adj, 1000 - 62);
    }
}
