//! Defaults and bounds of LimitRanges, in upstream's words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use apiserver_auth::testing::Cluster;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Ask, refusal, run};

fn cluster(limits: Value) -> Cluster {
    Cluster::default()
        .with(&LIMIT_RANGES, json!({"metadata": {"name": "l", "namespace": "ns"}, "spec": {"limits": limits}}))
        .with(
            &LIMIT_RANGES,
            json!({"metadata": {"name": "l", "namespace": "other"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "1m"}}]}}),
        )
}

fn pod(containers: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
}

#[test]
fn containers_get_defaults() {
    let cluster = cluster(json!([{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m"}}]));
    let mut asked = pod(json!([{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}}}]));
    asked["spec"]["initContainers"] = json!([{"name": "i", "resources": {"requests": {"cpu": "5m"},
        "limits": {"cpu": "1", "memory": "1Mi"}}}]);
    let made = run(&LimitRanger, Ask::create("pods", asked), &cluster).unwrap();
    let resources = |index: usize| &made["spec"]["containers"][index]["resources"];
    assert_eq!(resources(0), &json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}));
    assert_eq!(resources(1), &json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}}));
    let said = "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request \
    for container b; memory limit for container b";
    assert_eq!(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"], json!(said));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let limits = |range: Value, resources: Value| {
        refusal(
            &LimitRanger,
            Ask::create("pods", pod(json!([{"name": "a", "resources": resources}]))),
            &cluster(json!([range])),
        )
    };
    let table = [
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            json!({"requests": {"cpu": "50m"}}),
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            json!({}),
            "minimum cpu usage per Container is 100m.  No request is specified",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            json!({"requests": {"cpu": "0.1"}, "limits": {"cpu": "50m"}}),
            "minimum cpu usage per Container is 100m, but limit is 50m",
        ),
        (
            json!({"type": "Container", "max": {"memory": "1Gi"}}),
            json!({"limits": {"memory": "2Gi"}}),
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            json!({"type": "Container", "max": {"memory": "1Gi"}}),
            json!({}),
            "maximum memory usage per Container is 1Gi.  No limit is specified",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "250m"}}),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"limits": {"cpu": "1"}}),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "500m"}}),
            json!({"limits": {"cpu": "1"}}),
            "maximum cpu usage per Pod is 500m, but limit is 1",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"memory": "1Gi"}}),
            json!({}),
            "[minimum cpu usage per Container is 100m.  No request is specified, maximum memory usage per Container is \
             1Gi.  No limit is specified]",
        ),
    ];
    for (range, resources, why) in table {
        let expected = format!("pods \"p\" is forbidden: {why}");
        assert_eq!(limits(range.clone(), resources.clone()), expected, "{range} {resources}");
    }
    let fits = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}});
    let range = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "200m"},
        "maxLimitRequestRatio": {"cpu": "2"}});
    assert_eq!(limits(range, fits), "");
}

#[test]
fn a_pod_needs_what_its_containers_do() {
    let asked = |init: Value, whole: Value| {
        let mut asked =
            pod(json!([{"resources": {"limits": {"cpu": "300m"}}}, {"resources": {"limits": {"cpu": "300m"}}}]));
        asked["spec"]["initContainers"] = init;
        asked["spec"]["resources"] = whole;
        refusal(&LimitRanger, Ask::create("pods", asked), &cluster(json!([{"type": "Pod", "max": {"cpu": "1"}}])))
    };
    let init = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu}}});
    let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"limits": {"cpu": cpu}}});
    assert_eq!(asked(json!([init("1")]), json!(null)), "", "one at a time, before the others");
    assert!(asked(json!([init("1100m")]), json!(null)).ends_with("is 1, but limit is 1100m"));
    assert!(asked(json!([sidecar("500m")]), json!(null)).ends_with("is 1, but limit is 1100m"), "beside the others");
    assert!(asked(json!([sidecar("200m"), init("900m")]), json!(null)).ends_with("is 1, but limit is 1100m"));
    assert_eq!(asked(json!([sidecar("500m")]), json!({"limits": {"cpu": "1"}})), "", "the Pod's own word counts");
}

#[test]
fn claims_have_bounds_too() {
    let cluster =
        cluster(json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}]));
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}});
    let head = "persistentvolumeclaims \"c\" is forbidden:";
    let ask = |size: &str| refusal(&LimitRanger, Ask::create("persistentvolumeclaims", claim(size)), &cluster);
    assert_eq!(ask("2Gi"), "");
    assert_eq!(
        ask("512Mi"),
        format!("{head} minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi")
    );
    assert_eq!(
        ask("6Gi"),
        format!("{head} maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi")
    );
    let mut going = claim("2Gi");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(refusal(&LimitRanger, Ask::update("persistentvolumeclaims", claim("6Gi"), going), &cluster), "");
}
