//! Loads a server: `load KUBECONFIG-DIR PORT CLIENTS SECONDS create|get|list|watch [configmaps|pods]`.
//!
//! DIR is the one that `serve` made; the client certificate is issued from its pki/.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use apiserver_auth::pki::Pki;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const WATCH: &str = "watch=true&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";

type Sender = SendRequest<Full<Bytes>>;

#[derive(Clone)]
struct Load {
    tls: TlsConnector,
    port: u16,
    resource: String,
    done: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    end: Instant,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, port, clients, seconds, what, rest @ ..] = &args[..] else { anyhow::bail!("usage: see the source") };
    let tls = connector(&PathBuf::from(dir))?;
    let (clients, seconds): (usize, u64) = (clients.parse()?, seconds.parse()?);
    let load = Load {
        tls,
        port: port.parse()?,
        resource: rest.first().cloned().unwrap_or_else(|| "configmaps".to_owned()),
        done: Arc::default(),
        bytes: Arc::default(),
        end: Instant::now() + Duration::from_secs(seconds),
    };
    let tasks: Vec<_> = (0..clients).map(|n| tokio::spawn(client(load.clone(), n, what.clone()))).collect();
    let started = Instant::now();
    for task in tasks {
        task.await??;
    }
    let took = started.elapsed().as_secs_f64();
    let (done, bytes) = (load.done.load(Ordering::Relaxed), load.bytes.load(Ordering::Relaxed));
    println!("{what} {}: {:.0}/s, {:.1} MB/s", load.resource, done as f64 / took, bytes as f64 / took / 1e6);
    Ok(())
}

fn connector(dir: &std::path::Path) -> anyhow::Result<TlsConnector> {
    let pki = Pki::ensure(&dir.join("pki"), &[], jiff::Timestamp::now())?;
    let pair = pki.ca.issue(&Pki::admin(), apiserver_auth::pki::LIFETIME, jiff::Timestamp::now())?;
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.der().clone())?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(load: &Load) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(("127.0.0.1", load.port)).await.context("connect")?;
    stream.set_nodelay(true)?;
    let stream = load.tls.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(load: &Load, sender: &mut Sender, method: &str, path: &str, body: String) -> anyhow::Result<u16> {
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    let request = request.header("content-type", "application/json").body(Full::from(body))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let code = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            load.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
    }
    Ok(code)
}

fn object(resource: &str, name: &str) -> String {
    if resource == "pods" {
        return format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"app":"load","tier":"bench"}}}},
            "spec":{{"containers":[{{"name":"c","image":"nginx:1.25","ports":[{{"containerPort":80}}],
            "env":[{{"name":"A","value":"b"}}],"resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}}}}}}]}}}}"#
        );
    }
    let value = "x".repeat(800);
    format!(r#"{{"metadata":{{"name":"{name}","labels":{{"app":"load"}}}},"data":{{"k":"{value}"}}}}"#)
}

async fn client(load: Load, number: usize, what: String) -> anyhow::Result<()> {
    let mut sender = connect(&load).await?;
    let path = format!("/api/v1/namespaces/default/{}", load.resource);
    let mine = format!("load-{number}");
    if what == "get" {
        send(&load, &mut sender, "POST", &path, object(&load.resource, &mine)).await?;
    }
    if what == "watch" {
        return watch(&load, sender, &path).await;
    }
    let mut n = 0u64;
    while Instant::now() < load.end {
        let code = match what.as_str() {
            "create" => {
                let name = format!("c{}-{number}-{n}", std::process::id());
                send(&load, &mut sender, "POST", &path, object(&load.resource, &name)).await?
            }
            "get" => send(&load, &mut sender, "GET", &format!("{path}/{mine}"), String::new()).await?,
            "list" => send(&load, &mut sender, "GET", &path, String::new()).await?,
            other => anyhow::bail!("unknown load {other}"),
        };
        anyhow::ensure!(code < 300, "{what} answered {code}");
        n += 1;
        load.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Counts events until the time is over.
async fn watch(load: &Load, mut sender: Sender, path: &str) -> anyhow::Result<()> {
    let request = Request::builder().uri(format!("{path}?{WATCH}"));
    let answer = sender.send_request(request.body(Full::default())?).await?;
    let mut body = answer.into_body();
    while let Ok(Some(frame)) = tokio::time::timeout_at(load.end.into(), body.frame()).await {
        if let Some(data) = frame?.data_ref() {
            load.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            let events = data.iter().filter(|b| **b == b'\n').count();
            load.done.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}
