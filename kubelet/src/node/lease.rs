//! The node's Lease in kube-node-lease, renewed at a quarter of its life: how others know that the node lives. What the
//! machine is short of is looked at in the same breath.

use std::sync::Arc;
use std::time::Duration;

use client::Api;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::agent::Agent;
use crate::node::pressure::Short;

const NAMESPACE: &str = "kube-node-lease";
/// Between tries while the API is away.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(agent: &Arc<Agent>) {
    let seconds = u64::try_from(agent.config.lease_duration_seconds).unwrap_or(40).max(4);
    let period = Duration::from_secs(seconds / 4);
    let api: Api<Lease> = Api::namespaced(agent.client.clone(), NAMESPACE);
    let mut known = false;
    let mut short = Short::default();
    loop {
        let now = agent.pressure.look(&agent.config.root_dir);
        if std::mem::replace(&mut short, now) != now {
            agent.node_changed.notify_one();
        }
        match renew(agent, &api, known).await {
            Ok(()) => {
                known = true;
                client::beat::next(period).await;
            }
            Err(kube::Error::Api(status)) if status.code == 404 && known => known = false,
            Err(error) => {
                tracing::debug!(error = %crate::text(&error), "renewing the node's lease failed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn renew(agent: &Agent, api: &Api<Lease>, known: bool) -> kube::Result<()> {
    let name = &agent.config.node_name;
    let now = MicroTime(jiff::Timestamp::now());
    let renewal = json!({"spec": {"renewTime": now, "holderIdentity": name,
        "leaseDurationSeconds": agent.config.lease_duration_seconds}});
    if known {
        return api.patch(name, &PatchParams::default(), &Patch::Merge(&renewal)).await.map(drop);
    }
    let owner = agent.node.borrow().clone().map(|node| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    });
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: owner.map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(agent.config.lease_duration_seconds),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    match api.create(&PostParams::default(), &lease).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.patch(name, &PatchParams::default(), &Patch::Merge(&renewal)).await.map(drop)
        }
        result => result.map(drop),
    }
}
