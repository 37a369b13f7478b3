//! What a decision does in the API: binding, nominating, removing victims, saying why a Pod waits.

use std::sync::Arc;

use client::{Api, EventType, Recorder};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};

use crate::model::PodInfo;
use crate::preempt::Candidate;

#[derive(Clone)]
pub struct Binder {
    client: Client,
    recorder: Recorder,
}

impl Binder {
    pub fn new(client: Client) -> Self {
        let recorder = Recorder::new(client.clone(), "default-scheduler", "");
        Self { client, recorder }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }

    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
        let metadata = ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectMeta::default()
        };
        let target = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        };
        let binding = Binding { metadata, target };
        self.pods(pod).create_subresource("binding", &pod.name, &PostParams::default(), &binding).await?;
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
        self.recorder.record(pod.reference(), EventType::Normal, "Scheduled", message);
        Ok(())
    }

    /// Says in an event and in the PodScheduled condition why the Pod waits.
    pub async fn explain(&self, pod: &PodInfo, reason: &str, message: &str, nominated: Option<&str>) {
        self.recorder.record(pod.reference(), EventType::Warning, "FailedScheduling", message);
        let old = pod.unscheduled.as_deref();
        let told = |c: &PodCondition| c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message);
        if old.is_some_and(told) && nominated.is_none() {
            return;
        }
        let since = old.and_then(|c| c.last_transition_time.clone());
        let condition = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since.or_else(|| Some(Time(Timestamp::now()))),
            ..PodCondition::default()
        };
        let mut patch = serde_json::json!({"status": {"conditions": [condition]}});
        if let Some(node) = nominated {
            patch["status"]["nominatedNodeName"] = serde_json::json!(node);
        }
        self.patch_status(pod, patch).await;
    }

    async fn patch_status(&self, pod: &PodInfo, mut patch: serde_json::Value) {
        patch["metadata"] = serde_json::json!({"uid": pod.uid});
        let patched = self.pods(pod).patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        if let Err(error) = patched {
            // The next attempt says it again.
            tracing::debug!(pod = pod.name, namespace = pod.namespace, %error, "write the Pod's scheduling status");
        }
    }

    /// Removes the victims of a preemption, each told why.
    pub async fn evict(&self, preemptor: &PodInfo, candidate: &Candidate) -> Result<(), kube::Error> {
        let evictions = candidate.victims.iter().map(|victim| self.evict_one(preemptor, victim, &candidate.node));
        join_all(evictions).await.into_iter().collect()
    }

    async fn evict_one(&self, preemptor: &PodInfo, victim: &Arc<PodInfo>, node: &str) -> Result<(), kube::Error> {
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("PreemptionByScheduler".to_owned()),
            message: Some("default-scheduler: preempting to accommodate a higher priority pod".to_owned()),
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        };
        self.patch_status(victim, serde_json::json!({"status": {"conditions": [condition]}})).await;
        let preconditions = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.pods(victim).delete(&victim.name, &params).await {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {node}", preemptor.uid);
                self.recorder.record(victim.reference(), EventType::Normal, "Preempted", message);
                Ok(())
            }
            // It went by itself.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}
