//! The way in: who is it, may they, what do they want; and the one way out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use api::{Reason, Status};
use apiserver_auth::authn::impersonation::{Wanted, impersonate};
use apiserver_auth::authorize::check;
use apiserver_auth::{Attributes, UserInfo};
use bytes::Bytes;
use client::strangers::Standing;
use futures::FutureExt as _;
use http::request::Parts;
use http::{HeaderValue, Method, header};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::sync::SemaphorePermit;

use super::{Call, collection, create, delete, get, list, options, patch, update, watch};
use crate::http::body::ReqBody;
use crate::http::negotiate::{self, Accept, Offer, Shape};
use crate::http::params::Params;
use crate::http::route::{self, Route, Target};
use crate::http::{Response, compress, response};
use crate::rows::Row;
use crate::server::Shared;

/// Who is at the other end, as far as the transport knows.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A connection, with the certificates that the client showed, and how it stands.
    Connection { certificates: Arc<[CertificateDer<'static>]>, standing: Arc<Standing> },
    /// A component in this process.
    Trusted(Arc<UserInfo>),
}

/// Answers one request; never fails, never panics.
pub async fn handle(server: &Arc<Shared>, parts: Parts, body: ReqBody, peer: &Peer) -> Response {
    let started = Instant::now();
    let mut seen = Seen::default();
    let running = match peer {
        Peer::Connection { standing, .. } => Some(standing.begin()),
        Peer::Trusted(_) => None,
    };
    let answered = AssertUnwindSafe(dispatch(server, &parts, body, peer, &mut seen)).catch_unwind().await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => response::status(&status, seen.accept),
        Err(panic) => {
            server.metrics.panicked();
            tracing::error!(path = parts.uri.path(), panic = panic_text(&*panic), "a request panicked");
            let text = "This request caused apiserver to panic. Look in the logs for details.";
            response::status(&Status::failure(Reason::InternalError, text), Accept::default())
        }
    };
    response::warn(&mut response, &seen.warnings);
    let private = HeaderValue::from_static("no-cache, private");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(private);
    server.metrics.request(&seen.labels, response.status().as_u16(), started.elapsed());
    match running {
        Some(running) => response.map(|body| body.with(running)),
        None => response,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("")
}

/// What the way out needs to know of a request.
#[derive(Default)]
struct Seen {
    accept: Accept,
    warnings: Vec<String>,
    labels: crate::metrics::Labels,
}

async fn dispatch(
    server: &Arc<Shared>,
    parts: &Parts,
    body: ReqBody,
    peer: &Peer,
    seen: &mut Seen,
) -> Result<Response, Status> {
    let user = authenticate(server, parts, peer)?;
    let query = parts.uri.query().unwrap_or("");
    match route::route(parts.uri.path()) {
        Route::Path => {
            let user = authorize_path(server, parts, &user)?;
            crate::nonresource::handle(server, parts, &user).await
        }
        Route::Resource(target) => {
            let params = Params::parse(query)?;
            let Some(verb) = route::verb(&parts.method, &target, params.watch) else {
                return Err(Status::no_such_method());
            };
            let turns = matches!(peer, Peer::Connection { .. });
            resource(server, parts, body, &user, target, params, verb, turns, seen).await
        }
    }
}

/// The user who makes a request.
fn authenticate(server: &Arc<Shared>, parts: &Parts, peer: &Peer) -> Result<Arc<UserInfo>, Status> {
    match peer {
        Peer::Trusted(user) => Ok(user.clone()),
        Peer::Connection { certificates, standing } => {
            let bearer = bearer(parts);
            let now = jiff::Timestamp::now();
            let found = server.access.authenticator.authenticate(certificates, bearer, now, &**server)?;
            if found.is_some() {
                standing.vouch();
            }
            Ok(found.unwrap_or_else(|| server.anonymous.clone()))
        }
    }
}

/// Whether the request may be made, and as whom it is made then: `user`, or whom they impersonate.
fn permit(
    server: &Arc<Shared>,
    parts: &Parts,
    user: &Arc<UserInfo>,
    attributes: &Attributes<'_>,
) -> Result<Arc<UserInfo>, Status> {
    let authorizer = &*server.access.authorizer;
    let Some(wanted) = impersonated(parts)? else {
        return check(authorizer, attributes, &**server).map(|_| user.clone());
    };
    let acting = impersonate(attributes, &wanted, authorizer, &**server)?;
    check(authorizer, &Attributes { user: &acting, ..*attributes }, &**server)?;
    Ok(Arc::new(acting))
}

/// Whom the request's headers want it to be made as.
fn impersonated(parts: &Parts) -> Result<Option<Wanted>, Status> {
    if !parts.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let headers = parts.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    Wanted::from_headers(headers)
}

/// The token of the `Authorization` header, or of the WebSocket sub-protocol that browsers use instead.
fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn authorize_path(server: &Arc<Shared>, parts: &Parts, user: &Arc<UserInfo>) -> Result<Arc<UserInfo>, Status> {
    let verb = match parts.method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "options",
    };
    permit(server, parts, user, &Attributes::path(user, verb, parts.uri.path()))
}

