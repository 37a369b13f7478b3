//! A server that listens on loopback, and clients of it with real certificates.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;

use apiserver::{Config, Server};
use apiserver_auth::pki::{LIFETIME, Pki, Profile};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::https::Https;
use super::memory::Memory;

pub struct Listening {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub server: Server,
    pub store: Arc<Memory>,
    pub stop: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
}

/// A server with the default settings.
pub async fn listening() -> Listening {
    listening_with(|_| {}).await
}

/// A server whose settings are adjusted before it starts.
pub async fn listening_with(adjust: impl FnOnce(&mut Config)) -> Listening {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(&dir.path().join("pki"), &[], jiff::Timestamp::now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = Config::new(pki, address);
    adjust(&mut config);
    let store = Memory::new();
    let server = Server::start(config, store.clone()).await.unwrap();
    let stop = CancellationToken::new();
    let (serving, stopping) = (server.clone(), stop.clone());
    let serving = tokio::spawn(async move { serving.serve(listener, stopping).await.unwrap() });
    Listening { dir, address, server, store, stop, serving }
}

impl Listening {
    pub fn pki(&self) -> Pki {
        Pki::ensure(&self.dir.path().join("pki"), &[], jiff::Timestamp::now()).unwrap()
    }

    /// A client with a certificate for a user of some groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Https {
        let pair = self.pki().ca.issue(&Profile::client(user, groups), LIFETIME, jiff::Timestamp::now()).unwrap();
        Https::new(self.address, Some((&pair.certificate, &pair.key)), None)
    }

    /// A client who may do everything.
    pub fn admin(&self) -> Https {
        self.client("admin", &["system:masters"])
    }

    pub fn kubeconfig(&self) -> String {
        let server = format!("https://{}", self.address);
        self.pki().kubeconfig(&server, &Pki::admin(), jiff::Timestamp::now()).unwrap()
    }
}
