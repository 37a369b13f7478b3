//! The loop: takes in what changed, decides on the next Pod, binds in the background.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use api::NamespacedName;
use client::informer::key_of;
use client::{Change, Informer};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::cache::Cache;
use crate::claims::{self, Storage};
use crate::decide::{Outcome, Snapshot, Unfit, decide};
use crate::labels::Selector;
use crate::model::PodInfo;
use crate::plugins::volumes::Choice;
use crate::preempt::{Budget, preempt};
use crate::queue::Queue;

/// Pods whose `spec.schedulerName` is this are ours.
const SCHEDULER: &str = "default-scheduler";
/// Bindings under way at once.
const BINDINGS: usize = 64;

#[derive(Clone, Debug)]
pub struct Config {
    /// In whose name the lease is held, as [`client::leader::Election::identity`] has it.
    pub identity: String,
}

/// What has changed; each thing waits once, so the inbox is no longer than the cluster has objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum News {
    Pod(NamespacedName),
    Node(String),
    Namespace(String),
    /// Claims, volumes or classes.
    Storage,
    /// A binding could not be made.
    Unbound(NamespacedName, String),
}

#[derive(Clone, Default)]
struct Inbox(Arc<(Mutex<(VecDeque<News>, HashSet<News>)>, Notify)>);

impl Inbox {
    fn put(&self, news: News) {
        let mut inbox = self.0.0.lock();
        if inbox.1.insert(news.clone()) {
            inbox.0.push_back(news);
        }
        drop(inbox);
        self.0.1.notify_one();
    }

    fn take(&self) -> Option<News> {
        let mut inbox = self.0.0.lock();
        let news = inbox.0.pop_front()?;
        inbox.1.remove(&news);
        Some(news)
    }

    async fn wait(&self) {
        self.0.1.notified().await;
    }
}

struct Informers {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    budgets: Informer<PodDisruptionBudget>,
    storage: Storage,
}

impl Informers {
    fn start(client: &Client, inbox: &Inbox, stop: &CancellationToken) -> Self {
        let all = watcher::Config::default;
        let live = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let informers = Self {
            pods: Informer::start(Api::all(client.clone()), live, stop.clone()),
            nodes: Informer::start(Api::all(client.clone()), all(), stop.clone()),
            namespaces: Informer::start(Api::all(client.clone()), all(), stop.clone()),
            services: Informer::start(Api::all(client.clone()), all(), stop.clone()),
            replica_sets: Informer::start(Api::all(client.clone()), all(), stop.clone()),
            stateful_sets: Informer::start(Api::all(client.clone()), all(), stop.clone()),
            budgets: Informer::start(Api::all(client.clone()), all(), stop.clone()),
            storage: Storage::new(
                Informer::start(Api::all(client.clone()), all(), stop.clone()),
                Informer::start(Api::all(client.clone()), all(), stop.clone()),
                Informer::start(Api::all(client.clone()), all(), stop.clone()),
            ),
        };
        let to = inbox.clone();
        informers.pods.on_change(move |change: &Change<'_, Pod>| to.put(News::Pod(key_of(&**change.object()))));
        let to = inbox.clone();
        informers.nodes.on_change(move |change| to.put(News::Node(change.object().name_any())));
        let to = inbox.clone();
        informers.namespaces.on_change(move |change| to.put(News::Namespace(change.object().name_any())));
        let to = inbox.clone();
        informers.storage.claims.on_change(move |_| to.put(News::Storage));
        let to = inbox.clone();
        informers.storage.volumes.on_change(move |_| to.put(News::Storage));
        let to = inbox.clone();
        informers.storage.classes.on_change(move |_| to.put(News::Storage));
        informers
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.namespaces.synced().await;
        self.services.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.budgets.synced().await;
        self.storage.synced().await;
    }

    /// Selects the Pods of the same Services and controller: what the default spread looks at.
    fn siblings(&self, pod: &Pod) -> Option<Selector> {
        let namespace = pod.namespace().unwrap_or_default();
        let mut selector: Option<Selector> = None;
        let mut add = |more: Selector| {
            selector = Some(match selector.take() {
                Some(so_far) => so_far.and_all(more),
                None => more,
            })
        };
        let chosen = |service: &Service| {
            let labels = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
            let ours = service.namespace().as_deref() == Some(&*namespace) && !labels.is_empty();
            ours && labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        };
        for service in self.services.filter(chosen) {
            let labels = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
            add(Selector::of_labels(&labels));
        }
        if let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) {
            let name = &owner.name;
            match owner.kind.as_str() {
                "ReplicaSet" => {
                    let set = self.replica_sets.get(&namespace, name);
                    set.and_then(|s| s.spec.clone()).into_iter().for_each(|s| add(Selector::of(Some(&s.selector))));
                }
                "StatefulSet" => {
                    let set = self.stateful_sets.get(&namespace, name);
                    set.and_then(|s| s.spec.clone()).into_iter().for_each(|s| add(Selector::of(Some(&s.selector))));
                }
                _ => {}
            }
        }
        selector
    }
}

