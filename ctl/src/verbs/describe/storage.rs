//! PersistentVolumes and their claims.

use serde_json::Value;

use super::parts::{annotations, head, labels, labels_and_annotations, long_conditions};
use super::text::{Text, or_none};
use super::volumes::{access_modes, source};
use super::{Subject, name_of};
use crate::error::Result;
use crate::verbs::pods::{items, matching, text};

fn finalizers(object: &Value) -> String {
    let all: Vec<&str> = items(object, "/metadata/finalizers").filter_map(Value::as_str).collect();
    format!("[{}]", all.join(" "))
}

fn status(out: &mut Text, object: &Value) {
    match text(object, "/metadata/deletionTimestamp") {
        "" => out.field(0, "Status", text(object, "/status/phase")),
        deleted => {
            let lasts = api::printer::since(deleted, jiff::Timestamp::now().as_second());
            out.field(0, "Status", format!("Terminating (lasts {lasts})"));
        }
    }
}

pub(super) fn volume(out: &mut Text, object: &Value) {
    out.field(0, "Name", name_of(object));
    labels_and_annotations(out, object);
    out.field(0, "Finalizers", finalizers(object));
    out.field(0, "StorageClass", text(object, "/spec/storageClassName"));
    status(out, object);
    let claim = match object.pointer("/spec/claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
        None => String::new(),
    };
    out.field(0, "Claim", claim);
    out.field(0, "Reclaim Policy", text(object, "/spec/persistentVolumeReclaimPolicy"));
    out.field(0, "Access Modes", access_modes(object, "/spec/accessModes"));
    out.field_of(0, "VolumeMode", object, "/spec/volumeMode");
    out.field(0, "Capacity", text(object, "/spec/capacity/storage"));
    affinity(out, object);
    out.field(0, "Message", text(object, "/status/message"));
    out.line(0, "Source:");
    source(out, object.get("spec").unwrap_or(&Value::Null));
}

fn affinity(out: &mut Text, object: &Value) {
    let Some(required) = object.pointer("/spec/nodeAffinity/required") else {
        return out.field(0, "Node Affinity", "<none>");
    };
    out.line(0, "Node Affinity:\t\n  Required Terms:\t");
    for (at, term) in items(required, "/nodeSelectorTerms").enumerate() {
        let expressions = items(term, "/matchExpressions").map(|expression| {
            let values: Vec<&str> = items(expression, "/values").filter_map(Value::as_str).collect();
            let values = if values.is_empty() { String::new() } else { format!(" [{}]", values.join(", ")) };
            format!("{} {}{values}", text(expression, "/key"), text(expression, "/operator").to_lowercase())
        });
        let all: Vec<String> = expressions.collect();
        out.field(2, &format!("Term {at}"), or_none(&all.join("\n        \t")));
    }
}

pub(super) async fn claim(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    head(out, object);
    out.field(0, "StorageClass", text(object, "/spec/storageClassName"));
    status(out, object);
    out.field(0, "Volume", text(object, "/spec/volumeName"));
    labels(out, "Labels", object.pointer("/metadata/labels"));
    annotations(out, "Annotations", object.pointer("/metadata/annotations"));
    out.field(0, "Finalizers", finalizers(object));
    let is_bound = !text(object, "/spec/volumeName").is_empty();
    let capacity = if is_bound { text(object, "/status/capacity/storage") } else { "" };
    out.field(0, "Capacity", capacity);
    out.field(0, "Access Modes", if is_bound { access_modes(object, "/status/accessModes") } else { String::new() });
    out.field_of(0, "VolumeMode", object, "/spec/volumeMode");
    let pods = matching(subject.session, subject.namespace, "").await?;
    let uses =
        |pod: &&Value| items(pod, "/spec/volumes").any(|v| text(v, "/persistentVolumeClaim/claimName") == subject.name);
    out.values("Used By", pods.iter().filter(uses).map(|pod| name_of(pod).to_owned()));
    long_conditions(out, object, ("LastProbeTime", "/lastProbeTime"));
    Ok(())
}
