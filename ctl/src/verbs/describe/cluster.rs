//! Namespaces, ConfigMaps, Secrets, ServiceAccounts, roles and their bindings.

use base64::Engine as _;
use serde_json::Value;

use super::parts::{head, labels_and_annotations};
use super::text::{Text, plain, time};
use super::{Subject, list, name_of};
use crate::error::Result;
use crate::session::Query;
use crate::verbs::pods::{items, text};
use crate::verbs::rules;

pub(super) async fn namespace(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    head(out, object);
    labels_and_annotations(out, object);
    out.field(0, "Status", text(object, "/status/phase"));
    let mut conditions = items(object, "/status/conditions").peekable();
    if conditions.peek().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus\tLastTransitionTime\tReason\tMessage");
        out.line(1, "----\t------\t------------------\t------\t-------");
    }
    for condition in conditions {
        let part = |pointer| text(condition, pointer);
        let when = time(condition, "/lastTransitionTime");
        out.line(
            1,
            format!("{}\t{}\t{when}\t{}\t{}", part("/type"), part("/status"), part("/reason"), part("/message")),
        );
    }
    let path = |resource: &str| format!("/api/v1/namespaces/{}/{resource}", subject.name);
    let quotas = list(subject.session, &path("resourcequotas"), Query::new()).await?;
    out.line(0, "");
    if quotas.is_empty() {
        out.line(0, "No resource quota.");
    } else {
        out.line(0, "Resource Quotas");
    }
    quotas.iter().for_each(|quota| self::quota(out, quota));
    let limits = list(subject.session, &path("limitranges"), Query::new()).await?;
    out.line(0, "");
    if limits.is_empty() {
        out.line(0, "No LimitRange resource.");
        return Ok(());
    }
    out.line(0, "Resource Limits\n Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    out.line(0, " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    limits.iter().for_each(|range| limit_range(out, range));
    Ok(())
}

fn quota(out: &mut Text, quota: &Value) {
    out.field(1, "Name", name_of(quota));
    out.field_of(1, "Scopes", quota, "/spec/scopes");
    out.line(1, "Resource\tUsed\tHard\n  --------\t---\t---");
    for (resource, hard) in quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten() {
        let used = quota.pointer("/status/used").and_then(|used| used.get(resource)).map_or("0".to_owned(), plain);
        out.line(1, format!("{resource}\t{used}\t{}", plain(hard)));
    }
}

fn limit_range(out: &mut Text, range: &Value) {
    const COLUMNS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for limit in items(range, "/spec/limits") {
        let mut resources: Vec<&String> = COLUMNS
            .iter()
            .filter_map(|column| limit.get(column).and_then(Value::as_object))
            .flat_map(|amounts| amounts.keys())
            .collect();
        resources.sort();
        resources.dedup();
        for resource in resources {
            let amount = |column: &&str| limit.get(column).and_then(|a| a.get(resource)).map_or("-".to_owned(), plain);
            let amounts: Vec<String> = COLUMNS.iter().map(amount).collect();
            out.line(0, format!(" {}\t{resource}\t{}", text(limit, "/type"), amounts.join("\t")));
        }
    }
}

fn bytes_of(value: &Value) -> usize {
    let decoded = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default());
    decoded.map_or(0, |bytes| bytes.len())
}

pub(super) fn config_map(out: &mut Text, object: &Value) {
    head(out, object);
    labels_and_annotations(out, object);
    out.line(0, "\nData\n====");
    for (key, value) in object.get("data").and_then(Value::as_object).into_iter().flatten() {
        out.line(0, format!("{key}:\n----\n{}\n", value.as_str().unwrap_or_default()));
    }
    out.line(0, "\nBinaryData\n====");
    for (key, value) in object.get("binaryData").and_then(Value::as_object).into_iter().flatten() {
        out.line(0, format!("{key}: {} bytes", bytes_of(value)));
    }
    out.line(0, "");
}

pub(super) fn secret(out: &mut Text, object: &Value) {
    head(out, object);
    labels_and_annotations(out, object);
    let ty = text(object, "/type");
    out.line(0, format!("\nType:\t{ty}\n\nData\n===="));
    for (key, value) in object.get("data").and_then(Value::as_object).into_iter().flatten() {
        let is_token = key == "token" && ty == "kubernetes.io/service-account-token";
        let decoded = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default());
        match decoded {
            Ok(bytes) if is_token => out.field(0, key, String::from_utf8_lossy(&bytes)),
            _ => out.field(0, key, format!("{} bytes", bytes_of(value))),
        }
    }
}

pub(super) fn service_account(out: &mut Text, object: &Value) {
    head(out, object);
    labels_and_annotations(out, object);
    let secrets = items(object, "/imagePullSecrets").map(|secret| text(secret, "/name").to_owned());
    let names: Vec<String> = secrets.collect();
    if names.is_empty() {
        out.field(0, "Image pull secrets", "<none>");
    }
    for (at, name) in names.iter().enumerate() {
        out.line(0, format!("{}\t{name}", if at == 0 { "Image pull secrets:" } else { "                   " }));
    }
}

pub(super) fn role(out: &mut Text, object: &Value) {
    out.field(0, "Name", name_of(object));
    labels_and_annotations(out, object);
    out.line(0, "PolicyRule:\n  Resources\tNon-Resource URLs\tResource Names\tVerbs");
    out.line(1, "---------\t-----------------\t--------------\t-----");
    for row in rules::rows(items(object, "/rules")) {
        out.line(1, row);
    }
}

pub(super) fn binding(out: &mut Text, object: &Value) {
    out.field(0, "Name", name_of(object));
    labels_and_annotations(out, object);
    out.line(0, "Role:");
    out.field(1, "Kind", text(object, "/roleRef/kind"));
    out.field(1, "Name", text(object, "/roleRef/name"));
    out.line(0, "Subjects:\n  Kind\tName\tNamespace\n  ----\t----\t---------");
    for subject in items(object, "/subjects") {
        out.line(1, format!("{}\t{}\t{}", text(subject, "/kind"), text(subject, "/name"), text(subject, "/namespace")));
    }
}
