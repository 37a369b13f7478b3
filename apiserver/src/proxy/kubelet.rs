//! Questions of the server's own to a kubelet.

use api::Status;
use apiserver_auth::Objects as _;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::forward::{connect, unreachable_backend};
use super::target::{self, Scheme, Target};
use crate::server::Shared;

/// What a node's kubelet answers to a GET, of at most `longest` bytes. How long that may take is the caller's.
///
/// # Errors
/// There is no such node, its kubelet cannot be reached, or it answers with something else than 200.
pub async fn ask(server: &Shared, node: &str, path: &str, longest: usize) -> Result<Bytes, Status> {
    let found = server.get(&apiserver_auth::objects::NODES, "", node);
    let (host, port) = target::kubelet(&*found.ok_or_else(|| Status::not_found("", "nodes", node))?)?;
    let target = Target { scheme: Scheme::Kubelet, host, port, path: path.to_owned() };
    let io = connect(server, &target).await.map_err(|e| unreachable_backend(&target, e))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|e| unreachable_backend(&target, e))?;
    let answered = async {
        let request = Request::get(path)
            .header(header::HOST, format!("{}:{}", target.host, target.port))
            .body(Empty::<Bytes>::new())
            .map_err(|e| Status::internal(format!("ask kubelet of {node} for {path}: {e}")))?;
        let answer = sender.send_request(request).await.map_err(|e| unreachable_backend(&target, e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), longest).collect().await;
        let body = body.map_err(|e| Status::internal(format!("read {path} of the kubelet of {node}: {e}")))?;
        match status {
            StatusCode::OK => Ok(body.to_bytes()),
            code => Err(Status::internal(format!("kubelet of {node} answered {path} with {code}"))),
        }
    };
    tokio::pin!(answered, connection);
    tokio::select! {
        answer = &mut answered => answer,
        ended = &mut connection => match ended {
            // The answer may have come whole before the connection ended.
            Ok(()) => answered.await,
            Err(error) => Err(unreachable_backend(&target, error)),
        },
    }
}
