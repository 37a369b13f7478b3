//! Slow, half-open and flooding clients over TLS: each is bounded, and others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{Limits, Server};
use crate::agent::Agent;
use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::node::machine::Machine;
use crate::testing::api::Api;
use crate::testing::runtime::Fake;

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(500);

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A kubelet's server alone, and the certificate of the API server's client.
struct Listening {
    address: SocketAddr,
    known: Identity,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Listening {
    async fn start(limits: Limits) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = authority.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.crt"), certificate.pem()).unwrap();
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, "kube-apiserver-kubelet-client");
        let own = KeyPair::generate().unwrap();
        let signed = client.signed_by(&own, &Issuer::new(authority, key)).unwrap();
        let known = (signed.der().clone(), PrivatePkcs8KeyDer::from(own.serialize_der()).into());
        let mut config = Config::new("n1", "127.0.0.1".parse().unwrap(), dir.path());
        config.client_ca = Some(dir.path().join("ca.crt"));
        let machine = Machine::read(dir.path()).unwrap();
        let cgroups = Cgroups::detect(&config.cgroup_root).unwrap();
        let agent = Agent::new(config, Api::new().client(), Fake::new(), machine, cgroups);
        let server = Server::bind(agent, "127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
        let (address, stop) = (server.address().unwrap(), CancellationToken::new());
        tokio::spawn(server.serve(stop.clone()));
        Self { address, known, stop, _dir: dir }
    }

    async fn connect(&self, identity: Option<&Identity>) -> TlsStream<TcpStream> {
        let builder =
            rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(client::tls::any_server());
        let config = match identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("n1".try_into().unwrap(), stream).await.unwrap()
    }

    /// The answer's first line, on a connection of its own.
    async fn get(&self, identity: Option<&Identity>, path: &str) -> String {
        let mut stream = self.connect(identity).await;
        ask(&mut stream, path).await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let asking = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        while !said.contains("\r\n") {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the server hung up: {said:?}");
            said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        said.lines().next().unwrap().to_owned()
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer in time")
}

/// Waits until the server closes the connection, however it says so.
async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    let ended = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the server closes the connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_end_and_stop_nobody() {
    let limits = Limits { strangers: 64, stranger_idle: SHORT, handshake: SHORT, ..Limits::default() };
    let server = Listening::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut half = Vec::new();
    for said in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-half:"] {
        let mut stream = server.connect(None).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        half.push(stream);
    }
    assert_eq!(server.get(Some(&server.known), "/healthz").await, "HTTP/1.1 200 OK");
    // A stranger's body is not waited for.
    let mut slow = server.connect(None).await;
    slow.write_all(b"POST /exec/a/b/c HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{").await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    for stream in silent {
        closed(stream).await;
    }
    for stream in half {
        closed(stream).await;
    }
    assert_eq!(server.get(Some(&server.known), "/healthz").await, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_strangers_keep_nobody_out_and_are_the_first_to_go() {
    let server = Listening::start(Limits { strangers: 32, ..Limits::default() }).await;
    let mut known = server.connect(Some(&server.known)).await;
    assert_eq!(ask(&mut known, "/healthz").await, "HTTP/1.1 200 OK");
    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(server.connect(None).await);
    }
    // The known client's connection lives, and new ones are served.
    assert_eq!(ask(&mut known, "/healthz").await, "HTTP/1.1 200 OK");
    assert_eq!(server.get(Some(&server.known), "/healthz").await, "HTTP/1.1 200 OK");
    assert_eq!(server.get(None, "/healthz").await, "HTTP/1.1 401 Unauthorized");
    for stream in crowd.drain(..100) {
        closed(stream).await;
    }
    // Headers without end are cut off.
    let mut endless = server.connect(None).await;
    let filling = async {
        endless.write_all(b"GET / HTTP/1.1\r\n").await?;
        loop {
            endless.write_all(format!("x-more: {}\r\n", "y".repeat(4096)).as_bytes()).await?;
        }
    };
    let ended: Result<std::io::Result<()>, _> = tokio::time::timeout(PATIENCE, filling).await;
    assert!(ended.expect("the server stops reading").is_err());
}
