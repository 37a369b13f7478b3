//! Sending a request on, and its answer back; upgraded connections become tunnels.

use std::time::Duration;

use api::{Reason, Status};
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::{Scheme, Target};
use crate::http::body::{Body, ReqBody};
use crate::http::{BoxError, Response};
use crate::server::Shared;

/// A backend must have taken the connection by then.
const CONNECT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

pub(super) fn unreachable_backend(target: &Target, error: impl std::fmt::Display) -> Status {
    let Target { host, port, .. } = target;
    let text = format!("error dialing backend: dial tcp {host}:{port}: {error}");
    match target.scheme {
        Scheme::Kubelet => Status::internal(text),
        _ => Status::failure(Reason::ServiceUnavailable, text),
    }
}

/// Sends a request to its target and answers with what comes back.
pub async fn forward(server: &Shared, target: Target, parts: &Parts, body: ReqBody) -> Result<Response, Status> {
    let connected = tokio::time::timeout(CONNECT, connect(server, &target)).await;
    let io = connected
        .map_err(|_| unreachable_backend(&target, "i/o timeout"))?
        .map_err(|e| unreachable_backend(&target, e))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|e| unreachable_backend(&target, e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend");
        }
    });
    let request = outgoing(&target, parts, body)?;
    let mut answer = sender.send_request(request).await.map_err(|e| unreachable_backend(&target, e))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(tunnel(parts, &mut answer));
    }
    let (mut head, incoming) = answer.into_parts();
    for name in HOP_BY_HOP {
        head.headers.remove(name);
    }
    // The connection's task lives as long as the body is read.
    let body = Body::stream(Held { body: incoming.map_err(|e| Box::new(e) as BoxError), _sender: sender });
    Ok(Response::from_parts(head, body))
}

/// A body together with what keeps its connection open.
struct Held<B> {
    body: B,
    _sender: http1::SendRequest<ReqBody>,
}

impl<B> http_body::Body for Held<B>
where
    B: http_body::Body + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(super) async fn connect(server: &Shared, target: &Target) -> std::io::Result<Box<dyn Io>> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    let config = match target.scheme {
        Scheme::Http => return Ok(Box::new(stream)),
        Scheme::Https => server.kubelets.anyone.clone(),
        Scheme::Kubelet => server.kubelets.kubelet(),
    };
    let name = ServerName::try_from(target.host.clone())
        .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

fn outgoing(target: &Target, parts: &Parts, body: ReqBody) -> Result<Request<ReqBody>, Status> {
    let uri: Uri =
        target.path.parse().map_err(|e| Status::bad_request(format!("the path cannot be forwarded: {e}")))?;
    let upgrade = parts.headers.get(header::UPGRADE).cloned();
    let mut headers = HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let credentials = *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-");
        if !credentials && !HOP_BY_HOP.contains(name) && *name != header::HOST && *name != header::UPGRADE {
            headers.append(name, value.clone());
        }
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
    let host = HeaderValue::try_from(format!("{}:{}", target.host, target.port))
        .map_err(|e| Status::internal(format!("the backend's address is no header: {e}")))?;
    headers.insert(header::HOST, host);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Joins the client's connection with the backend's once both are upgraded.
fn tunnel(parts: &Parts, answer: &mut http::Response<hyper::body::Incoming>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    let backend = hyper::upgrade::on(answer);
    let Some(client) = parts.extensions.get::<OnUpgrade>().cloned() else {
        tracing::warn!("a client without an upgradable connection asked for an upgrade");
        return crate::http::response::status(
            &Status::bad_request("the connection cannot be upgraded"),
            Default::default(),
        );
    };
    tokio::spawn(async move {
        match tokio::try_join!(client, backend) {
            Ok((client, backend)) => {
                let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
                    tracing::debug!(%error, "tunnel");
                }
            }
            Err(error) => tracing::debug!(%error, "upgrade"),
        }
    });
    response
}
