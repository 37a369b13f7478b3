//! A server's own certificates: made at the start, renewed while it runs, long before they end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver_auth::pki::{self, LIFETIME, Pki, Profile, ensure_pair_for};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::cluster::Machine;
use crate::layout::{Layout, write_or_keep};

/// A renewal that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(20);
/// Clocks are set and machines sleep: what is due is looked at at least this often.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Where a server's certificates lie and whom they are for.
pub struct Certificates {
    layout: Layout,
    machine: Machine,
    /// The API server's address, which the admin's kubeconfig names.
    server: String,
    lifetime: SignedDuration,
}

/// What is good now, and when it is to be looked at again.
pub struct Good {
    pub pki: Pki,
    due: Timestamp,
    /// Why what is due is still the former.
    put_off: Vec<String>,
}

impl Certificates {
    pub fn new(layout: &Layout, machine: &Machine, server: String) -> Self {
        Self { layout: layout.clone(), machine: machine.clone(), server, lifetime: LIFETIME }
    }

    /// Makes what is missing and renews what is due: authorities, the API server's certificates, this node's as server,
    /// the admin's kubeconfig. What is due and cannot be written, as on a full disk, stays while it is good.
    pub fn ensure(&self, now: Timestamp) -> Result<Good> {
        let directory = self.layout.pki();
        let names = [self.machine.name.clone(), self.machine.ip.to_string()];
        let mut pki =
            Pki::ensure_for(&directory, &names, self.lifetime, now).context("make the cluster's certificates")?;
        let kubelet = Profile::server(&format!("system:node:{}", self.machine.name), &names);
        let (kubelet, late) = ensure_pair_for(&directory, "kubelet-server", &kubelet, &pki.ca, self.lifetime, now)
            .context("make the kubelet's certificate")?;
        let admin = pki.kubeconfig_for(&self.server, &Pki::admin(), self.lifetime, now);
        write_or_keep(&self.layout.kubeconfig(), admin.context("make the admin's kubeconfig")?.as_bytes())?;
        let put_off: Vec<String> = pki.put_off.drain(..).chain(late).map(|why| why.to_string()).collect();
        let due = match put_off.as_slice() {
            [] => pki.renew_at().into_iter().chain(pki::renew_at(&kubelet)).min(),
            _ => now.checked_add(RETRY).ok(),
        };
        // Joining nodes see the CA in the server's chain and know it by the pin in their token.
        pki.serving.certificate.push_str(&pki.ca.pem());
        Ok(Good { pki, due: due.unwrap_or(now), put_off })
    }

    /// Renews what is due, when it is due, until the token is cancelled; the server shows it from the next connection
    /// on.
    pub async fn keep(self, server: Arc<apiserver::Server>, mut due: Timestamp, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = until(due) => {}
            }
            due = match self.renew(&server) {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the server's certificates could not be renewed");
                    Timestamp::now() + RETRY
                }
            };
        }
    }

    fn renew(&self, server: &apiserver::Server) -> Result<Timestamp> {
        let good = self.ensure(Timestamp::now())?;
        server.renew_certificates(&good.pki).context("show the new certificates")?;
        if let Some(why) = good.put_off() {
            tracing::error!("{why}");
            return Ok(good.due);
        }
        tracing::info!(next = %good.due, "the server's certificates were renewed");
        Ok(good.due)
    }
}

impl Good {
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// What to say of certificates that were to be renewed, and could not be.
    pub fn put_off(&self) -> Option<String> {
        let why = self.put_off.join("; ");
        let text = format!("certificates are due, but still good; they are renewed when they can be written: {why}");
        (!why.is_empty()).then_some(text)
    }
}

