//! HTTP and HTTPS probes and hooks: a status from 200 to 399 is a success. Certificates are not checked, as upstream.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Outcome, tcp};

/// What of an answer's body stands in a failure's message; more is not read.
const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

/// Where a request goes, and with which headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// The request that an action means for a container at this address.
///
/// # Errors
/// The container has no such port.
pub fn target(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<Target, String> {
    let path = action.path.as_deref().unwrap_or("/");
    let headers = action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
    Ok(Target {
        tls: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
        port: super::port(&action.port, container)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers: headers.collect(),
    })
}

impl Target {
    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", tcp::address(&self.host, self.port), self.path)
    }
}

/// Asks, and follows redirects on the same host.
pub async fn probe(target: &Target, timeout: Duration, agent: &str) -> Outcome {
    let run = async {
        let mut here = target.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = match get(&here, agent).await {
                Ok(answer) => answer,
                Err(error) => return Outcome::Failure(format!("Get {:?}: {error}", here.url())),
            };
            let Some(location) = answer.location.filter(|_| (300..400).contains(&answer.status)) else {
                return judge(answer.status, answer.reason);
            };
            match redirected(&here, &location) {
                Some(next) if next.host == here.host => here = next,
                Some(_) => {
                    return Outcome::Warning("Probe terminated redirects, Response body: ".to_owned() + &answer.body);
                }
                None => return Outcome::Failure(format!("Get {:?}: invalid Location {location:?}", here.url())),
            }
        }
        Outcome::Failure(format!("Get {:?}: stopped after 10 redirects", here.url()))
    };
    match tokio::time::timeout(timeout, run).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            target.url()
        )),
    }
}

fn judge(status: u16, _reason: Option<&'static str>) -> Outcome {
    if (200..400).contains(&status) {
        Outcome::Success
    } else {
        Outcome::Failure(format!("HTTP probe failed with statuscode: {status}"))
    }
}

fn redirected(from: &Target, location: &str) -> Option<Target> {
    if location.starts_with('/') {
        return Some(Target { path: location.to_owned(), ..from.clone() });
    }
    let uri: Uri = location.parse().ok()?;
    let tls = uri.scheme_str()? == "https";
    Some(Target {
        tls,
        host: uri.host()?.to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        headers: from.headers.clone(),
    })
}

struct Answer {
    status: u16,
    reason: Option<&'static str>,
    location: Option<String>,
    body: String,
}

async fn get(target: &Target, agent: &str) -> Result<Answer, String> {
    let address = tcp::address(&target.host, target.port);
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|e| format!("dial tcp {address}: {}", tcp::connect_error(&e)))?;
    if target.tls {
        let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
        let connector = TlsConnector::from(TLS.clone());
        let stream = connector.connect(name, stream).await.map_err(|e| format!("tls: {e}"))?;
        exchange(target, agent, TokioIo::new(stream)).await
    } else {
        exchange(target, agent, TokioIo::new(stream)).await
    }
}

async fn exchange<S>(target: &Target, agent: &str, stream: S) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(|e| e.to_string())?;
    let request = request(target, agent)?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let location = response.headers().get(http::header::LOCATION);
        let location = location.and_then(|l| l.to_str().ok()).map(str::to_owned);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| e.to_string())?;
            if let Some(data) = frame.data_ref() {
                text.extend_from_slice(&data[..data.len().min(MAX_BODY - text.len())]);
            }
            if text.len() == MAX_BODY {
                break;
            }
        }
        let body = String::from_utf8_lossy(&text).into_owned();
        Ok(Answer { status: status.as_u16(), reason: status.canonical_reason(), location, body })
    };
    // The connection is driven beside the exchange and dropped with it.
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        driven = &mut connection => {
            driven.map_err(|e| e.to_string())?;
            exchange.await
        }
    }
}

fn request(target: &Target, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut builder = Request::builder().method(Method::GET).uri(&target.path);
    let given = |name: &str| target.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !given("host") {
        builder = builder.header("host", tcp::address(&target.host, target.port));
    }
    if !given("user-agent") {
        builder = builder.header("user-agent", format!("kube-{agent}/1.36"));
    }
    if !given("accept") {
        builder = builder.header("accept", "*/*");
    }
    builder = builder.header("connection", "close");
    for (name, value) in &target.headers {
        builder = builder.header(name, value);
    }
    builder.body(Empty::new()).map_err(|e| e.to_string())
}

/// A probe asks whether the container answers, not who it is.
static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(client::tls::to_anyone);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn server(answers: Vec<&'static str>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        client::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let n = stream.read(&mut head).await.unwrap();
                assert!(String::from_utf8_lossy(&head[..n]).contains("user-agent: kube-probe/1.36"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn ask(answers: Vec<&'static str>) -> Outcome {
        let port = server(answers).await;
        let target = Target { tls: false, host: "127.0.0.1".into(), port, path: "/x".into(), headers: Vec::new() };
        probe(&target, Duration::from_secs(5), "probe").await
    }

    #[tokio::test]
    async fn statuses() {
        assert_eq!(ask(vec!["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]).await, Outcome::Success);
        let failed = Outcome::Failure("HTTP probe failed with statuscode: 503".into());
        assert_eq!(ask(vec!["HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"]).await, failed);
        let redirect = "HTTP/1.1 302 Found\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(ask(vec![redirect, "HTTP/1.1 204 No Content\r\n\r\n"]).await, Outcome::Success);
        let away = "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/y\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(ask(vec![away]).await, Outcome::Warning(_)));
    }

    #[tokio::test]
    async fn a_silent_server_times_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target { tls: false, host: "127.0.0.1".into(), port, path: "/".into(), headers: Vec::new() };
        let got = probe(&target, Duration::from_millis(100), "probe").await;
        assert!(matches!(got, Outcome::Failure(m) if m.contains("context deadline exceeded")));
    }
}
