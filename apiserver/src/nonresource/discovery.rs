//! Discovery documents, made from the rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Resource, Status};
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::http::{Response, response};
use crate::rows::Rows;
use crate::server::Shared;

/// Documents that are made once for a table.
#[derive(Default)]
pub struct Documents;

/// Answers a discovery path, or `None` when it is none.
pub fn handle(server: &Shared, parts: &Parts) -> Option<Result<Response, Status>> {
    let rows = server.rows.load();
    let path = parts.uri.path().trim_matches('/');
    let mut segments = path.split('/');
    let value = match (segments.next()?, segments.next(), segments.next(), segments.next()) {
        ("api", None, None, None) => {
            let address = server.settings.advertise;
            json!({"kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()}]})
        }
        ("api", Some(version), None, None) => resources(&rows, "", version)?,
        ("apis", None, None, None) => groups(&rows),
        ("apis", Some(group), None, None) => one_group(&rows, group)?,
        ("apis", Some(group), Some(version), None) => resources(&rows, group, version)?,
        _ => return None,
    };
    let _ = parts.headers.get(header::ACCEPT);
    Some(Ok(response::full(StatusCode::OK, "application/json", value.to_string())))
}

fn by_group(rows: &Rows) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows.all() {
        let versions = groups.entry(row.gvr.group.clone()).or_default();
        if !versions.contains(&row.gvr.version) {
            versions.push(row.gvr.version.clone());
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|v| (v.contains("alpha"), v.contains("beta"), std::cmp::Reverse(v.clone())));
    }
    groups
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let all: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

fn groups(rows: &Rows) -> Value {
    let groups: Vec<Value> =
        by_group(rows).iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group_value(g, v)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn one_group(rows: &Rows, group: &str) -> Option<Value> {
    let groups = by_group(rows);
    let mut value = group_value(group, groups.get(group)?);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

fn resources(rows: &Rows, group: &str, version: &str) -> Option<Value> {
    let mut found: Vec<&Arc<Resource>> =
        rows.all().map(|r| &r.resource).filter(|r| r.group == group && r.version == version).collect();
    if found.is_empty() {
        return None;
    }
    found.sort_by(|a, b| a.plural.cmp(&b.plural));
    let mut list = Vec::new();
    for r in found {
        list.push(json!({"name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind,
            "verbs": r.verbs, "shortNames": r.short_names, "categories": r.categories}));
        for s in &r.subresources {
            let kind = s.kind.as_ref().map_or(r.kind.as_str(), |k| &k.kind);
            list.push(json!({"name": format!("{}/{}", r.plural, s.name), "singularName": "", "namespaced": r.namespaced,
                "kind": kind, "verbs": s.verbs}));
        }
    }
    let gv = api::meta::api_version(group, version);
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": list}))
}