/// Schedules while this process leads, until the token is cancelled.
///
/// # Errors
/// When the lead was lost: another process may schedule now, so this one must begin anew.
pub async fn run(client: Client, config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let election = client::leader::Election {
        namespace: "kube-system".to_owned(),
        name: "kube-scheduler".to_owned(),
        identity: config.identity.clone(),
    };
    let candidate = client.clone();
    let kept = client::leader::run(candidate, election, stop, |lead| async move {
        let inbox = Inbox::default();
        let informers = Informers::start(&client, &inbox, &lead);
        tokio::select! {
            () = lead.cancelled() => return,
            () = informers.synced() => {}
        }
        let scheduler = Scheduler {
            informers,
            inbox,
            cache: Cache::default(),
            queue: Queue::default(),
            binder: Binder::new(client),
            bindings: Arc::new(Semaphore::new(BINDINGS)),
            turn: 0,
        };
        scheduler.schedule(lead).await;
    })
    .await;
    anyhow::ensure!(kept, "the scheduler's lease was lost");
    Ok(())
}

struct Scheduler {
    informers: Informers,
    inbox: Inbox,
    cache: Cache,
    queue: Queue,
    binder: Binder,
    bindings: Arc<Semaphore>,
    turn: usize,
}

impl Scheduler {
    async fn schedule(mut self, stop: CancellationToken) {
        loop {
            while let Some(news) = self.inbox.take() {
                self.learn(news);
            }
            if let Some(pod) = self.queue.pop(Instant::now()) {
                self.decide(&pod).await;
                // Others run on this thread too: a long queue must not keep them waiting.
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = self.queue.next_deadline();
            let ripe = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inbox.wait() => {}
                () = ripe => {}
            }
        }
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Pod(key) => self.learn_pod(&key),
            News::Node(name) => match self.informers.nodes.get("", &name) {
                Some(node) if self.cache.put_node(&node) => self.queue.changed(Instant::now(), |_| true),
                Some(_) => {}
                None => self.cache.remove_node(&name),
            },
            News::Namespace(name) => {
                match self.informers.namespaces.get("", &name) {
                    Some(namespace) => self.cache.namespaces.insert(name, namespace.labels().clone()),
                    None => self.cache.namespaces.remove(&name),
                };
            }
            News::Storage => self.queue.changed(Instant::now(), claims::concerns),
            News::Unbound(key, uid) => {
                if self.cache.is_assumed(&key, &uid) {
                    self.cache.remove_pod(&key);
                    self.queue.failed(&key, Instant::now());
                    self.queue.changed(Instant::now(), |_| true);
                    self.learn_pod(&key);
                }
            }
        }
    }

    fn learn_pod(&mut self, key: &NamespacedName) {
        let Some(pod) = self.informers.pods.get(&key.namespace, &key.name) else {
            self.queue.remove(key);
            if self.cache.remove_pod(key) {
                self.queue.changed(Instant::now(), |_| true);
            }
            return;
        };
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
        let info = PodInfo::of(&pod, self.informers.siblings(&pod));
        if let Some(node) = node {
            self.queue.remove(key);
            let with_terms = info.has_terms();
            let labels = info.labels.clone();
            self.cache.nominate(&Arc::new(info.clone()), None);
            self.cache.put_pod(info, node, false);
            // A Pod that others want to be near to has come.
            let near = |waiting: &PodInfo| with_terms || !waiting.affinity.is_empty() || !waiting.spread.is_empty();
            if !labels.is_empty() {
                self.queue.changed(Instant::now(), near);
            }
            return;
        }
        let ours = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(SCHEDULER) == SCHEDULER;
        let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
        if !ours || gated || pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(key);
        } else if !self.cache.is_assumed(key, &info.uid) {
            self.queue.put(info, Instant::now());
        }
    }

    async fn decide(&mut self, pod: &Arc<PodInfo>) {
        let volumes = match self.informers.storage.of(pod) {
            Ok(volumes) => volumes,
            Err(why) => {
                let unfit = Unfit::everywhere(self.cache.snapshot().nodes, why);
                return self.no_room(pod, &unfit).await;
            }
        };
        let snapshot = Snapshot { volumes: &volumes, ..self.cache.snapshot() };
        let (outcome, looked) = decide(&snapshot, pod, self.turn);
        self.turn = (self.turn + looked) % self.cache.nodes().max(1);
        match outcome {
            Outcome::Fits { node } => {
                let info = self.cache.node(&node);
                let choices = info.and_then(|info| volumes.choose(info)).unwrap_or_default();
                self.bind(pod, node, choices).await;
            }
            Outcome::Unfit(unfit) => self.no_room(pod, &unfit).await,
        }
    }

    async fn bind(&mut self, pod: &Arc<PodInfo>, node: String, choices: Vec<Choice>) {
        self.cache.nominate(pod, None);
        self.cache.put_pod((**pod).clone(), &node, true);
        let Ok(permit) = Arc::clone(&self.bindings).acquire_owned().await else { return };
        let (binder, inbox, pod) = (self.binder.clone(), self.inbox.clone(), Arc::clone(pod));
        let storage = (!choices.is_empty()).then(|| self.informers.storage.clone());
        tokio::spawn(async move {
            if let Some(storage) = storage
                && let Err(error) = storage.bind(binder.client(), &choices, &node).await
            {
                drop(permit);
                binder.explain(&pod, "SchedulerError", &format!("{error:#}"), None).await;
                inbox.put(News::Unbound(NamespacedName::new(&pod.namespace, &pod.name), pod.uid.clone()));
                return;
            }
            let bound = binder.bind(&pod, &node).await;
            drop(permit);
            let Err(error) = bound else { return };
            let key = NamespacedName::new(&pod.namespace, &pod.name);
            tracing::debug!(pod = %key, node, %error, "binding failed");
            // A Pod that is gone, or was bound by another, needs no word: its event comes.
            let settled = matches!(&error, kube::Error::Api(status) if status.code == 404);
            if !settled {
                binder.explain(&pod, "SchedulerError", &format!("binding rejected: {error}"), None).await;
            }
            inbox.put(News::Unbound(key, pod.uid.clone()));
        });
    }

    async fn no_room(&mut self, pod: &Arc<PodInfo>, unfit: &Unfit) {
        let key = NamespacedName::new(&pod.namespace, &pod.name);
        let mut message = unfit.message();
        let mut nominated = None;
        if unfit.nodes > 0 && !self.waits_for_victims(pod) {
            let budgets: Vec<_> = self.informers.budgets.list().iter().map(|budget| Budget::of(budget)).collect();
            match preempt(&self.cache.snapshot(), pod, unfit, &budgets) {
                Ok(candidate) => match self.binder.evict(pod, &candidate).await {
                    Ok(()) => {
                        self.cache.nominate(pod, Some(&candidate.node));
                        nominated = Some(candidate.node);
                    }
                    Err(error) => message = format!("{message} preemption: {error}"),
                },
                Err(why) => message = format!("{message} preemption: {why}"),
            }
        }
        self.queue.unschedulable(&key, Instant::now());
        let (binder, pod) = (self.binder.clone(), Arc::clone(pod));
        tokio::spawn(async move {
            binder.explain(&pod, "Unschedulable", &message, nominated.as_deref()).await;
        });
    }

    /// Whether Pods of lower priority are still ending on the node that was cleared for this one.
    fn waits_for_victims(&self, pod: &PodInfo) -> bool {
        let snapshot = self.cache.snapshot();
        let mine = snapshot.nominated.iter().find(|(_, waiting)| waiting.iter().any(|other| other.uid == pod.uid));
        let Some((node, _)) = mine else { return false };
        let node = snapshot.nodes.iter().find(|info| info.name == *node);
        node.is_some_and(|node| {
            node.pods
                .iter()
                .any(|other| other.priority < pod.priority && other.pod.metadata.deletion_timestamp.is_some())
        })
    }
}
