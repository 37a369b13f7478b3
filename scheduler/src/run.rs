//! The loop: takes in what changed, decides on the next Pod, binds in the background.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use api::NamespacedName;
use client::{Api, FromJson, Informer, watch};
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::cache::Cache;
use crate::claims::{self, Storage};
use crate::decide::{Outcome, Snapshot, Unfit, decide};
use crate::findings::Findings;
use crate::labels::{Labels, Selector};
use crate::model::{NodeInfo, PodInfo};
use crate::plugins::volumes::Choice;
use crate::preempt::{Budget, preempt};
use crate::queue::Queue;

/// Bindings under way at once.
const BINDINGS: usize = 64;

/// What upstream's plugin for devices says, before preemption does, about a Pod that claims none.
const NO_CLAIMS: &str = "no new claims to deallocate";

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

/// News in their order, each once.
type Waiting = (VecDeque<News>, HashSet<News>);

#[derive(Clone, Default)]
struct Inbox(Arc<(Mutex<Waiting>, Notify)>);

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

/// What is kept of a Service or a Pods' owner: whom it selects.
struct Selects {
    selector: Selector,
}

struct Informers {
    pods: Informer<PodInfo>,
    nodes: Informer<NodeInfo>,
    /// Names with labels.
    namespaces: Informer<(String, Labels)>,
    services: Informer<Selects>,
    replica_sets: Informer<Selects>,
    stateful_sets: Informer<Selects>,
    budgets: Informer<PodDisruptionBudget>,
    storage: Storage,
}

/// Starts an informer that keeps of each object what `keep` makes of it.
fn keeping<K, T>(client: &Client, stop: &CancellationToken, fields: &str, keep: fn(K) -> T) -> Informer<T>
where
    K: FromJson + Resource<DynamicType = ()>,
    T: Send + Sync + 'static,
{
    reading(client, stop, fields, K::from_json, keep)
}

/// As [`keeping`], where `read` makes of an object's text as much as `keep` looks at.
fn reading<K, T>(
    client: &Client,
    stop: &CancellationToken,
    fields: &str,
    read: fn(&str) -> serde_json::Result<K>,
    keep: fn(K) -> T,
) -> Informer<T>
where
    K: Resource<DynamicType = ()> + 'static,
    T: Send + Sync + 'static,
{
    let informer = Informer::idle();
    let config = watch::Config::default().fields(fields);
    informer.watch_reading(Api::<K>::all(client.clone()), config, stop.clone(), read, keep);
    informer
}

fn of_namespace(namespace: Namespace) -> (String, Labels) {
    (namespace.metadata.name.unwrap_or_default(), namespace.metadata.labels.unwrap_or_default())
}

fn of_service(service: Service) -> Selects {
    let labels = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
    Selects { selector: if labels.is_empty() { Selector::nothing() } else { Selector::of_labels(&labels) } }
}

fn of_replica_set(set: ReplicaSet) -> Selects {
    Selects { selector: Selector::of(set.spec.as_ref().map(|spec| &spec.selector)) }
}

fn of_stateful_set(set: StatefulSet) -> Selects {
    Selects { selector: Selector::of(set.spec.as_ref().map(|spec| &spec.selector)) }
}

