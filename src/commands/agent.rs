//! `cox agent`: this machine as a node of a server's cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};

use super::token::JoinToken;
use super::{machine, require_root, start_logging, up};
use crate::cli::AgentArgs;
use crate::cluster::Machine;
use crate::daemon;
use crate::join::{self, Membership};
use crate::layout::Layout;
use crate::netns;
use crate::node::{self, Clients};
use crate::parts::Parts;
use crate::progress::Progress;

/// A renewal that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(60);

pub fn run(args: AgentArgs) -> Result<()> {
    let progress = Progress::start();
    require_root("agent")?;
    let token = JoinToken::parse(&args.token)?;
    let layout = Layout::create(&args.dir.data_dir)?;
    if args.node.detach && !daemon::is_child() {
        return daemon::detach(&layout);
    }
    let lock = layout.lock()?;
    lock.write_pid()?;
    netns::remember(&layout)?;
    start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(&args, &token, &layout, &progress))
}

async fn serve(args: &AgentArgs, token: &JoinToken, layout: &Layout, progress: &Progress) -> Result<()> {
    let machine = machine(&args.node)?;
    let mut membership = match join::stored(layout) {
        Some(stored) => stored,
        None => join::join(layout, &args.server, token, &machine).await?,
    };
    progress.reached(&format!("joined {}", args.server));
    let core = node::open_runtime(layout, &args.node.registry_mirror).await?;
    let mut told = false;
    loop {
        let client = join::client_of(&args.server, &membership, &machine).await?;
        let clients: Clients = {
            let client = client.clone();
            Arc::new(move |_| client.clone())
        };
        let mut parts = Parts::new();
        node::start_kubelet(layout, &machine, &clients, core.clone(), &mut parts);
        node::start_proxy(layout, &machine, &clients, node::Dns::Served, &mut parts);
        if !told {
            node::ready(client.clone(), &machine.name).await?;
            progress.reached(&format!("node {} Ready", machine.name));
            daemon::say_ready()?;
            told = true;
        }
        tokio::select! {
            ended = up::stop_signal(&parts) => {
                parts.end(up::PATIENCE).await;
                return ended;
            }
            renewed = renewal(layout, &args.server, &membership, &machine) => membership = renewed,
        }
        // The parts begin anew with the new certificate; containers do not notice.
        parts.end(up::PATIENCE).await;
    }
}

/// Returns the node's next membership when it is due and has been granted.
async fn renewal(layout: &Layout, server: &str, membership: &Membership, machine: &Machine) -> Membership {
    let due = join::renew_at(membership).unwrap_or_else(Timestamp::now);
    let wait = Timestamp::now().duration_until(due).max(SignedDuration::ZERO);
    tokio::time::sleep(wait.unsigned_abs()).await;
    loop {
        let renewed = async {
            let client = join::client_of(server, membership, machine).await?;
            join::renew(layout, client, server, &membership.ca_pem, machine).await
        };
        match renewed.await {
            Ok(renewed) => return renewed,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the node's certificate could not be renewed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