/// Returns at a time of day, also when the clock is set or the machine slept.
pub async fn until(at: Timestamp) {
    loop {
        let left = Duration::try_from(Timestamp::now().duration_until(at)).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_WAIT)).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use apiserver_auth::pki::Standing;
    use tokio::net::TcpListener;

    use super::*;
    use crate::join;
    use crate::layout::write_private;

    /// Where a server will be, whose files are below a directory.
    struct Place {
        layout: Layout,
        listener: TcpListener,
        address: std::net::SocketAddr,
        machine: Machine,
        url: String,
    }

    async fn place(dir: &std::path::Path) -> Place {
        let layout = Layout::create(&dir.join("a")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let machine = Machine { name: "n1".to_owned(), ip: address.ip() };
        Place { layout, listener, address, machine, url: format!("https://{address}") }
    }

    /// Certificates of three seconds: the server must show others, and the admin's kubeconfig must go on working, while
    /// the process runs.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_running_server_shows_renewed_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let Place { layout, listener, address, machine, url } = place(dir.path()).await;
        let lifetime = SignedDuration::from_secs(3);
        let certificates = Certificates { lifetime, ..Certificates::new(&layout, &machine, url.clone()) };
        let good = certificates.ensure(Timestamp::now()).unwrap();
        let due = good.due();
        let store = store::Store::open(store::Config { dir: layout.store(), ..store::Config::default() }).unwrap();
        let config = apiserver::Config::new(good.pki, address);
        let server = Arc::new(apiserver::Server::start(config, store.clone()).await.unwrap());
        let stop = CancellationToken::new();
        let (serving, until_stop) = (Arc::clone(&server), stop.clone());
        let served = client::spawn(async move { serving.serve(listener, until_stop).await });
        let first = join::shown(&url).await.unwrap();
        client::spawn(certificates.keep(server, due, stop.clone()));
        let renewed = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let now = join::shown(&url).await.unwrap();
                if now[0] != first[0] {
                    return now;
                }
            }
        };
        let now = tokio::time::timeout(Duration::from_secs(60), renewed).await.unwrap();
        assert_eq!(now[1], first[1], "the authority is the same");
        until(due + SignedDuration::from_secs(2)).await;
        let admin = client::from_kubeconfig(&layout.kubeconfig()).await.unwrap();
        admin.apiserver_version().await.unwrap();
        let read =
            |suffix: &str| std::fs::read_to_string(layout.pki().join(format!("kubelet-server.{suffix}"))).unwrap();
        let kubelet = pki::Pair { certificate: read("crt"), key: read("key") };
        assert_ne!(pki::standing(&kubelet, &[], Timestamp::now()), Standing::Useless);
        stop.cancel();
        served.await.unwrap().unwrap();
        store.close().await;
    }

    /// A component alone with a kubeconfig that names certificate files: who it is follows the files.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_takes_up_replaced_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let Place { layout, listener, address, machine, url } = place(dir.path()).await;
        let good = Certificates::new(&layout, &machine, url.clone()).ensure(Timestamp::now()).unwrap();
        let store = store::Store::open(store::Config { dir: layout.store(), ..store::Config::default() }).unwrap();
        let ca = layout.pki().join("ca.crt");
        let issue = |name: &str| {
            let now = Timestamp::now();
            good.pki.ca.issue(&Profile::client(name, &["system:masters"]), LIFETIME, now).unwrap()
        };
        let (first, second) = (issue("first"), issue("second"));
        let config = apiserver::Config::new(good.pki, address);
        let server = Arc::new(apiserver::Server::start(config, store.clone()).await.unwrap());
        let stop = CancellationToken::new();
        let (serving, until_stop) = (Arc::clone(&server), stop.clone());
        let served = tokio::spawn(async move { serving.serve(listener, until_stop).await });
        let write = |name: &str, text: &str| write_private(&dir.path().join(name), text.as_bytes()).unwrap();
        write("c.crt", &first.certificate);
        write("c.key", &first.key);
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{url}', certificate-authority: {}}}}}]\n\
             users: [{{name: c, user: {{client-certificate: c.crt, client-key: c.key}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n",
            ca.display()
        );
        write("kubeconfig", &kubeconfig);
        let client = client::from_kubeconfig(&dir.path().join("kubeconfig")).await.unwrap();
        assert_eq!(who(&client).await, "first");
        // Half of a pair is no use: the former goes on.
        write("c.crt", &second.certificate);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(who(&client).await, "first");
        write("c.key", &second.key);
        let renewed = async {
            while who(&client).await != "second" {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), renewed).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
        store.close().await;
    }

    /// Who the server says that the client is.
    async fn who(client: &kube::Client) -> String {
        let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
        let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("content-type", "application/json")
            .body(review.as_bytes().to_vec())
            .unwrap();
        let answer: serde_json::Value = serde_json::from_str(&client.request_text(request).await.unwrap()).unwrap();
        answer["status"]["userInfo"]["username"].as_str().unwrap().to_owned()
    }
}
