//! gRPC probes: `grpc.health.v1.Health/Check` answers SERVING, or not. The two messages have one field each, so they
//! are written and read by hand.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Outcome, tcp};

const SERVING: u64 = 1;
const MAX_ANSWER: usize = 4096;

pub async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = tcp::address(host, port);
    match tokio::time::timeout(timeout, check(host, port, service)).await {
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
            crate::time::go_duration(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX))
        )),
        Ok(Err(error)) => Outcome::Failure(format!("error: health rpc probe failed: {error}")),
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            let name = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "?",
            };
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
    }
}

/// Asks for the service's status; the error is the transport's or the gRPC status.
async fn check(host: &str, port: u16, service: &str) -> Result<u64, String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|e| tcp::connect_error(&e))?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = client::spawn(connection);
    let answer = async {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/grpc.health.v1.Health/Check", tcp::address(host, port)))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.36")
            .body(Full::new(frame(service)))
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let in_head = grpc_error(response.headers());
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let collected = body.collect().await.map_err(|e| e.to_string())?;
        if let Some(error) = in_head.or_else(|| collected.trailers().and_then(grpc_error)) {
            return Err(error);
        }
        status(&collected.to_bytes()).ok_or_else(|| "the answer is no HealthCheckResponse".to_owned())
    }
    .await;
    driver.abort();
    answer
}

fn grpc_error(headers: &http::HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
    let code = text("grpc-status").filter(|code| *code != "0")?;
    Some(format!("rpc error: code = {code} desc = {}", text("grpc-message").unwrap_or("")))
}

/// `HealthCheckRequest{service}` in a gRPC frame.
fn frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(0));
    out.put(message);
    out.freeze()
}

/// `HealthCheckResponse.status`, field 1; an empty message is UNKNOWN.
fn status(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, value, ..] => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(&frame("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&frame("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0]), None);
    }

    #[tokio::test]
    async fn against_a_server() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        client::spawn(async move {
            for answer in [&[0, 0, 0, 0, 2, 8, 1][..], &[0, 0, 0, 0, 2, 8, 2][..]] {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| async move {
                    let body = Full::new(Bytes::from_static(answer));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                client::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        let timeout = Duration::from_secs(5);
        assert_eq!(probe("127.0.0.1", port, "s", timeout).await, Outcome::Success);
        let want = Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into());
        assert_eq!(probe("127.0.0.1", port, "s", timeout).await, want);
    }
}
