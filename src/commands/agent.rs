//! `cox agent`: this machine as a node of a server's cluster.

use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver_auth::pki::Standing;
use jiff::Timestamp;
use kube::Client;
use kubelet::Shutdown;
use tokio::runtime::Runtime;

use super::token::JoinToken;
use super::{machine, require_root, reset, start_logging, up};
use crate::block;
use crate::cli::AgentArgs;
use crate::cluster::Machine;
use crate::daemon;
use crate::join::{self, Membership};
use crate::layout::Layout;
use crate::netns;
use crate::node::{self, Clients};
use crate::parts::Parts;
use crate::progress::Progress;
use crate::renewal::Member;

pub fn run(args: AgentArgs) -> Result<()> {
    let progress = Progress::start();
    require_root("agent")?;
    let token = JoinToken::parse(&args.token)?;
    let machine = machine(&args.node)?;
    let existed = args.dir.data_dir.exists();
    let layout = Layout::create(&args.dir.data_dir)?;
    let lock = layout.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let member = Member { layout: &layout, server: &args.server, token: &token, machine: &machine };
    // Before detaching: the person who waits hears at once why it may not be.
    let membership = match admitted(&runtime, &member, &progress) {
        Ok(membership) => membership,
        Err(error) => {
            drop(lock);
            if !existed {
                forget(&layout)?;
            }
            return Err(error);
        }
    };
    if args.node.detach && !daemon::is_child() {
        drop(lock);
        return daemon::detach(&layout);
    }
    lock.write_pid()?;
    netns::remember(&layout)?;
    start_logging()?;
    block::on(&runtime, Box::pin(serve(&args, &member, membership, &progress)))
}

/// Membership by what an earlier join left, or by the token.
fn admitted(runtime: &Runtime, member: &Member<'_>, progress: &Progress) -> Result<Membership> {
    let now = Timestamp::now();
    if let Some(stored) = join::stored(member.layout, member.token)? {
        // What is due is renewed while the node runs; the server may be away just now.
        if join::standings(member.layout, &stored, member.machine, now).0 != Standing::Useless {
            return Ok(stored);
        }
    }
    let Member { layout, server, token, machine } = member;
    let joined = block::on(runtime, Box::pin(join::join(layout, server, token, machine)))?;
    progress.reached(&format!("joined {server}"));
    Ok(joined)
}

/// Removes a data directory that was made in vain.
fn forget(layout: &Layout) -> Result<()> {
    reset::remove_files(layout)?;
    std::fs::remove_dir(layout.dir()).with_context(|| format!("remove {}", layout.dir().display()))
}

async fn serve(args: &AgentArgs, member: &Member<'_>, first: Membership, progress: &Progress) -> Result<()> {
    let mut signals = up::Signals::new()?;
    let mut membership = first;
    let core = node::open_runtime(member.layout, &args.node.registry_mirror).await?;
    let shutdown = Shutdown::default();
    let mut told = false;
    loop {
        let client = join::client_of(member.server, &membership, member.machine).await?;
        let clients: Clients = {
            let client = client.clone();
            Arc::new(move |_| client.clone())
        };
        let mut parts = Parts::new();
        node::start_kubelet(member.layout, member.machine, &clients, core.clone(), &shutdown, &mut parts);
        node::start_proxy(member.layout, member.machine, &clients, node::Dns::Served, &mut parts);
        let life = async {
            until_ready(&client, member.machine, progress).await;
            member.renewed(&membership, || tell(&mut told, member.machine, progress)).await
        };
        tokio::select! {
            () = signals.told(&shutdown) => {
                parts.end(up::PATIENCE).await;
                return Ok(());
            }
            renewed = life => membership = renewed,
        }
        // The parts begin anew with the new certificate; containers do not notice.
        parts.end(up::PATIENCE).await;
    }
}

/// Returns when the Node is Ready. The server may be away, as after a power cut of both: that is said, and waited for.
async fn until_ready(client: &Client, machine: &Machine, progress: &Progress) {
    while let Err(error) = node::ready(client.clone(), &machine.name).await {
        progress.reached(&format!("{error:#}"));
    }
}

/// Says once that the node is Ready.
fn tell(told: &mut bool, machine: &Machine, progress: &Progress) {
    if *told {
        return;
    }
    progress.reached(&format!("node {} Ready", machine.name));
    match daemon::say_ready() {
        Ok(()) => *told = true,
        Err(error) => tracing::error!(error = format!("{error:#}"), "could not say that the node is Ready"),
    }
}
