//! `metrics.k8s.io`, which is metrics-server's, built in: what nodes and Pods use, asked of kubelets on request.
//!
//! It is served while APIService `v1beta1.metrics.k8s.io` names no Service: see [`switch`]. Errors and left-out objects
//! are as metrics-server's.

mod gauge;
mod objects;
mod sample;
pub mod switch;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Gvr, Status};
use http::StatusCode;

use crate::cache::Cached;
use crate::http::Response;
use crate::pipeline::Call;
use crate::pipeline::list::Page;
use crate::pipeline::render::Renderer;
use crate::rows::Row;

pub use gauge::Gauge;

/// Answers a get or a list.
pub async fn handle(call: &Call<'_>) -> Result<Response, Status> {
    let measured = if call.row.resource.namespaced { pods(call).await? } else { nodes(call).await? };
    if call.name.is_empty() {
        return Ok(Renderer::new(call).list(call, Page::unversioned(measured)));
    }
    match measured.first() {
        Some(one) => Ok(call.answer(StatusCode::OK, one)),
        None => Err(not_measured(call)),
    }
}

/// What metrics-server says of what is there and not measured.
fn not_measured(call: &Call<'_>) -> Status {
    let resource = call.row.resource.kind.to_lowercase();
    let name =
        if call.namespace.is_empty() { call.name.to_owned() } else { format!("{}/{}", call.namespace, call.name) };
    Status::not_found(&call.row.gvr.group, &resource, &name)
}

/// The objects whose use is asked for: those of the kind that is measured, by name, namespace and selectors.
fn asked(call: &Call<'_>, measured: &Gvr) -> Result<(Arc<Row>, Vec<Arc<Cached>>), Status> {
    let view = call.view()?;
    let rows = call.server.rows.load();
    let row = rows.by_gvr(measured).cloned().ok_or_else(Status::no_such_path)?;
    let snapshot = row.cache.snapshot(0);
    let found: Vec<_> = snapshot.range(&view.namespace, "").filter(|o| view.matches(o)).cloned().collect();
    if found.is_empty() && !call.name.is_empty() {
        return Err(Status::not_found("", &measured.resource, call.name));
    }
    Ok((row, found))
}

async fn nodes(call: &Call<'_>) -> Result<Vec<Arc<Cached>>, Status> {
    let (_, nodes) = asked(call, &apiserver_auth::objects::NODES)?;
    let names = nodes.iter().map(|node| node.name().to_owned()).collect();
    let measured = call.server.gauge.measure(call.server, names).await;
    let each = nodes.iter().filter_map(|node| Some((node, measured.get(node.name())?.node?)));
    each.map(|(node, usage)| objects::node(call.row, node, &usage)).collect()
}

async fn pods(call: &Call<'_>) -> Result<Vec<Arc<Cached>>, Status> {
    let (row, pods) = asked(call, &apiserver_auth::objects::PODS)?;
    let on = row.storage.selectable.iter().position(|field| field == "spec.nodeName");
    let node_of = |pod: &Cached| on.and_then(|at| pod.fields.get(at)).map_or(String::new(), |name| name.to_string());
    let names: BTreeSet<String> = pods.iter().map(|pod| node_of(pod)).filter(|name| !name.is_empty()).collect();
    let measured = call.server.gauge.measure(call.server, names).await;
    let each = pods.iter().filter_map(|pod| {
        let key = (pod.namespace().to_owned(), pod.name().to_owned());
        Some((pod, measured.get(&node_of(pod))?.pods.get(&key)?))
    });
    each.map(|(pod, containers)| objects::pod(call.row, pod, containers)).collect()
}
