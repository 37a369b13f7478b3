//! Which Pods are on this node: from the API's watch, from files, and from what the runtime still has of others. Each
//! gets a worker; news of API and runtime are handed to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::Api;
use client::watch::{self, Event, Unread, Watch};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubelet_runtime::cri::{self, EventType};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::events::Type;
use crate::labels;
use crate::node::{admission, weight};
use crate::static_pods::{self, Change};
use crate::{shutdown, spec, volumes};

use super::registry::Entry;
use super::worker::{Adopted, Worker};

/// Everything the runtime has, by Pod.
type Listing = HashMap<String, Adopted>;

pub struct Manager {
    agent: Arc<Agent>,
    cancel: CancellationToken,
    workers: JoinSet<String>,
    /// What the runtime had when we started, until its Pod is known.
    unclaimed: Listing,
    /// UIDs seen in the listing that is under way.
    listed: BTreeSet<String>,
    /// UIDs of the static Pods whose manifests are there: these have mirrors.
    statics: BTreeSet<String>,
    /// The API was listed once: what it does not have is gone.
    synced: bool,
    /// The node ends: no Pod is started any more.
    ending: bool,
}

impl Manager {
    pub fn new(agent: Arc<Agent>, cancel: CancellationToken) -> Self {
        Self {
            agent,
            cancel,
            workers: JoinSet::new(),
            unclaimed: Listing::new(),
            listed: BTreeSet::new(),
            statics: BTreeSet::new(),
            synced: false,
            ending: false,
        }
    }

