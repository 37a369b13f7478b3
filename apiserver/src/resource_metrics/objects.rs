//! Usage as NodeMetrics and PodMetrics.

use std::sync::Arc;
use std::time::Duration;

use api::quantity::{Format, Quantity};
use api::{Object, Status};
use serde_json::{Map, Value, json};

use super::sample::Usage;
use crate::cache::{Cached, Facts};
use crate::rows::Row;
use crate::storage;

/// What a node uses.
pub fn node(row: &Row, node: &Cached, usage: &Usage) -> Result<Arc<Cached>, Status> {
    object(row, node, usage, ("usage", resources(usage)))
}

/// What a Pod's containers use.
pub fn pod(row: &Row, pod: &Cached, containers: &[(String, Usage)]) -> Result<Arc<Cached>, Status> {
    let each: Vec<Value> =
        containers.iter().map(|(name, usage)| json!({"name": name, "usage": resources(usage)})).collect();
    let earliest = containers.iter().map(|(_, usage)| usage).min_by_key(|usage| usage.at);
    let earliest = earliest.ok_or_else(|| Status::internal("a Pod without containers was measured"))?;
    object(row, pod, earliest, ("containers", each.into()))
}

fn resources(usage: &Usage) -> Value {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::nano(signed(usage.cpu), Format::DecimalSi).to_string(),
        "memory": Quantity::new(signed(usage.memory), Format::BinarySi).to_string(),
    })
}

/// As metrics-server, it was created now and has its subject's labels.
fn object(row: &Row, of: &Cached, usage: &Usage, (field, value): (&str, Value)) -> Result<Arc<Cached>, Status> {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), of.name().into());
    if !of.namespace().is_empty() {
        metadata.insert("namespace".to_owned(), of.namespace().into());
    }
    metadata.insert("creationTimestamp".to_owned(), seconds(jiff::Timestamp::now()).into());
    if !of.labels.is_empty() {
        let labels: Map<_, _> = of.labels.iter().map(|(k, v)| (k.to_string(), Value::from(&**v))).collect();
        metadata.insert("labels".to_owned(), labels.into());
    }
    let at = jiff::Timestamp::from_millisecond(usage.at).unwrap_or_default();
    let mut object = Object::new();
    object.insert("apiVersion".to_owned(), row.resource.api_version().into());
    object.insert("kind".to_owned(), row.resource.kind.as_str().into());
    object.insert("metadata".to_owned(), metadata.into());
    object.insert("timestamp".to_owned(), seconds(at).into());
    object.insert("window".to_owned(), duration(usage.window).into());
    object.insert(field.to_owned(), value);
    let wire = storage::encode(&object);
    let layout = storage::layout(&wire).ok_or_else(|| Status::internal("measured objects have a kind"))?;
    let facts = Facts::of(&row.resource, &object);
    Ok(Arc::new(Cached::new(&of.key, row.resource.namespaced, 0, wire.into(), layout, facts)))
}

fn seconds(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A duration as Go writes it: `500ms`, `15.2s`, `1m30s`.
fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut text = if minutes > 0 { format!("{minutes}m") } else { String::new() };
    text.push_str(&(rest / 1000).to_string());
    if rest % 1000 > 0 {
        text.push_str(format!(".{:03}", rest % 1000).trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (millis, text) in
            [(0, "0ms"), (250, "250ms"), (1000, "1s"), (15_200, "15.2s"), (60_000, "1m0s"), (90_050, "1m30.05s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
