//! One task for each Pod: it takes news, plans, starts operations side by side, and sleeps until something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kubelet_runtime::cri::{ContainerState, ContainerStatus, Error, PodSandboxStatus};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::backoff::Entry as Backoff;
use crate::images::Ready;
use crate::probe::worker::Kind;
use crate::spec;
use crate::time::{self, Nanos};
use crate::volumes;

use super::node_end::NodeEnd;
use super::plan::{Image, ProbeState, SandboxWork, Volumes, Waiting};
use super::publish::Publisher;
use super::registry::{Entry, Inbox, Snapshot};
use super::run::{Done, Op};
use super::termination;

/// How far a Pod is. It only ever goes down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It is to run: plans are made and carried out.
    Running,
    /// It is to end; operations under way are waited for.
    Ending,
    /// Its containers are being stopped.
    Killing,
    /// Nothing of it runs.
    Killed,
    /// Its volumes and cgroup are being removed.
    Cleaning,
    /// It holds nothing of the node but its dead containers and their logs. A finished Pod stays here.
    Clean,
    /// Its dead containers, logs and directory are being removed.
    Removing,
    /// Nothing of it is left on the node.
    Gone,
    /// The API was asked to let go of it.
    Released,
}

/// The state of one Pod's worker.
pub struct Worker {
    pub(super) agent: Arc<Agent>,
    pub(super) entry: Arc<Entry>,
    pub(super) pod: Arc<Pod>,
    /// The API has it no more.
    pub(super) removed: bool,
    pub(super) stage: Stage,
    /// Newest first.
    pub(super) sandboxes: Vec<PodSandboxStatus>,
    /// Newest first.
    pub(super) containers: Vec<ContainerStatus>,
    /// Termination messages by container id.
    pub(super) messages: BTreeMap<String, String>,
    pub(super) volumes: Volumes,
    pub(super) mounted: volumes::Paths,
    pub(super) refresh_at: Option<Nanos>,
    pub(super) volume_backoff: Option<Backoff>,
    pub(super) images: BTreeMap<String, Image>,
    pub(super) pulled: BTreeMap<String, Ready>,
    pub(super) probes: BTreeMap<String, ProbeState>,
    pub(super) probe_tasks: BTreeMap<String, AbortHandle>,
    pub(super) backoff: BTreeMap<String, Backoff>,
    pub(super) blocked: BTreeMap<String, Nanos>,
    /// Why containers wait, from their last failed start.
    pub(super) failures: BTreeMap<String, Waiting>,
    /// Containers in restart back-off, from the last plan.
    pub(super) crashing: BTreeMap<String, Waiting>,
    pub(super) starting: BTreeSet<String>,
    pub(super) stopping: BTreeSet<String>,
    pub(super) sandbox: SandboxWork,
    pub(super) sandbox_backoff: Option<Backoff>,
    /// The Pod failed as a whole: reason and message.
    pub(super) failure: Option<(String, String)>,
    /// Grace period of the kill that is under way.
    pub(super) kill_grace: i64,
    pub(super) retry_at: Option<Nanos>,
    pub(super) node_end: NodeEnd,
    pub(super) status: PodStatus,
    pub(super) publisher: Publisher,
    pub(super) ops: JoinSet<Done>,
    pub(super) pulls: BTreeMap<String, AbortHandle>,
    pub(super) hooks: Vec<AbortHandle>,
}

/// What the runtime already has of a Pod when its worker starts.
#[derive(Default)]
pub struct Adopted {
    pub sandboxes: Vec<PodSandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

impl Worker {
    /// A worker for a Pod. `rejection` is why it may not run here; `removed` that the API has it no more.
    pub fn new(
        agent: Arc<Agent>,
        entry: Arc<Entry>,
        pod: Arc<Pod>,
        adopted: Adopted,
        rejection: Option<(String, String)>,
        removed: bool,
    ) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let finished = spec::is_terminal_phase(status.phase.as_deref());
        let publisher = Publisher::new(&status);
        let mut worker = Self {
            agent,
            entry,
            removed,
            stage: if finished || rejection.is_some() || removed { Stage::Ending } else { Stage::Running },
            sandboxes: adopted.sandboxes,
            containers: adopted.containers,
            messages: BTreeMap::new(),
            volumes: Volumes::Absent,
            mounted: volumes::Paths::new(),
            refresh_at: None,
            volume_backoff: None,
            images: BTreeMap::new(),
            pulled: BTreeMap::new(),
            probes: BTreeMap::new(),
            probe_tasks: BTreeMap::new(),
            backoff: BTreeMap::new(),
            blocked: BTreeMap::new(),
            failures: BTreeMap::new(),
            crashing: BTreeMap::new(),
            starting: BTreeSet::new(),
            stopping: BTreeSet::new(),
            sandbox: SandboxWork::Idle,
            sandbox_backoff: None,
            failure: rejection,
            kill_grace: i64::MAX,
            retry_at: None,
            node_end: NodeEnd::default(),
            status,
            publisher,
            ops: JoinSet::new(),
            pulls: BTreeMap::new(),
            hooks: Vec::new(),
            pod,
        };
        worker.adopt_probes();
        worker.sort();
        worker
    }

