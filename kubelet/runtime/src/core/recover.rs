//! A core that opens after another: takes up what runs, and removes what was half-made when the other was killed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use super::sandboxes::blocking;
use super::{Container, Core, Phase, Sandbox};
use crate::cri;
use crate::files;
use crate::shim::protocol::{Listed, Reply, Request};
use crate::state::{self, ContainerRecord, SandboxState};
use crate::syscall::socket;

impl Core {
    pub(super) async fn recover(self: &Arc<Self>) -> cri::Result<()> {
        for id in self.names("sandboxes") {
            let state: Option<SandboxState> = state::load(&self.config.sandbox_directory(&id));
            match state.filter(|state| state.ready) {
                Some(state) => drop(self.sandboxes.lock().insert(id, Sandbox::new(state))),
                None => self.clean_sandbox(&id).await?,
            }
        }
        self.recover_containers().await?;
        let sandboxes: Vec<_> = self.sandboxes.lock().clone().into_iter().collect();
        for (id, sandbox) in &sandboxes {
            self.reconnect(id, sandbox).await;
        }
        self.remove_strays().await?;
        self.recover_addresses()?;
        self.lead_ports().await
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.config.root.join(directory)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    async fn recover_containers(self: &Arc<Self>) -> cri::Result<()> {
        for id in self.names("containers") {
            let directory = self.config.container_directory(&id);
            let record: Option<ContainerRecord> = state::load(&directory);
            let known = |record: &ContainerRecord| self.sandboxes.lock().contains_key(&record.sandbox_id);
            let record = match record {
                Some(record) if known(&record) => record,
                half_made => {
                    let (core, cgroup) = (Arc::clone(self), half_made.map(|record| record.cgroup));
                    blocking("remove container", move || {
                        cgroup.map_or(Ok(()), |cgroup| core.layout.remove(&cgroup))?;
                        files::remove(&directory)
                    })
                    .await?;
                    continue;
                }
            };
            let phase = state::load_exit(&directory).map_or(Phase::Created, Phase::Exited);
            self.containers.lock().insert(id, Container::new(record, phase));
        }
        Ok(())
    }

    /// Without its shim a sandbox is not ready, and its containers are ended.
    async fn reconnect(self: &Arc<Self>, id: &str, sandbox: &Arc<Sandbox>) {
        if let Some(listed) = self.ask(id, sandbox).await {
            for container in self.containers_of(id) {
                let found = listed.iter().find(|listed| listed.id == container.record.id);
                match found {
                    Some(Listed { exit: Some(exit), .. }) => drop(container.end(exit.clone())),
                    Some(Listed { pid, started_at, .. }) => {
                        container.phase.send_replace(Phase::Running { pid: *pid, started_at: *started_at });
                    }
                    None => {}
                }
            }
            return;
        }
        *sandbox.shim.lock() = None;
        for container in self.containers_of(id).iter().filter(|container| !container.is_over()) {
            self.end_without_shim(container);
        }
    }

    /// What runs in the sandbox; `None` when its shim is gone.
    async fn ask(self: &Arc<Self>, id: &str, sandbox: &Arc<Sandbox>) -> Option<Vec<Listed>> {
        let socket = socket::connect_at(&self.config.socket_directory(), &format!("{id}.sock")).ok()?;
        let connection = self.connect(id, socket).ok()?;
        *sandbox.shim.lock() = Some(Arc::clone(&connection));
        match connection.call("list containers", Request::List, &[]).await {
            Ok((Reply::Listed(listed), _)) => Some(listed),
            _ => None,
        }
    }

    /// Shims that no sandbox has, and links without a Pod.
    async fn remove_strays(self: &Arc<Self>) -> cri::Result<()> {
        let core = Arc::clone(self);
        blocking("remove strays", move || {
            let known: BTreeSet<String> = core.sandboxes.lock().keys().cloned().collect();
            for entry in fs::read_dir(core.config.socket_directory())? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let id = name.trim_end_matches(".sock").trim_end_matches(".pid");
                if !known.contains(id) {
                    core.kill_shim(id)?;
                }
            }
            let mut links = core.used_links();
            links.extend(crate::network::node_links(&core.config.cluster_id));
            crate::network::delete_other_links(&core.config.cluster_id, &links)
        })
        .await
    }

    fn used_links(&self) -> BTreeSet<String> {
        let sandboxes = self.sandboxes.lock();
        let running = sandboxes.values().filter(|sandbox| sandbox.shim.lock().is_some());
        running.filter_map(|sandbox| Some(sandbox.state.lock().network.as_ref()?.host_link.clone())).collect()
    }

    /// Sandboxes say which addresses are in use.
    fn recover_addresses(&self) -> cri::Result<()> {
        let sandboxes = self.sandboxes.lock();
        let mut ipam = self.ipam.lock();
        ipam.retain(|owner| sandboxes.get(owner).is_some_and(|sandbox| sandbox.shim.lock().is_some()));
        for (id, sandbox) in sandboxes.iter().filter(|(_, sandbox)| sandbox.shim.lock().is_some()) {
            if let Some(network) = &sandbox.state.lock().network {
                ipam.claim(network.address, id);
            }
        }
        match ipam.save(&self.ipam_file()) {
            // What was found out is known all the same, and is found out again by the next process.
            Err(error) if files::is_full(&error) => {
                tracing::warn!(%error, "addresses in use are not written down");
                Ok(())
            }
            other => other,
        }
        .map_err(|error| cri::Error::Failed { operation: "recover addresses", message: error.to_string() })
    }
}
