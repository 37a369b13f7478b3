//! The runtime core: knows every sandbox and container of this node, and has their shims do the work.

mod containers;
mod recover;
mod runtime;
mod sandboxes;
mod streams;
mod template;
mod volumes;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::cgroup::Layout;
use crate::config::Config;
use crate::connection::Connection;
use crate::cri::{self, Event, EventType};
use crate::files;
use crate::images::Store;
use crate::network::ipam::Ipam;
use crate::shim::protocol::Exit;
use crate::state::{ContainerRecord, SandboxState};

/// Events that a slow reader may be behind.
const EVENTS: usize = 4096;

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    /// Its shim was told to start it.
    Starting,
    Running {
        pid: i32,
        started_at: i64,
    },
    Exited(Exit),
}

pub(crate) struct Container {
    pub record: ContainerRecord,
    /// Changes are seen by those who wait for the end.
    pub phase: watch::Sender<Phase>,
    /// One start, stop or removal at a time.
    pub turn: tokio::sync::Mutex<()>,
}

pub(crate) struct Sandbox {
    pub state: Mutex<SandboxState>,
    /// `None` once the sandbox is stopped or its shim lost.
    pub shim: Mutex<Option<Arc<Connection>>>,
    pub turn: tokio::sync::Mutex<()>,
}

/// The runtime core. Made by [`Core::open`]; one for a directory at a time.
pub struct Core {
    me: Weak<Core>,
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) images: Arc<Store>,
    pub(crate) sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    pub(crate) containers: Mutex<BTreeMap<String, Arc<Container>>>,
    pub(crate) ipam: Mutex<Ipam>,
    /// Whose turn it is to say where the node's ports lead.
    pub(crate) ports: Mutex<()>,
    pub(crate) template: template::Template,
    events: broadcast::Sender<Event>,
    _lock: Flock<File>,
}

/// A killed core's lock lives on for a moment in a shim that was forked and has not come to its exec yet.
const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Takes the lock, waiting for a process that is about to end.
async fn take(mut file: File) -> Option<Flock<File>> {
    let start = tokio::time::Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if start.elapsed() > LOCK_PATIENCE => return None,
            Err((back, _)) => file = back,
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

impl Core {
    /// Opens the runtime of one node: takes up the sandboxes that run, and removes what an earlier core left half-made.
    pub async fn open(config: Config) -> cri::Result<Arc<Core>> {
        let failed = |error: io::Error| cri::Error::Failed { operation: "open runtime", message: error.to_string() };
        for directory in ["sandboxes", "containers"] {
            files::private_directory(&config.root.join(directory)).map_err(failed)?;
        }
        files::private_directory(&config.socket_directory()).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(config.root.join("lock"));
        let lock = take(lock.map_err(failed)?).await.ok_or_else(|| {
            failed(io::Error::other(format!("{} is in use by another process", config.root.display())))
        })?;
        let layout = Layout::detect().map_err(failed)?;
        prepare_cgroups(&layout, &config).map_err(failed)?;
        let images = Arc::new(Store::open(&config.root, config.mirrors.clone()).map_err(failed)?);
        let ipam = Ipam::load(&config.root.join("ipam.json"));
        let markers = layout.marker_directories(&format!("{}/shims", config.cgroup_root));
        let markers = markers.into_iter().map(|directory| directory.join("cgroup.procs")).collect();
        let template = template::Template::new(config.shim.clone(), markers);
        let core = Arc::new_cyclic(|me| Core {
            me: Weak::clone(me),
            config,
            layout,
            images,
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            ipam: Mutex::new(ipam),
            ports: Mutex::default(),
            template,
            events: broadcast::Sender::new(EVENTS),
            _lock: lock,
        });
        core.recover().await?;
        Ok(core)
    }

    /// For work that goes on in tasks of its own.
    pub(crate) fn handle(&self) -> Arc<Core> {
        match self.me.upgrade() {
            Some(core) => core,
            None => unreachable!("a core is only reached through its Arc"),
        }
    }

    /// The images, for commands about them.
    pub fn images(&self) -> &Arc<Store> {
        &self.images
    }

    pub(crate) fn sandbox(&self, id: &str) -> cri::Result<Arc<Sandbox>> {
        self.sandboxes.lock().get(id).cloned().ok_or_else(|| cri::Error::NotFound(format!("pod sandbox {id}")))
    }

    pub(crate) fn container(&self, id: &str) -> cri::Result<Arc<Container>> {
        self.containers.lock().get(id).cloned().ok_or_else(|| cri::Error::NotFound(format!("container {id}")))
    }

    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers.lock().values().filter(|container| container.record.sandbox_id == sandbox).cloned().collect()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn announce(&self, kind: EventType, sandbox_id: &str, container_id: &str) {
        let sandbox = self.sandboxes.lock().get(sandbox_id).cloned();
        let pod_uid = sandbox.map(|sandbox| sandbox.state.lock().config.uid.clone()).unwrap_or_default();
        let event = Event { kind, sandbox_id: sandbox_id.to_owned(), container_id: container_id.to_owned(), pod_uid };
        // No reader, no news.
        drop(self.events.send(event));
    }

    pub(crate) fn ipam_file(&self) -> PathBuf {
        self.config.root.join("ipam.json")
    }
}

impl Sandbox {
    pub(crate) fn new(state: SandboxState) -> Arc<Sandbox> {
        Arc::new(Sandbox { state: Mutex::new(state), shim: Mutex::new(None), turn: tokio::sync::Mutex::default() })
    }

    /// The way to its shim.
    pub(crate) fn connection(&self, operation: &'static str) -> cri::Result<Arc<Connection>> {
        let shim = self.shim.lock().clone().filter(|shim| !shim.is_lost());
        shim.ok_or_else(|| {
            let id = self.state.lock().id.clone();
            cri::Error::Failed { operation, message: format!("sandbox {id} is not running") }
        })
    }
}

impl Container {
    pub(crate) fn new(record: ContainerRecord, phase: Phase) -> Arc<Container> {
        Arc::new(Container { record, phase: watch::Sender::new(phase), turn: tokio::sync::Mutex::default() })
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Exited(_))
    }

    /// Makes the end known, once.
    pub(crate) fn end(&self, exit: Exit) -> bool {
        self.phase.send_if_modified(|phase| {
            let fresh = !matches!(phase, Phase::Exited(_));
            if fresh {
                *phase = Phase::Exited(exit);
            }
            fresh
        })
    }

    /// Returns when the container has ended.
    pub(crate) async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        // Fails only when the sender is gone, and this container holds it.
        drop(phase.wait_for(|phase| matches!(phase, Phase::Exited(_))).await);
    }
}

/// The cluster's own groups: where shims are, apart from this process's service.
fn prepare_cgroups(layout: &Layout, config: &Config) -> io::Result<()> {
    for directory in layout.marker_directories(&format!("{}/shims", config.cgroup_root)) {
        std::fs::create_dir_all(&directory).map_err(|error| {
            io::Error::new(error.kind(), format!("make control group {}: {error}", directory.display()))
        })?;
    }
    Ok(())
}
