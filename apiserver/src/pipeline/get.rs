//! GET of one object: its committed bytes, looked up and sent.

use std::sync::Arc;

use api::Status;

use super::Call;
use super::render::Renderer;
use crate::cache::Cached;
use crate::http::Response;

/// Answers a get of an object, or of its status.
pub async fn get(call: &Call<'_>) -> Result<Response, Status> {
    let cached = find(call).await?;
    Ok(Renderer::new(call).one(call, http::StatusCode::OK, &cached))
}

/// The object as the resource version of the request asks: newest, any, or not older.
pub async fn find(call: &Call<'_>) -> Result<Arc<Cached>, Status> {
    let asked = super::list::parse_revision(&call.params.resource_version);
    match asked.map_err(|error| Status::unexpected(error.to_string()))? {
        None => call.server.fresh().await?,
        Some(0) => {}
        Some(revision) => call.server.reached(revision).await?,
    }
    current(call)
}

/// The object as the cache has it.
pub fn current(call: &Call<'_>) -> Result<Arc<Cached>, Status> {
    let found = call.row.cache.get(&call.row.key(call.namespace, call.name));
    found.ok_or_else(|| Status::not_found(&call.row.gvr.group, &call.row.gvr.resource, call.name))
}