impl Informers {
    fn start(client: &Client, inbox: &Inbox, stop: &CancellationToken) -> Self {
        let live = "status.phase!=Succeeded,status.phase!=Failed";
        let informers = Self {
            pods: reading(client, stop, live, client::sparse::pod, PodInfo::of),
            nodes: keeping(client, stop, "", NodeInfo::of),
            namespaces: keeping(client, stop, "", of_namespace),
            services: keeping(client, stop, "", of_service),
            replica_sets: keeping(client, stop, "", of_replica_set),
            stateful_sets: keeping(client, stop, "", of_stateful_set),
            budgets: Informer::start(Api::all(client.clone()), watch::Config::default(), stop.clone()),
            storage: Storage::new(
                Informer::start(Api::all(client.clone()), watch::Config::default(), stop.clone()),
                Informer::start(Api::all(client.clone()), watch::Config::default(), stop.clone()),
                Informer::start(Api::all(client.clone()), watch::Config::default(), stop.clone()),
            ),
        };
        let to = inbox.clone();
        informers.pods.on_change(move |change| {
            let pod = change.object();
            to.put(News::Pod(NamespacedName::new(&pod.namespace, &pod.name)));
        });
        let to = inbox.clone();
        informers.nodes.on_change(move |change| to.put(News::Node(change.object().name.clone())));
        let to = inbox.clone();
        informers.namespaces.on_change(move |change| to.put(News::Namespace(change.object().0.clone())));
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
    fn siblings(&self, pod: &PodInfo) -> Option<Selector> {
        let of_pod = self.services.in_namespace(&pod.namespace);
        let services = of_pod.iter().filter(|service| service.selector.matches(&pod.labels)).cloned();
        let owner = pod.owner.as_ref().and_then(|owner| match owner.kind.as_str() {
            "ReplicaSet" => self.replica_sets.get(&pod.namespace, &owner.name),
            "StatefulSet" => self.stateful_sets.get(&pod.namespace, &owner.name),
            _ => None,
        });
        services.chain(owner).map(|selects| selects.selector.clone()).reduce(Selector::and_all)
    }
}

/// Schedules while this process leads, until the token is cancelled.
///
/// # Errors
/// When the lead was lost: another process may schedule now, so this one must begin anew.
pub fn run(client: Client, config: Config, stop: CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> {
    // Boxed here, so that this crate and not its caller compiles what runs.
    Box::pin(lead(client, config, stop))
}

async fn lead(client: Client, config: Config, stop: CancellationToken) -> anyhow::Result<()> {
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
            findings: Findings::default(),
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
    findings: Findings,
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
                    Some(namespace) => self.cache.namespaces.insert(name, namespace.1.clone()),
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
        if !pod.node.is_empty() {
            self.queue.remove(key);
            self.cache.nominate(&pod, None);
            let assumed = self.cache.is_assumed(key, &pod.uid);
            let changed = self.cache.put_pod(Arc::clone(&pod), &pod.node, false);
            // A Pod that others want to be near to has come.
            let terms = pod.has_terms();
            let near = |waiting: &PodInfo| terms || !waiting.affinity.is_empty() || !waiting.spread.is_empty();
            if (changed || assumed) && !pod.labels.is_empty() {
                self.queue.changed(Instant::now(), near);
            }
        } else if !pod.ours || pod.gated || pod.deleting {
            self.queue.remove(key);
        } else if !self.cache.is_assumed(key, &pod.uid) {
            let siblings = if pod.spread.is_empty() { self.informers.siblings(&pod) } else { None };
            self.queue.put(PodInfo::clone(&pod).beside(siblings), Instant::now());
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
        let (outcome, looked) = decide(&snapshot, pod, self.turn, &mut self.findings);
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
        self.cache.put_pod(Arc::clone(pod), &node, true);
        let Ok(permit) = Arc::clone(&self.bindings).acquire_owned().await else { return };
        let (binder, inbox, pod) = (self.binder.clone(), self.inbox.clone(), Arc::clone(pod));
        let storage = (!choices.is_empty()).then(|| self.informers.storage.clone());
        client::spawn(async move {
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
        if unfit.nodes > 0 && unfit.overall.is_some() {
            // Upstream's plugin for devices misses what it would have noted, had another not refused the Pod before it.
            message.push_str(" not found");
        } else if unfit.nodes > 0 && !self.waits_for_victims(pod) {
            let budgets: Vec<_> = self.informers.budgets.list().iter().map(|budget| Budget::of(budget)).collect();
            match preempt(&self.cache.snapshot(), pod, unfit, &budgets) {
                Ok(candidate) => match self.binder.evict(pod, &candidate).await {
                    Ok(()) => {
                        self.cache.nominate(pod, Some(&candidate.node));
                        nominated = Some(candidate.node);
                    }
                    Err(error) => message = format!("{message} {NO_CLAIMS}, preemption: {error}"),
                },
                Err(why) => message = format!("{message} {NO_CLAIMS}, preemption: {why}"),
            }
        }
        self.queue.unschedulable(&key, Instant::now());
        let (binder, pod) = (self.binder.clone(), Arc::clone(pod));
        client::spawn(async move {
            binder.explain(&pod, "Unschedulable", &message, nominated.as_deref()).await;
        });
    }

    /// Whether Pods of lower priority are still ending on the node that was cleared for this one.
    fn waits_for_victims(&self, pod: &PodInfo) -> bool {
        let snapshot = self.cache.snapshot();
        let mine = snapshot.nominated.iter().find(|(_, waiting)| waiting.iter().any(|other| other.uid == pod.uid));
        let Some((node, _)) = mine else { return false };
        let node = snapshot.nodes.iter().find(|info| info.name == *node);
        node.is_some_and(|node| node.pods.iter().any(|other| other.priority < pod.priority && other.deleting))
    }
}
