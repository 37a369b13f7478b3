//! HTTP/1.1 over TLS, as a client that keeps its connection makes it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client: whom it connects to, and as whom.
pub struct Https {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    bearer: Option<HeaderValue>,
    open: tokio::sync::Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Https {
    /// A client with a certificate, in PEM, and its key, or with a bearer token, or with nothing.
    pub fn new(address: SocketAddr, certificate: Option<(&str, &str)>, bearer: Option<&str>) -> Self {
        Self {
            address,
            tls: Arc::new(config(certificate, b"http/1.1")),
            bearer: bearer.map(|token| HeaderValue::try_from(format!("Bearer {token}")).unwrap()),
            open: tokio::sync::Mutex::new(None),
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, Bytes) {
        request.headers_mut().insert("host", HeaderValue::from_static("kubernetes"));
        if let Some(bearer) = &self.bearer {
            request.headers_mut().entry("authorization").or_insert(bearer.clone());
        }
        let mut open = self.open.lock().await;
        let kept = match open.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let (sender, connection) = handshake(TokioIo::new(self.connect().await)).await.unwrap();
                tokio::spawn(async move { drop(connection.await) });
                sender
            }
        };
        let answered = sender.send_request(request.clone()).await;
        let answered = match answered {
            Ok(answered) => answered,
            // The server may close a kept connection, or answer before it has read a large body, at any time.
            Err(_) => self.alone(request).await,
        };
        let (parts, body) = answered.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if parts.headers.get("connection").is_none_or(|value| value != "close") {
            *open = Some(sender);
        }
        (parts.status, parts.headers, body)
    }

    /// Sends a request on a connection of its own, again when it breaks: an answer may be lost with what was not read.
    async fn alone(&self, request: Request<Full<Bytes>>) -> http::Response<hyper::body::Incoming> {
        for _ in 0..20 {
            let (mut sender, connection) = handshake(TokioIo::new(self.connect().await)).await.unwrap();
            tokio::spawn(async move { drop(connection.await) });
            if let Ok(answered) = sender.send_request(request.clone()).await {
                return answered;
            }
        }
        panic!("no answer to {} {}", request.method(), request.uri())
    }

    /// A connection of its own.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.unwrap()
    }
}

/// TLS of a client that takes any server.
pub fn config(certificate: Option<(&str, &str)>, protocol: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(client::tls::any_server());
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}
