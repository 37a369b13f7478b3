//! Serves the API on a loopback port for trials: `serve DIR PORT [memory]`. DIR gets pki/, store/ and kubeconfig.

#[path = "../tests/support/memory.rs"]
#[allow(dead_code)]
mod memory;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use apiserver_auth::pki::Pki;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().context("usage: serve DIR PORT [memory]")?);
    let port: u16 = args.next().context("usage: serve DIR PORT [memory]")?.parse()?;
    let started = std::time::Instant::now();
    let now = jiff::Timestamp::now();
    let pki = Pki::ensure(&dir.join("pki"), &[], now)?;
    let kv: Arc<dyn store::Kv> = match args.next().as_deref() {
        Some("memory") => memory::Memory::new(),
        _ => store::Store::open(store::Config { dir: dir.join("store"), ..store::Config::default() })?,
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let kubeconfig = pki.kubeconfig(&format!("https://{address}"), &Pki::admin(), now)?;
    std::fs::write(dir.join("kubeconfig"), kubeconfig)?;
    let server = apiserver::Server::start(apiserver::Config::new(pki, address), kv).await?;
    let listener = TcpListener::bind(address).await?;
    eprintln!("ready on {address} after {:?}", started.elapsed());
    let stop = CancellationToken::new();
    let serving = server.serve(listener, stop.clone());
    tokio::select! {
        served = serving => served?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
