//! DELETECOLLECTION: a list, each of whose items is deleted by the rules of a single delete.

use std::sync::Arc;

use api::{Reason, Status};
use bytes::Bytes;
use futures::TryStreamExt as _;
use parking_lot::Mutex;

use super::Call;
use super::options::DeleteOptions;
use super::render::Renderer;
use crate::cache::Cached;
use crate::http::Response;

/// Deletes under way at a time.
const WORKERS: usize = 8;

/// Answers a deletecollection request with the list of what it found.
pub async fn delete(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let asked = DeleteOptions::read(call, body)?;
    let view = call.view()?;
    let page = super::list::page(call, &view).await?;
    futures::stream::iter(page.items.iter().map(Ok))
        .try_for_each_concurrent(WORKERS, |item| one(call, &asked, item))
        .await?;
    Ok(Renderer::new(call).list(call, page))
}

async fn one(call: &Call<'_>, asked: &DeleteOptions, item: &Arc<Cached>) -> Result<(), Status> {
    let single = Call {
        server: call.server,
        row: call.row,
        verb: call.verb,
        namespace: item.namespace(),
        name: item.name(),
        subresource: "",
        user: call.user,
        params: call.params.clone(),
        accept: call.accept,
        headers: call.headers,
        gzip: false,
        warnings: Mutex::default(),
    };
    match super::delete::run(&single, asked).await {
        Ok(_) => Ok(()),
        // Someone else was faster.
        Err(status) if status.is(Reason::NotFound) => Ok(()),
        Err(status) => Err(status),
    }
}
