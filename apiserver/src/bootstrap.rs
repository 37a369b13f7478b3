//! Objects that the server itself creates, through the same pipeline, as `system:apiserver`.

use std::sync::Arc;

use api::{Gvk, Object, Status};
use apiserver_auth::UserInfo;
use http::HeaderMap;
use parking_lot::Mutex;

use crate::http::negotiate::Accept;
use crate::http::params::Params;
use crate::pipeline::{Call, create};
use crate::rows::Row;
use crate::server::Shared;

/// The identity of the server itself.
pub fn identity() -> Arc<UserInfo> {
    Arc::new(UserInfo::new(apiserver_auth::user::USER_APISERVER, &[apiserver_auth::user::GROUP_MASTERS]))
}

/// The row of an object's apiVersion and kind.
pub fn row_of(server: &Shared, object: &Object) -> Option<Arc<Row>> {
    let (group, version) = api::meta::split_api_version(api::object::str_at(object, &["apiVersion"]))?;
    let gvk = Gvk::new(group, version, api::object::str_at(object, &["kind"]));
    let rows = server.rows.load();
    let gvr = rows.table.by_kind(&gvk)?.gvr();
    rows.by_gvr(&gvr).cloned()
}

/// Runs `f` with a call of the server's own.
pub fn call<'a>(
    server: &'a Arc<Shared>,
    row: &'a Arc<Row>,
    user: &'a Arc<UserInfo>,
    headers: &'a HeaderMap,
    verb: &'static str,
    (namespace, name): (&'a str, &'a str),
) -> Call<'a> {
    Call {
        server,
        row,
        verb,
        namespace,
        name,
        subresource: "",
        user,
        params: Params { field_manager: "kube-apiserver".into(), ..Params::default() },
        accept: Accept::default(),
        headers,
        gzip: false,
        warnings: Mutex::default(),
    }
}

/// Creates an object.
pub async fn create(server: &Arc<Shared>, object: Object) -> Result<(), Status> {
    let row = row_of(server, &object).ok_or_else(|| Status::internal("no such kind"))?;
    let (user, headers) = (identity(), HeaderMap::new());
    let namespace = api::object::namespace(&object).to_owned();
    let name = api::object::name(&object).to_owned();
    if row.cache.get(&row.key(&namespace, &name)).is_some() {
        return Ok(());
    }
    let call = call(server, &row, &user, &headers, "create", (&namespace, ""));
    create::store(&call, object).await.map(drop)
}