/// A request for a resource: authorized, then handed to its verb.
#[allow(clippy::too_many_arguments)]
async fn resource(
    server: &Arc<Shared>,
    parts: &Parts,
    body: ReqBody,
    user: &Arc<UserInfo>,
    target: Target<'_>,
    mut params: Params<'_>,
    verb: &'static str,
    turns: bool,
    seen: &mut Seen,
) -> Result<Response, Status> {
    let (Some(name), Some(namespace)) = (route::unescape(target.name), route::unescape(target.namespace)) else {
        return Ok(response::malformed());
    };
    let user = &authorize(server, parts, user, &target, (&namespace, &name), &params, verb)?;
    let rows = server.rows.load();
    let Some(row) = rows.find(target.group, target.version, target.resource).cloned() else {
        let known = rows.all().any(|row| row.gvr.group == target.group);
        return if known { Err(Status::no_such_path()) } else { Ok(response::page_not_found()) };
    };
    drop(rows);
    seen.labels.set(&row, verb, target.subresource);
    check_scope(&row, &target)?;
    check_segments(&name, &namespace, &target)?;
    check_verb(&row, &target, verb)?;
    params.watch |= target.watch_prefix;
    let offer =
        if target.subresource.is_empty() || target.subresource == "status" { Offer::Shapes } else { Offer::Whole };
    let has_message = api::protobuf::message_of(&row.resource.schema).is_some();
    let mut accept = match negotiate::accept(&parts.headers, offer, has_message) {
        // What a connection answers with is not ours to choose.
        Err(_) if crate::proxy::is_connection(target.subresource) => Accept::default(),
        accept => accept?,
    };
    accept.pretty = params.pretty.unwrap_or(accept.pretty);
    seen.accept = Accept { shape: Shape::Whole, ..accept };
    let call = Call {
        server,
        row: &row,
        verb,
        namespace: if row.resource.namespaced { &namespace } else { "" },
        name: &name,
        subresource: target.subresource,
        user,
        params,
        accept,
        headers: &parts.headers,
        gzip: compress::accepts_gzip(&parts.headers),
        warnings: Mutex::default(),
    };
    call.warn(crate::quirks::deprecation(&row.gvr).map(str::to_owned));
    let answered = verbs(&call, parts, body, target.rest, turns).await;
    seen.warnings = call.warnings.into_inner();
    answered
}

fn authorize(
    server: &Arc<Shared>,
    parts: &Parts,
    user: &Arc<UserInfo>,
    target: &Target<'_>,
    (namespace, name): (&str, &str),
    params: &Params<'_>,
    verb: &str,
) -> Result<Arc<UserInfo>, Status> {
    let selected = if matches!(verb, "list" | "watch" | "deletecollection") { &*params.field_selector } else { "" };
    let exact = selected.strip_prefix("metadata.name=").filter(|n| !n.contains([',', '\\'])).unwrap_or("");
    let attributes = Attributes {
        version: target.version,
        subresource: target.subresource,
        namespace,
        name: if name.is_empty() { exact.trim_start_matches('=') } else { name },
        path: "",
        field_selector: selected,
        ..Attributes::resource(user, verb, target.group, target.resource)
    };
    permit(server, parts, user, &attributes)
}

