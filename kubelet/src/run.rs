//! The node agent from start to end: parts are put together, tasks run until the token is cancelled.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::Context as _;
use futures::future::BoxFuture;
use kubelet_runtime::cri::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::events::Type;
use crate::node::machine::Machine;
use crate::pod::manager::Manager;
use crate::{logs, node, server, static_pods};

/// Runs the node agent until the token is cancelled. Containers go on running.
///
/// # Errors
/// Its directories or cgroups cannot be made, or its server cannot listen.
pub fn run(
    config: Config,
    client: kube::Client,
    runtime: Arc<dyn Runtime>,
    cancel: CancellationToken,
) -> BoxFuture<'static, anyhow::Result<()>> {
    // Boxed here, so that this crate and not its caller compiles what runs.
    Box::pin(work(config, client, runtime, cancel))
}

async fn work(
    config: Config,
    client: kube::Client,
    runtime: Arc<dyn Runtime>,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    prepare(&config)?;
    let machine = Machine::read(&config.root_dir).context("reading what the machine has")?;
    let cgroups = Cgroups::detect(&config.cgroup_root).context("finding the control groups")?;
    let agent = Agent::new(config, client, runtime, machine, cgroups);
    agent.cgroups.ensure_roots().context("making the cgroups of Pods")?;
    let name = agent.config.node_name.clone();
    agent.recorder.node(&name, Type::Normal, "Starting", "Starting kubelet.");
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    if let Some(listen) = agent.config.listen {
        let server = server::Server::bind(agent.clone(), listen, server::Limits::default()).await?;
        let stop = cancel.clone();
        tasks.spawn(async move {
            server.serve(stop).await;
            Ok(())
        });
    }
    let (node_agent, service_agent, rotate_agent) = (agent.clone(), agent.clone(), agent.clone());
    tasks.spawn(async move {
        node::run(node_agent).await;
        Ok(())
    });
    tasks.spawn(async move {
        service_agent.services.follow(service_agent.client.clone()).await;
        Ok(())
    });
    tasks.spawn(async move { logs::rotate::run(rotate_agent).await });
    let (files, static_pods) = tokio::sync::mpsc::channel(16);
    if let Some(dir) = agent.config.static_pod_dir.clone() {
        let node_name = name.clone();
        tasks.spawn(async move { static_pods::follow(dir, node_name, files).await });
    }
    let manager = Manager::new(agent.clone(), cancel.clone());
    let outcome = tokio::select! {
        () = manager.run(static_pods) => Ok(()),
        failed = first_failure(&mut tasks) => Err(failed),
    };
    tasks.shutdown().await;
    outcome
}

/// The first error of a task; tasks that end well are no reason to end.
async fn first_failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    loop {
        match tasks.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return error,
            Some(Err(error)) => return anyhow::Error::new(error).context("a part of the kubelet broke off"),
            None => std::future::pending().await,
        }
    }
}

fn prepare(config: &Config) -> anyhow::Result<()> {
    let links = config.container_links().map(|dir| (dir, 0o755));
    let own = [(config.root_dir.clone(), 0o700), (config.pods_dir(), 0o750), (config.pod_log_dir.clone(), 0o755)];
    for (dir, mode) in own.into_iter().chain(links) {
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", dir.display()))?;
    }
    Ok(())
}
