//! Requests that end at a node, a Pod or a Service: logs, exec, attach, port-forward, proxy. They are forwarded as they
//! come; upgraded connections are tunnelled byte for byte.

mod forward;
mod kubelet;
mod target;
mod tls;

use api::{Status, object};
use apiserver_admission::Operation;
use apiserver_auth::Attributes;
use apiserver_auth::authorize::check;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};

use crate::http::body::ReqBody;
use crate::http::{Response, response};
use crate::pipeline::{Call, options, prepare, update};

pub use kubelet::ask as ask_kubelet;
pub use tls::KubeletClient;

/// Whether a subresource is a connection.
pub fn is_connection(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// A WebSocket begins with a GET, but what it does needs the right to create, as it would by POST.
fn may_create(call: &Call<'_>) -> Result<(), Status> {
    let gvr = &call.row.gvr;
    let attributes = Attributes {
        version: &gvr.version,
        subresource: call.subresource,
        namespace: call.namespace,
        name: call.name,
        ..Attributes::resource(call.user, "create", &gvr.group, &gvr.resource)
    };
    check(&*call.server.access.authorizer, &attributes, &**call.server).map(drop)
}

/// Forwards a request to where its object runs.
pub async fn handle(call: &Call<'_>, parts: &Parts, body: ReqBody, rest: &str) -> Result<Response, Status> {
    if call.verb == "get" && matches!(call.subresource, "exec" | "attach" | "portforward") {
        may_create(call)?;
    }
    let name = target::object_name(call);
    let cached = update::named(call, name).await?.ok_or_else(|| call.not_found())?;
    let object = update::decoded(call, &cached)?;
    if call.subresource != "log" {
        let options = options::connect(call, parts.uri.query().unwrap_or(""));
        prepare::admit_without_object(call, Operation::Connect, Some(&object), &options)?;
    }
    let query = parts.uri.query().unwrap_or("");
    if call.subresource == "log" && object::str_at(&object, &["spec", "nodeName"]).is_empty() {
        return Ok(response::no_content());
    }
    let target = target::of(call, &object, query, rest)?;
    let answer = forward::forward(call.server, target, parts, body).await?;
    match call.subresource == "log" && !answer.status().is_success() {
        true => Err(refused(call, name, answer).await),
        false => Ok(answer),
    }
}

/// The most that is read of a kubelet's reason.
const REASON: usize = 1000;

/// A kubelet refuses in plain text: clients get a Status, as from everything else.
async fn refused(call: &Call<'_>, name: &str, answer: Response) -> Status {
    let (head, body) = answer.into_parts();
    let text = match Limited::new(body, REASON).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("the kubelet's reason cannot be read: {error}"),
    };
    let gvr = &call.row.gvr;
    match head.status {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let mut status = Status::not_found(&gvr.group, &gvr.resource, name);
            status.message = format!("the server could not find the requested resource ({text})");
            status
        }
        _ => Status::internal(text),
    }
}