/// Namespaced objects are reached through their namespace, others without one.
fn check_scope(row: &Row, target: &Target<'_>) -> Result<(), Status> {
    let of_namespace = target.resource == "namespaces" && target.group.is_empty();
    let misplaced = match row.resource.namespaced {
        true => target.namespace.is_empty() && !target.name.is_empty(),
        false => !target.namespace.is_empty() && !of_namespace,
    };
    if misplaced { Err(Status::no_such_path()) } else { Ok(()) }
}

/// Names with an escaped slash and paths that go on below what there is lead nowhere; dots are no names.
fn check_segments(name: &str, namespace: &str, target: &Target<'_>) -> Result<(), Status> {
    if name.contains('/') || namespace.contains('/') || (!target.rest.is_empty() && target.subresource != "proxy") {
        return Err(Status::no_such_path());
    }
    if matches!(name, "." | "..") {
        return Err(Status::bad_request(format!("Name parameter invalid: {name:?}: may not be '{name}'")));
    }
    Ok(())
}

fn check_verb(row: &Row, target: &Target<'_>, verb: &str) -> Result<(), Status> {
    let refused = Status::no_such_method;
    if target.subresource.is_empty() {
        let across =
            row.resource.namespaced && target.namespace.is_empty() && matches!(verb, "create" | "deletecollection");
        let misplaced = match verb {
            "update" | "patch" => target.name.is_empty(),
            "create" => !target.name.is_empty(),
            _ => false,
        };
        return if row.resource.has_verb(verb) && !across && !misplaced { Ok(()) } else { Err(refused()) };
    }
    let Some(subresource) = row.resource.subresource(target.subresource) else { return Err(Status::no_such_path()) };
    if subresource.verbs.iter().any(|v| v == verb) { Ok(()) } else { Err(refused()) }
}

/// A request's turn, when it comes over a connection: only so many are answered at a time. Bodies are read before, so
/// that
/// nobody waits for a slow one.
async fn turn<'c>(call: &Call<'c>, turns: bool) -> Result<Option<SemaphorePermit<'c>>, Status> {
    if !turns {
        return Ok(None);
    }
    let patience = call.server.settings.limits.patience;
    match tokio::time::timeout(patience, call.server.turns.acquire()).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        Ok(Err(_)) => unreachable!("the semaphore is never closed"),
        Err(_) => {
            call.server.metrics.refused();
            Err(Status::too_many_requests("Too many requests, please try again later.", 1))
        }
    }
}

async fn verbs(call: &Call<'_>, parts: &Parts, body: ReqBody, rest: &str, turns: bool) -> Result<Response, Status> {
    if !call.subresource.is_empty() && crate::subresources::is_own(call.row, call.subresource) {
        return crate::subresources::handle(call, parts, body, rest).await;
    }
    match call.verb {
        "get" | "list" if call.row.resource.measured => crate::resource_metrics::handle(call).await,
        "get" => {
            let _turn = turn(call, turns).await?;
            get::get(call).await
        }
        "list" => {
            let _turn = turn(call, turns).await?;
            list::list(call).await
        }
        "watch" => watch::watch(call).await,
        _ => {
            let body: Bytes = body.collect().await?;
            options::check(call)?;
            let _turn = turn(call, turns).await?;
            match call.verb {
                "create" if crate::subresources::is_virtual(call.row) => crate::subresources::review(call, &body).await,
                "create" => create::create(call, &body).await,
                "update" => update::update(call, &body).await,
                "patch" => patch::patch(call, &body).await,
                "delete" => delete::delete(call, &body).await,
                "deletecollection" => collection::delete(call, &body).await,
                other => Err(Status::internal(format!("no verb {other}"))),
            }
        }
    }
}
