//! Sending a request, without its answer's kind: what is done with the text is the caller's matter.

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Error, Result};

/// A request as `kube::core::Request` builds it.
pub type Built = std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// The body of the answer, as it comes. (Boxed, so that who awaits it does not bring its code.)
///
/// # Errors
/// The server was not reached, or answered with a failure.
pub fn body(client: Client, request: Built) -> BoxFuture<'static, Result<Body>> {
    Box::pin(send(client, request))
}

/// The whole body of the answer.
///
/// # Errors
/// As with [`body`], and when it breaks off.
pub fn bytes(client: Client, request: Built) -> BoxFuture<'static, Result<Bytes>> {
    Box::pin(async move { Ok(send(client, request).await?.collect().await?.to_bytes()) })
}

async fn send(client: Client, request: Built) -> Result<Body> {
    let request = request.map_err(Error::BuildRequest)?;
    let answer = client.send(request.map(Body::from)).await?;
    let code = answer.status();
    if code.is_success() {
        return Ok(answer.into_body());
    }
    let text = answer.into_body().collect().await?.to_bytes();
    let status = serde_json::from_slice(&text).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&text);
        Status::failure(text.trim(), "Failed to parse error data").with_code(code.as_u16())
    });
    Err(Error::Api(Box::new(status)))
}