    /// A container that was ready or started before this kubelet was stays so until its probes say otherwise.
    fn adopt_probes(&mut self) {
        let all = self.status.container_statuses.iter().chain(&self.status.init_container_statuses).flatten();
        for status in all {
            let Some(id) = status.container_id.as_deref().and_then(|id| id.split_once("://")) else { continue };
            let state =
                ProbeState { startup: status.started.filter(|s| *s), liveness: None, readiness: Some(status.ready) };
            self.probes.insert(id.1.to_owned(), state);
        }
    }

    pub(super) fn uid(&self) -> &str {
        spec::uid(&self.pod)
    }

    fn sort(&mut self) {
        self.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
        self.containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.attempt)));
    }

    /// Runs until the Pod is gone from node and API, or the token is cancelled; then containers are left as they are.
    pub async fn run(mut self, cancel: CancellationToken) {
        self.read_messages().await;
        loop {
            let wake = self.step();
            if self.stage == Stage::Released {
                break;
            }
            let mailbox = self.entry.mailbox.clone();
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    self.leave().await;
                    return;
                }
                Some(done) = self.ops.join_next() => match done {
                    Ok(done) => self.complete(done).await,
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(pod = %spec::format(&self.pod), %error, "an operation broke off"),
                },
                () = mailbox.wait() => self.absorb(mailbox.take()).await,
                () = until(wake) => {}
            }
        }
        self.forget();
    }

    /// The kubelet ends, the Pod goes on: what is half-way is finished so that no container is left nameless.
    async fn leave(mut self) {
        for handle in self.probe_tasks.values().chain(self.pulls.values()).chain(&self.hooks) {
            handle.abort();
        }
        let finish = async { while self.ops.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(2), finish).await.is_err() {
            tracing::info!(pod = %spec::format(&self.pod), "operations were left half-way");
        }
    }

    fn forget(&mut self) {
        for handle in self.probe_tasks.values() {
            handle.abort();
        }
        let uid = self.uid().to_owned();
        self.agent.config_maps.release(&uid);
        self.agent.secrets.release(&uid);
        self.agent.tokens.forget(&uid);
        self.agent.images.forget(&uid);
    }

    /// Does everything that can be done now; when to come again although nothing happens.
    fn step(&mut self) -> Option<Nanos> {
        if self.stage == Stage::Running && self.must_end() {
            self.stage = Stage::Ending;
        }
        let mut wake = match self.stage {
            Stage::Running => self.carry_out(),
            _ => self.wind_up(),
        };
        self.watch_probes();
        let published = self.publish();
        let told = self.let_go();
        wake = [wake, published, told].into_iter().flatten().min();
        let snapshot = Snapshot {
            pod: self.pod.clone(),
            status: self.status.clone(),
            containers: self.containers.clone(),
            sandbox_id: self.sandboxes.first().map(|s| s.id.clone()),
            active: self.stage < Stage::Clean,
        };
        self.agent.pods.publish(&self.entry, snapshot);
        wake
    }

    /// Deleted, gone, failed, or past its deadline.
    fn must_end(&mut self) -> bool {
        if self.removed || spec::is_deleting(&self.pod) || self.failure.is_some() || self.node_end.began {
            return true;
        }
        if self.deadline().is_some_and(|at| at <= time::now()) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            let recorder = &self.agent.recorder;
            recorder.pod(&self.pod, crate::events::Type::Normal, "DeadlineExceeded", message.as_str());
            self.failure = Some(("DeadlineExceeded".to_owned(), message));
            return true;
        }
        false
    }

    /// When `activeDeadlineSeconds` are over.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let seconds = spec::spec(&self.pod).active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?;
        Some(time::nanos_of(start) + seconds * time::SECOND)
    }

    async fn absorb(&mut self, inbox: Inbox) {
        if let Some(pod) = inbox.pod {
            let before = self.pod.clone();
            self.pod = pod;
            self.updated(&before);
        }
        self.removed |= inbox.removed;
        if let Some(status) = inbox.mirror {
            self.publisher.mirrored(status);
        }
        if let Some((sandboxes, containers)) = inbox.listing {
            self.sandboxes = sandboxes;
            self.containers = containers;
        }
        if inbox.sandbox {
            self.refresh_sandboxes().await;
        }
        for id in inbox.containers {
            self.refresh(&id).await;
        }
        self.sort();
        self.read_messages().await;
        for (id, kind, ok) in inbox.probes {
            let state = self.probes.entry(id).or_default();
            match kind {
                Kind::Startup => state.startup = Some(ok),
                Kind::Liveness => state.liveness = Some(ok),
                Kind::Readiness => state.readiness = Some(ok),
            }
        }
        if inbox.objects {
            self.objects_changed();
        }
        if let Some(guard) = inbox.shutdown {
            self.node_ends(guard);
        }
    }

    /// A change of the spec or labels: volumes of the downward API follow, a changed image is fetched anew.
    fn updated(&mut self, before: &Pod) {
        if before.metadata.labels != self.pod.metadata.labels
            || before.metadata.annotations != self.pod.metadata.annotations
        {
            self.objects_changed();
        }
        if before.spec != self.pod.spec {
            self.images.clear();
            self.pulled.clear();
        }
    }

    /// ConfigMaps or Secrets changed: volumes are renewed, and starts that failed for want of them are tried again.
    fn objects_changed(&mut self) {
        if self.stage != Stage::Running {
            return;
        }
        match self.volumes {
            Volumes::Ready => self.refresh_at = Some(time::now()),
            Volumes::RetryAt(_) => self.volumes = Volumes::RetryAt(0),
            // What is under way may have read the old state.
            Volumes::Underway => self.refresh_at = Some(time::now()),
            Volumes::Absent => {}
        }
        let waiting = |name: &String| self.failures.get(name).is_some_and(|w| w.reason == "CreateContainerConfigError");
        self.blocked = std::mem::take(&mut self.blocked).into_iter().filter(|(name, _)| !waiting(name)).collect();
    }

    /// Reads one container's state anew.
    pub(super) async fn refresh(&mut self, id: &str) {
        let found = self.agent.runtime.container_status(id).await;
        self.containers.retain(|c| c.id != id);
        match found {
            Ok(status) => self.containers.push(status),
            Err(Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(pod = %spec::format(&self.pod), id, %error, "reading a container's state failed")
            }
        }
        self.sort();
    }

    pub(super) async fn refresh_sandboxes(&mut self) {
        let mut fresh = Vec::new();
        for old in std::mem::take(&mut self.sandboxes) {
            match self.agent.runtime.pod_sandbox_status(&old.id).await {
                Ok(status) => fresh.push(status),
                Err(Error::NotFound(_)) => {}
                Err(error) => {
                    let pod = spec::format(&self.pod);
                    tracing::warn!(pod, id = %old.id, %error, "reading a sandbox's state failed");
                    fresh.push(old);
                }
            }
        }
        self.sandboxes = fresh;
        self.sort();
    }

    /// The termination message of each container that has ended, once.
    pub(super) async fn read_messages(&mut self) {
        let pod_dir = self.agent.config.pod_dir(self.uid());
        for status in &self.containers {
            if status.state != ContainerState::Exited || self.messages.contains_key(&status.id) {
                continue;
            }
            let (dir, ended) = (pod_dir.clone(), status.clone());
            let read = tokio::task::spawn_blocking(move || termination::message(&dir, &ended)).await;
            self.messages.insert(status.id.clone(), read.unwrap_or_default());
        }
        let known: BTreeSet<&String> = self.containers.iter().map(|c| &c.id).collect();
        self.messages.retain(|id, _| known.contains(id));
        self.probes.retain(|id, _| known.contains(id));
        let sandboxes = &self.sandboxes;
        self.stopping.retain(|id| known.contains(id) || sandboxes.iter().any(|s| s.id == *id));
    }

    /// Starts an operation beside the others.
    pub(super) fn spawn(&mut self, op: impl Future<Output = Op> + Send + 'static, name: &'static str) -> AbortHandle {
        let began = time::now();
        self.ops.spawn(async move { Done { op: op.await, name, began } })
    }
}

/// Sleeps until an instant of the wall clock; `None` is for ever.
async fn until(at: Option<Nanos>) {
    match at {
        Some(at) => {
            let left = u64::try_from(at - time::now()).unwrap_or(0);
            tokio::time::sleep(Duration::from_nanos(left)).await;
        }
        None => std::future::pending().await,
    }
}
