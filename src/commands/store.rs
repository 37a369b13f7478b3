//! `cox store`: the store alone, for any program that speaks to etcd.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use store::Store;
use store_etcd::server::{Member, Server, tls};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{start_logging, up};
use crate::block;
use crate::cli::StoreArgs;
use crate::parts::Parts;
use crate::progress::Progress;

pub fn run(args: &StoreArgs) -> Result<()> {
    let urls = args.listen_client_urls.iter().map(|url| ListenUrl::parse(url)).collect::<Result<Vec<_>>>()?;
    start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    block::on(&runtime, Box::pin(serve(args, &urls)))
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
struct ListenUrl {
    secure: bool,
    /// `HOST:PORT`.
    authority: String,
}

impl ListenUrl {
    fn parse(url: &str) -> Result<Self> {
        let (secure, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => bail!("--listen-client-urls: {url:?} is no http:// or https:// URL"),
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains('/') || authority.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            bail!("--listen-client-urls: {url:?} must be SCHEME://HOST:PORT");
        }
        Ok(Self { secure, authority: authority.to_owned() })
    }

    /// Its addresses. Without TLS only this machine may be served: there is no other way to know who asks.
    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host(&self.authority).await;
        let found: Vec<SocketAddr> = found.with_context(|| format!("look up {}", self.authority))?.collect();
        if let Some(open) = found.iter().find(|address| !self.secure && !address.ip().is_loopback()) {
            bail!(
                "{open} is no loopback address: listen on https:// with --cert-file, --key-file and --trusted-ca-file"
            );
        }
        Ok(found)
    }
}

async fn serve(args: &StoreArgs, urls: &[ListenUrl]) -> Result<()> {
    let progress = Progress::start();
    let tls = match (&args.cert_file, &args.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let (cert_file, key_file) = (cert_file.clone(), key_file.clone());
            let files = tls::Files { cert_file, key_file, trusted_ca_file: args.trusted_ca_file.clone() };
            Some(TlsAcceptor::from(tls::server_config(&files)?))
        }
        _ => None,
    };
    if args.client_cert_auth && args.trusted_ca_file.is_none() {
        bail!("--client-cert-auth needs --trusted-ca-file: whose certificates are clients to show?");
    }
    if tls.is_none() && urls.iter().any(|url| url.secure) {
        bail!("an https:// listener needs --cert-file and --key-file");
    }
    let mut listeners = Vec::new();
    for url in urls {
        for address in url.addresses().await? {
            let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            listeners.push((listener, tls.clone().filter(|_| url.secure)));
        }
    }
    let store = Store::open(store::Config { dir: args.data_dir.clone(), ..store::Config::default() })
        .with_context(|| format!("open the store in {}", args.data_dir.display()))?;
    let advertised =
        if args.advertise_client_urls.is_empty() { &args.listen_client_urls } else { &args.advertise_client_urls };
    let server = Server::new(store.clone(), Member { name: args.name.clone(), client_urls: advertised.clone() });
    let parts = Parts::new();
    let mut serving = JoinSet::new();
    for (listener, tls) in listeners {
        serving.spawn(server.clone().serve(listener, tls, parts.stop.clone()));
    }
    progress.reached(&format!("store ready at {}", args.listen_client_urls.join(", ")));
    up::stop_signal(&parts).await?;
    parts.end(up::PATIENCE).await;
    while serving.join_next().await.is_some() {}
    store.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn listen_urls() {
        let url = |secure, authority: &str| Some(ListenUrl { secure, authority: authority.to_owned() });
        let table = [
            ("http://localhost:2379", url(false, "localhost:2379")),
            ("https://0.0.0.0:2379/", url(true, "0.0.0.0:2379")),
            ("https://[::]:1", url(true, "[::]:1")),
            ("unix://x:1", None),
            ("http://localhost", None),
            ("http://h:1/x", None),
            ("localhost:2379", None),
        ];
        for (text, expected) in table {
            assert_eq!(ListenUrl::parse(text).ok(), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn plain_http_is_for_this_machine() {
        assert!(ListenUrl::parse("http://127.0.0.1:1").unwrap().addresses().await.is_ok());
        let refused = ListenUrl::parse("http://0.0.0.0:1").unwrap().addresses().await.unwrap_err();
        assert!(refused.to_string().contains("loopback"), "{refused}");
        assert!(ListenUrl::parse("https://0.0.0.0:1").unwrap().addresses().await.is_ok());
    }
}