    /// Runs until the token is cancelled, then waits for the workers to come to rest.
    pub async fn run(mut self, mut files: mpsc::Receiver<Change>) {
        let mut events = self.agent.runtime.events();
        self.unclaimed = self.listing().await;
        let api: Api<Pod> = Api::all(self.agent.client.clone());
        let config = watch::Config::default().fields(&format!("spec.nodeName={}", self.agent.config.node_name));
        let mut pods = Watch::new(api, config);
        let cancel = self.cancel.clone();
        let shutdown = self.agent.config.shutdown.clone();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = shutdown.asked(), if !self.ending => self.shut_down(),
                Some(event) = pods.next() => self.api(event),
                event = events.recv() => match event {
                    Ok(event) => self.runtime(&event),
                    Err(RecvError::Lagged(_)) => self.relist().await,
                    Err(RecvError::Closed) => {
                        tracing::error!("the runtime's events ended");
                        events = self.agent.runtime.events();
                        self.relist().await;
                    }
                },
                Some(change) = files.recv() => self.file(change),
                Some(done) = self.workers.join_next() => match done {
                    Ok(uid) => self.finished(&uid),
                    Err(error) => tracing::error!(%error, "a Pod's worker broke off"),
                },
            }
        }
        while self.workers.join_next().await.is_some() {}
    }

    async fn listing(&self) -> Listing {
        let mut all = Listing::new();
        match self.agent.runtime.list_pod_sandboxes().await {
            Ok(list) => list.into_iter().for_each(|s| all.entry(s.uid.clone()).or_default().sandboxes.push(s)),
            Err(error) => tracing::error!(%error, "listing sandboxes failed"),
        }
        match self.agent.runtime.list_containers().await {
            Ok(list) => list.into_iter().for_each(|c| {
                if let Some(uid) = c.labels.get(labels::POD_UID).cloned() {
                    all.entry(uid).or_default().containers.push(c);
                }
            }),
            Err(error) => tracing::error!(%error, "listing containers failed"),
        }
        all
    }

    fn api(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(spec::uid(&pod).to_owned());
                self.applied(pod);
            }
            Event::Apply(pod) => self.applied(pod),
            Event::Delete(pod) => self.deleted(pod),
            Event::InitDone => self.sync(),
            Event::Unread(unread) => self.unread(unread),
        }
    }

    fn applied(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        if spec::is_mirror(&pod) {
            self.mirror(&pod, true);
            return;
        }
        let pod = Arc::new(pod);
        match self.agent.pods.get(spec::uid(&pod)) {
            Some(entry) => entry.mailbox.post(|inbox| inbox.pod = Some(pod)),
            None => self.add(pod, false),
        }
    }

    /// The last state of a deleted Pod says how long it may take to end.
    fn deleted(&mut self, mut pod: Pod) {
        if spec::is_mirror(&pod) {
            self.mirror(&pod, false);
        } else if let Some(entry) = self.agent.pods.get(spec::uid(&pod)) {
            pod.metadata.managed_fields = None;
            entry.mailbox.post(|inbox| {
                inbox.pod = Some(Arc::new(pod));
                inbox.removed = true;
            });
        }
    }

    /// A Pod that cannot be read goes on as it was, until it is gone.
    fn unread(&mut self, unread: Unread) {
        if !unread.deleted {
            self.listed.insert(unread.uid);
        } else if let Some(entry) = self.agent.pods.get(&unread.uid) {
            entry.mailbox.post(|inbox| inbox.removed = true);
        }
    }

    /// A static Pod's mirror came or went: its worker writes the status there.
    fn mirror(&mut self, mirror: &Pod, there: bool) {
        let is_new = self.agent.mirrors.seen(mirror, there);
        let uid = spec::annotation(mirror, spec::CONFIG_MIRROR).filter(|uid| self.statics.contains(*uid));
        let Some(entry) = uid.and_then(|uid| self.agent.pods.get(uid)) else {
            if there {
                static_pods::delete_mirror(&self.agent, mirror);
            } else if let Some(pod) = self.static_named(mirror) {
                // Its manifest changed: its mirror could not be made while this one bore the name.
                static_pods::create_mirror(&self.agent, &pod);
            }
            return;
        };
        if !there {
            static_pods::create_mirror(&self.agent, &entry.snapshot().pod);
        } else if spec::is_deleting(mirror) {
            static_pods::delete_mirror(&self.agent, mirror);
        }
        entry.mailbox.post(|inbox| {
            if is_new {
                inbox.mirror = Some(mirror.status.clone().unwrap_or_default());
            }
        });
    }

    /// The static Pod that bears a mirror's name.
    fn static_named(&self, mirror: &Pod) -> Option<Arc<Pod>> {
        let mut pods = self.statics.iter().filter_map(|uid| Some(self.agent.pods.get(uid)?.snapshot().pod.clone()));
        let same =
            |pod: &Arc<Pod>| (spec::namespace(pod), spec::name(pod)) == (spec::namespace(mirror), spec::name(mirror));
        pods.find(same)
    }

    /// A list is complete: Pods that we run and it lacks are gone; so are those that only the runtime has.
    fn sync(&mut self) {
        for entry in self.agent.pods.all() {
            let pod = entry.snapshot().pod.clone();
            if !spec::is_static(&pod) && !self.listed.contains(spec::uid(&pod)) {
                entry.mailbox.post(|inbox| inbox.removed = true);
            }
        }
        if std::mem::replace(&mut self.synced, true) {
            return;
        }
        for (uid, adopted) in std::mem::take(&mut self.unclaimed) {
            if let Some(pod) = orphan(&uid, &adopted) {
                tracing::info!(pod = %spec::format(&pod), "a Pod that the API has no more is ended");
                self.start(Arc::new(pod), adopted, None, true);
            }
        }
        self.remove_leftovers();
        let weight = weight::run(self.agent.clone());
        client::spawn(self.cancel.clone().run_until_cancelled_owned(weight));
    }

    /// Directories and cgroups of Pods that neither the API nor the runtime knows.
    fn remove_leftovers(&self) {
        let known: BTreeSet<String> =
            self.agent.pods.all().iter().map(|e| spec::uid(&e.snapshot().pod).to_owned()).collect();
        let agent = self.agent.clone();
        client::spawn(async move {
            match volumes::orphans(&agent.config, &known) {
                Ok(uids) => {
                    for uid in uids {
                        if let Err(error) = volumes::tear_down(&agent.config, &uid, true).await {
                            tracing::warn!(uid, %error, "removing the volumes of a Pod long gone failed");
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "looking for volumes of Pods long gone failed"),
            }
            let cgroups = agent.cgroups.clone();
            let work = move || {
                for (uid, name) in cgroups.pods().into_iter().filter(|(uid, _)| !known.contains(uid)) {
                    if let Err(error) = cgroups.remove(&name) {
                        tracing::warn!(uid, %error, "removing the cgroup of a Pod long gone failed");
                    }
                }
            };
            if let Err(error) = tokio::task::spawn_blocking(work).await {
                tracing::warn!(%error, "removing cgroups broke off");
            }
        });
    }

    fn shut_down(&mut self) {
        self.ending = true;
        self.agent.node_changed.notify_one();
        if self.synced {
            client::spawn(self.cancel.clone().run_until_cancelled_owned(shutdown::run(self.agent.clone())));
        } else {
            self.agent.config.shutdown.give_up();
        }
    }

    /// A Pod that is new here.
    fn add(&mut self, pod: Arc<Pod>, from_file: bool) {
        if self.ending {
            return;
        }
        let adopted = self.unclaimed.remove(spec::uid(&pod)).unwrap_or_default();
        let known = !adopted.sandboxes.is_empty() || !adopted.containers.is_empty();
        let ended = spec::is_terminal_phase(pod.status.as_ref().and_then(|s| s.phase.as_deref()));
        let began = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        let rejection =
            if known || ended || began || spec::is_deleting(&pod) { None } else { admission::check(&self.agent, &pod) };
        let rejection = rejection.map(|(reason, message)| {
            self.agent.recorder.pod(&pod, Type::Warning, &reason, message.as_str());
            (reason, format!("Pod was rejected: {message}"))
        });
        if from_file {
            static_pods::create_mirror(&self.agent, &pod);
        }
        self.start(pod, adopted, rejection, false);
    }

    fn start(&mut self, pod: Arc<Pod>, adopted: Adopted, rejection: Option<(String, String)>, removed: bool) {
        let uid = spec::uid(&pod).to_owned();
        let entry = Entry::new(pod.clone(), rejection.is_none() && !removed);
        self.agent.pods.insert(&uid, entry.clone());
        let worker = Worker::new(self.agent.clone(), entry, pod, adopted, rejection, removed);
        let cancel = self.cancel.child_token();
        self.workers.spawn(async move {
            worker.run(cancel).await;
            uid
        });
    }

    fn finished(&mut self, uid: &str) {
        self.agent.pods.remove(uid);
    }

    fn runtime(&mut self, event: &cri::Event) {
        let Some(entry) = self.agent.pods.get(&event.pod_uid) else { return };
        entry.mailbox.post(|inbox| match event.kind {
            EventType::SandboxStopped => inbox.sandbox = true,
            _ => drop(inbox.containers.insert(event.container_id.clone())),
        });
    }

    /// Events were lost: every worker gets what the runtime has now.
    async fn relist(&mut self) {
        let mut all = self.listing().await;
        for entry in self.agent.pods.all() {
            let mine = all.remove(spec::uid(&entry.snapshot().pod)).unwrap_or_default();
            entry.mailbox.post(|inbox| inbox.listing = Some((mine.sandboxes, mine.containers)));
        }
    }

    fn file(&mut self, change: Change) {
        match change {
            Change::Applied(pod) => {
                self.statics.insert(spec::uid(&pod).to_owned());
                if self.agent.pods.get(spec::uid(&pod)).is_none() {
                    self.add(Arc::new(*pod), true);
                }
            }
            Change::Removed(uid) => {
                self.statics.remove(&uid);
                if let Some(entry) = self.agent.pods.get(&uid) {
                    static_pods::delete_mirror_of(&self.agent, &entry.snapshot().pod);
                    entry.mailbox.post(|inbox| inbox.removed = true);
                }
            }
        }
    }
}

/// As much of a Pod as its sandbox and containers tell.
fn orphan(uid: &str, adopted: &Adopted) -> Option<Pod> {
    let from_sandbox = adopted.sandboxes.first().map(|s| (s.name.clone(), s.namespace.clone()));
    let from_labels = || {
        let labels: &BTreeMap<String, String> = &adopted.containers.first()?.labels;
        Some((labels.get(labels::POD_NAME)?.clone(), labels.get(labels::POD_NAMESPACE)?.clone()))
    };
    let (name, namespace) = from_sandbox.or_else(from_labels)?;
    Some(Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec::default()),
        ..Pod::default()
    })
}
