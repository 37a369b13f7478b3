//! Cells of typical objects, compared with what upstream's server prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::builtin;
use crate::meta::Gvk;

/// 2026-01-01T01:00:00Z, an hour after the objects' creation.
const NOW: i64 = 1_767_229_200;

fn printed(group: &str, kind: &str, mut object: Value) -> Vec<Value> {
    let table = builtin::table();
    let row = table.by_kind(&Gvk::new(group, "v1", kind)).unwrap();
    object["metadata"]["name"] = json!("a");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let Value::Object(object) = object else { panic!() };
    let cells = cells(row, &object, NOW);
    assert_eq!(cells.len(), columns(row).len());
    cells
}

#[test]
fn every_row_has_columns_and_every_printer_fits_them() {
    for row in builtin::table().rows() {
        let object = Object::new();
        let cells = cells(row, &object, NOW);
        // Upstream's IPAddress has a cell more than columns.
        let extra = usize::from(row.kind == "IPAddress");
        assert_eq!(cells.len(), columns(row).len() + extra, "{}", row.gvk());
        assert!(columns(row).iter().all(|column| !column.name.is_empty() && !column.ty.is_empty()), "{}", row.gvk());
    }
}

fn pod_status(spec: Value, status: Value) -> (String, String, String) {
    let cells = printed("", "Pod", json!({"spec": spec, "status": status}));
    let text = |i: usize| cells[i].as_str().unwrap().to_owned();
    (text(1), text(2), text(3))
}

#[test]
fn a_pods_status_is_what_its_containers_do() {
    let one = json!({"containers": [{"name": "c"}]});
    let with_init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    let with_sidecar =
        json!({"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let running = json!({"name": "c", "ready": true, "state": {"running": {}}});
    for (spec, status, ready, word, restarts) in [
        (&one, json!({"phase": "Pending"}), "0/1", "Pending", "0"),
        (&one, json!({"phase": "Running", "containerStatuses": [running]}), "1/1", "Running", "0"),
        (&one, json!({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted", "0"),
        (
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            "0/1",
            "SchedulingGated",
            "0",
        ),
        (
            &one,
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:57:00Z"}}}]}),
            "0/1",
            "CrashLoopBackOff",
            "3 (3m ago)",
        ),
        (
            &one,
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            "0/1",
            "Completed",
            "0",
        ),
        (
            &one,
            json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "0/1",
            "Signal:9",
            "0",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            "0/1",
            "Init:0/2",
            "0",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"terminated": {"exitCode": 2}}}]}),
            "0/1",
            "Init:ExitCode:2",
            "0",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
            "0/1",
            "Init:ErrImagePull",
            "0",
        ),
        (
            &with_sidecar,
            json!({"phase": "Running", "containerStatuses": [running], "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}]}),
            "2/2",
            "Running",
            "1",
        ),
    ] {
        let expected = (ready.to_owned(), word.to_owned(), restarts.to_owned());
        assert_eq!(pod_status(spec.clone(), status.clone()), expected, "{status}");
    }
}

#[test]
fn a_deleted_pod_is_terminating_and_a_finished_one_completed() {
    let pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}, "status": {"phase": "Running"}});
    assert_eq!(printed("", "Pod", pod)[2], "Terminating");
    let table = builtin::table();
    let row = table.by_kind(&Gvk::new("", "v1", "Pod")).unwrap();
    let Value::Object(done) = json!({"status": {"phase": "Succeeded"}}) else { panic!() };
    assert_eq!(row_conditions(row, &done)[0]["type"], "Completed");
}

#[test]
fn common_kinds_print_as_upstream_does() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}});
    let selector = json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["y", "x"]}]});
    let spec = json!({"replicas": 3, "selector": selector, "template": template});
    for (group, kind, object, cells) in [
        (
            "apps",
            "Deployment",
            json!({"spec": spec, "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            json!(["a", "1/3", 2, 1, "60m", "c,d", "i:1,j", "a=1,b=2,c in (x,y)"]),
        ),
        (
            "apps",
            "ReplicaSet",
            json!({"spec": spec, "status": {"replicas": 3}}),
            json!(["a", 3, 3, 0, "60m", "c,d", "i:1,j", "a=1,b=2,c in (x,y)"]),
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "selector": {"x": "y"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            json!(["a", "LoadBalancer", "10.0.0.1", "<pending>", "80:30080/TCP,53/UDP", "60m", "x=y"]),
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIPs": ["None"]}}),
            json!(["a", "ClusterIP", "None", "<none>", "<none>", "60m", "<none>"]),
        ),
        (
            "",
            "Node",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}}, "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
                "nodeInfo": {"kubeletVersion": "v1", "osImage": "os", "kernelVersion": "6", "architecture": "amd64"}}}),
            json!([
                "a",
                "Ready,SchedulingDisabled",
                "control-plane,x",
                "60m",
                "v1",
                "1.2.3.4",
                "<none>",
                "os",
                "6 (amd64)",
                "<unknown>"
            ]),
        ),
        ("", "Namespace", json!({"status": {"phase": "Active"}}), json!(["a", "Active", "60m"])),
        ("", "ConfigMap", json!({"data": {"x": ""}, "binaryData": {"y": ""}}), json!(["a", 2, "60m"])),
        ("", "Secret", json!({"type": "Opaque", "data": {"x": ""}}), json!(["a", "Opaque", 1, "60m"])),
        (
            "",
            "Event",
            json!({"type": "Normal", "reason": "Pulled", "message": " done \n", "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "f"},
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:59:30Z", "count": 4, "source": {"component": "kubelet", "host": "n"}}),
            json!(["30s", "Normal", "Pulled", "pod/p", "f", "kubelet, n", "done", "60m", 4, "a"]),
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}, {}], "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3", "4", "5"]}]}),
            json!(["a", "IPv4", "80,x,*", "1,2,3 + 2 more...", "60m"]),
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"rules": [{"host": "h"}], "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}}),
            json!(["a", "<none>", "h", "1.1.1.1", "80, 443", "60m"]),
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"completions": 2}, "status": {"succeeded": 1, "startTime": "2026-01-01T00:59:00Z"}}),
            json!(["a", "Running", "1/2", "60s", "60m", "", "", "<none>"]),
        ),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "* * * * *", "suspend": false}}),
            json!(["a", "* * * * *", "<none>", "False", 0, "<none>", "60m", "", "", "<none>"]),
        ),
        ("", "LimitRange", json!({}), json!(["a", "2026-01-01T00:00:00Z"])),
    ] {
        assert_eq!(Value::from(printed(group, kind, object)), cells, "{kind}");
    }
}
