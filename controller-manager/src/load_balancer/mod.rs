//! The service load balancer: Services of type LoadBalancer get addresses, from a range or those of the nodes. The
//! service proxy of each node takes what is sent to them.

mod plan;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, EventType, Recorder, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Client;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, gone_is_fine};

pub use plan::Range;

const NAME: &str = "service-controller";

struct Controller {
    context: Arc<Context>,
    client: Client,
    recorder: Recorder,
    range: Option<Range>,
    /// What was given and may not be shown by the informer yet.
    given: Arc<Mutex<HashMap<NamespacedName, IpAddr>>>,
}

/// Without a range, Services get the nodes' addresses.
pub fn start(context: &Arc<Context>, range: Option<Range>) {
    let queue = context.queue();
    let given: Arc<Mutex<HashMap<NamespacedName, IpAddr>>> = Arc::default();
    watch(context, &queue, &given, range.is_none());
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        range,
        given,
    });
    let (services, nodes) = (context.services.clone(), context.nodes.clone());
    let ready = async move {
        services.synced().await;
        nodes.synced().await;
    };
    // One worker: no two Services choose at the same time.
    context.spawn(NAME, queue, 1, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

fn watch(
    context: &Arc<Context>,
    queue: &WorkQueue<NamespacedName>,
    given: &Arc<Mutex<HashMap<NamespacedName, IpAddr>>>,
    from_nodes: bool,
) {
    let (changed, given, all) = (queue.clone(), Arc::clone(given), context.services.clone());
    context.services.on_change(move |change| {
        let service = change.object();
        let key = key_of(&**service);
        if let Change::Deleted(_) = change
            && given.lock().remove(&key).is_some()
        {
            // An address is free: others may wait for one.
            let waiting = all.filter(|other| plan::wants(other) && plan::current(other).is_empty());
            waiting.iter().for_each(|other| changed.add(key_of(&**other)));
        }
        if plan::wants(service) || plan::must_release(service) {
            changed.add(key);
        }
    });
    if !from_nodes {
        return;
    }
    let (changed, all) = (queue.clone(), context.services.clone());
    context.nodes.on_change(move |change| {
        let addresses = |node: &Arc<Node>| plan::node_addresses(std::iter::once(&**node));
        let differs = match change {
            Change::Added(node) | Change::Deleted(node) => !addresses(node).is_empty(),
            Change::Updated { old, new } => addresses(old) != addresses(new),
        };
        if differs {
            all.filter(plan::wants).iter().for_each(|service| changed.add(key_of(&**service)));
        }
    });
}

impl Controller {
    async fn sync(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(service) = self.context.services.get(&key.namespace, &key.name) else { return Ok(()) };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        if plan::must_release(&service) {
            return self.release(&service, key).await;
        }
        if !plan::wants(&service) {
            return Ok(());
        }
        let wanted = match self.addresses(&service, key) {
            Ok(wanted) => wanted,
            Err(error) => {
                let message = format!("Error syncing load balancer: failed to ensure load balancer: {error}");
                self.recorder.about(&*service, EventType::Warning, "SyncLoadBalancerFailed", message);
                return Err(error);
            }
        };
        if plan::current(&service) == wanted {
            return Ok(());
        }
        if wanted.is_empty() {
            let message = "There are no available nodes for LoadBalancer";
            self.recorder.about(&*service, EventType::Warning, "UnAvailableLoadBalancer", message);
        } else {
            self.recorder.about(&*service, EventType::Normal, "EnsuringLoadBalancer", "Ensuring load balancer");
        }
        self.write(key, &wanted).await?;
        if !wanted.is_empty() {
            self.recorder.about(&*service, EventType::Normal, "EnsuredLoadBalancer", "Ensured load balancer");
        }
        Ok(())
    }

    /// The addresses that a Service shall have.
    fn addresses(&self, service: &Service, key: &NamespacedName) -> anyhow::Result<Vec<IpAddr>> {
        let Some(range) = self.range else {
            let nodes = self.context.nodes.list();
            let all = plan::node_addresses(nodes.iter().map(|node| &**node));
            return Ok(all.into_iter().filter(|ip| plan::is_of_family(service, *ip)).collect());
        };
        let mut given = self.given.lock();
        let others = self.context.services.filter(|other| key_of(other) != *key && plan::wants(other));
        let shown = others.iter().flat_map(|other| plan::current(other));
        let unshown = given.iter().filter(|(other, _)| *other != key).map(|(_, ip)| *ip);
        let taken: HashSet<IpAddr> = shown.chain(unshown).collect();
        let current = plan::current(service).first().copied().or_else(|| given.get(key).copied());
        let Some(chosen) = range.choose(current, plan::asked(service), &taken) else {
            bail!("no address of the load balancer's range is free");
        };
        given.insert(key.clone(), chosen);
        Ok(vec![chosen])
    }

    async fn release(&self, service: &Service, key: &NamespacedName) -> anyhow::Result<()> {
        self.recorder.about(service, EventType::Normal, "DeletingLoadBalancer", "Deleting load balancer");
        self.write(key, &[]).await?;
        self.given.lock().remove(key);
        self.recorder.about(service, EventType::Normal, "DeletedLoadBalancer", "Deleted load balancer");
        Ok(())
    }

    async fn write(&self, key: &NamespacedName, addresses: &[IpAddr]) -> anyhow::Result<()> {
        let ingress: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let ingress = if ingress.is_empty() { serde_json::Value::Null } else { ingress.into() };
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        gone_is_fine(api.patch_status(&key.name, &PatchParams::default(), &patch).await)
            .with_context(|| format!("write the addresses of Service {key}"))
    }
}
