//! Objects that the server itself creates, through the same pipeline, as `system:apiserver`.

use std::sync::Arc;

use api::{Gvk, Object, Reason, Status};
use apiserver_auth::UserInfo;
use apiserver_auth::policy::reconcile::{Action, plan};
use futures::TryStreamExt as _;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::http::negotiate::Accept;
use crate::http::params::Params;
use crate::pipeline::options::DeleteOptions;
use crate::pipeline::{Call, create, decode, delete, managed, update};
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

/// How many objects of the policy are written at a time: they share the store's syncs.
const TOGETHER: usize = 32;

/// What could not be created, and why.
pub type Failure = (String, Status);

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// Priority classes that every cluster has.
const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// Creates what every cluster has, and puts the default policy in order.
pub async fn run(server: &Arc<Shared>) -> Result<(), Failure> {
    standing(server).await?;
    for (name, value, description) in PRIORITIES {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description});
        ensure(server, object(class)).await?;
    }
    ensure(server, object(crate::resource_metrics::switch::api_service())).await?;
    let policy = apiserver_auth::policy::bootstrap_objects().into_iter().map(Ok);
    futures::stream::iter(policy).try_for_each_concurrent(TOGETHER, |expected| reconcile(server, expected)).await
}

/// Creates what is to be there always: namespaces, and the way to this server.
pub async fn standing(server: &Arc<Shared>) -> Result<(), Failure> {
    for name in NAMESPACES {
        ensure(server, object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))).await?;
    }
    service(server).await
}

/// Whether it is one of those objects.
pub fn stands(plural: &str, namespace: &str, name: &str) -> bool {
    match plural {
        "namespaces" => NAMESPACES.contains(&name),
        "services" | "endpoints" | "endpointslices" => (namespace, name) == ("default", "kubernetes"),
        _ => false,
    }
}

/// The `kubernetes` Service and where it leads: this server.
async fn service(server: &Arc<Shared>) -> Result<(), Failure> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let address = server.settings.kubernetes_service().to_string();
    let (ip, port) = (server.settings.advertise.ip(), server.settings.advertise.port());
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]}});
    ensure(server, object(service)).await?;
    if ip.is_loopback() || ip.is_unspecified() {
        // Nobody but this machine could follow it, and Endpoints may not name such an address.
        return Ok(());
    }
    let mirrored = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": mirrored},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]});
    set(server, object(endpoints), "subsets").await?;
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    set(server, object(slice), "endpoints").await
}

/// Creates an object, or puts one field of it in order.
async fn set(server: &Arc<Shared>, wanted: Object, field: &str) -> Result<(), Failure> {
    let row = row_of(server, &wanted).ok_or_else(|| (what(&wanted), Status::internal("no such kind")))?;
    let (namespace, name) = names(&wanted);
    if row.cache.get(&row.key(&namespace, &name)).is_none() {
        return create(server, &row, wanted).await;
    }
    let (user, headers) = (identity(), HeaderMap::new());
    let call = call(server, &row, &user, &headers, "update", (&namespace, &name));
    let change = |old: &Object| {
        let mut new = old.clone();
        new.insert(field.to_owned(), wanted.get(field).cloned().unwrap_or_default());
        new.insert("ports".to_owned(), wanted.get("ports").cloned().unwrap_or_default());
        if wanted.get("ports").is_none() {
            new.remove("ports");
        }
        Ok(new)
    };
    update::apply_change(&call, "", &change, "UpdateOptions").await.map(drop).map_err(|status| (what(&wanted), status))
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => unreachable!("written above as an object"),
    }
}

/// Creates an object unless it is there.
async fn ensure(server: &Arc<Shared>, object: Object) -> Result<(), Failure> {
    let row = row_of(server, &object).ok_or_else(|| (what(&object), Status::internal("no such kind")))?;
    let (namespace, name) = names(&object);
    if row.cache.get(&row.key(&namespace, &name)).is_some() {
        return Ok(());
    }
    create(server, &row, object).await
}

async fn create(server: &Arc<Shared>, row: &Arc<Row>, object: Object) -> Result<(), Failure> {
    let (user, headers, what) = (identity(), HeaderMap::new(), what(&object));
    let (namespace, _) = names(&object);
    let call = call(server, row, &user, &headers, "create", (&namespace, ""));
    let mut object = object;
    decode::default(&call, &mut object);
    managed::note(&call, &mut object, None);
    match create::store(&call, object).await {
        Ok(_) => Ok(()),
        Err(status) if status.is(Reason::AlreadyExists) => Ok(()),
        Err(status) => Err((what, status)),
    }
}

/// Puts one object of the default policy in order.
async fn reconcile(server: &Arc<Shared>, expected: Object) -> Result<(), Failure> {
    let row = row_of(server, &expected).ok_or_else(|| (what(&expected), Status::internal("no such kind")))?;
    let (namespace, name) = names(&expected);
    let existing = row.cache.get(&row.key(&namespace, &name));
    let existing = existing.and_then(|c| c.decode().ok());
    let (user, headers) = (identity(), HeaderMap::new());
    let failed = |status| (what(&expected), status);
    match plan(&expected, existing.as_ref()) {
        Action::Nothing => Ok(()),
        Action::Create(object) => create(server, &row, object).await,
        Action::Update(object) => {
            let call = call(server, &row, &user, &headers, "update", (&namespace, &name));
            let change = |_: &Object| Ok(object.clone());
            update::apply_change(&call, "", &change, "UpdateOptions").await.map(drop).map_err(failed)
        }
        Action::Recreate(object) => {
            let call = call(server, &row, &user, &headers, "delete", (&namespace, &name));
            delete::run(&call, &DeleteOptions::default()).await.map_err(failed)?;
            create(server, &row, object).await
        }
    }
}

fn names(object: &Object) -> (String, String) {
    (api::object::namespace(object).to_owned(), api::object::name(object).to_owned())
}

fn what(object: &Object) -> String {
    format!("{} {}", api::object::str_at(object, &["kind"]), api::object::name(object))
}
