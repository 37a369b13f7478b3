//! The controllers: one small module each, all reading from shared informers and writing through the API, each under
//! its own service account, while this process holds the `kube-controller-manager` lease.

mod certificates;
mod cluster_role_aggregation;
mod context;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod expectations;
mod garbage_collector;
mod load_balancer;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owner;
mod persistent_volume;
mod pod_gc;
mod pods;
mod protection;
mod replicaset;
mod root_ca;
mod service_account;
mod token_cleaner;
mod trigger_time;

use std::sync::Arc;

use anyhow::Context as _;
use apiserver_auth::pki::Authority;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use context::Config;
use context::Context;

/// A client for each identity: the argument is the user's name.
pub type Clients = Arc<dyn Fn(&str) -> kube::Client + Send + Sync>;

/// The identity that holds the lease and feeds the shared informers.
pub const IDENTITY: &str = "system:kube-controller-manager";

/// Runs all controllers while this process leads, until the token is cancelled.
///
/// # Errors
/// When the cluster's authority or the load balancer's range cannot be used, or when the lead was lost: another process
/// may work now, so this one must begin anew.
pub fn run(config: Config, clients: Clients, stop: CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> {
    // Boxed here, so that this crate and not its caller compiles what runs.
    Box::pin(lead(config, clients, stop))
}

async fn lead(config: Config, clients: Clients, stop: CancellationToken) -> anyhow::Result<()> {
    let authority = Authority::from_pem(&config.ca_pem, &config.ca_key_pem).context("open the cluster's authority")?;
    let range = config.load_balancer_range.as_deref().map(load_balancer::Range::parse).transpose();
    let range = range.map_err(anyhow::Error::msg).context("read the load balancer's range")?;
    let election = client::leader::Election {
        namespace: "kube-system".to_owned(),
        name: "kube-controller-manager".to_owned(),
        identity: config.identity.clone(),
    };
    let candidate = clients(IDENTITY);
    let kept = client::leader::run(candidate, election, stop, |lead| async move {
        let context = Context::new(config, clients, lead.clone());
        start(&context, authority, range);
        lead.cancelled().await;
        context.close();
    })
    .await;
    anyhow::ensure!(kept, "the controllers' lease was lost");
    Ok(())
}

fn start(context: &Arc<Context>, authority: Authority, range: Option<load_balancer::Range>) {
    replicaset::start(context);
    endpointslice::start(context);
    deployment::start(context);

    namespace::start(context);
    service_account::start(context);
    root_ca::start(context);
    node_ipam::start(context);
    node_lifecycle::start(context);
    certificates::start(context, authority);
    garbage_collector::start(context);
    pod_gc::start(context);
    endpoints::start(context);
    load_balancer::start(context, range);
    disruption::start(context);
    endpointslice_mirroring::start(context);
    cluster_role_aggregation::start(context);
    protection::start(context);
    persistent_volume::start(context);
    token_cleaner::start(context);
}
