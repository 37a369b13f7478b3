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
    let mut written = Vec::new();
    super::row(row, &object).write(NOW, &mut written);
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), Value::from(cells.clone()));
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

/// Pods in states, one a line: spec, status, and what READY, STATUS and RESTARTS show.
const PODS: &str = include_str!("pods.txt");

#[test]
fn a_pods_status_is_what_its_containers_do() {
    for line in PODS.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let cells = printed("", "Pod", json!({"spec": case["spec"], "status": case["status"]}));
        assert_eq!(cells[1..4], *case["shown"].as_array().unwrap(), "{line}");
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

/// Objects of common kinds, one a line: group, kind, object and cells.
const CASES: &str = include_str!("cases.txt");

#[test]
fn common_kinds_print_as_upstream_does() {
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (group, kind) = (case["group"].as_str().unwrap(), case["kind"].as_str().unwrap());
        assert_eq!(Value::from(printed(group, kind, case["object"].clone())), case["cells"], "{kind}");
    }
}
