//! The slices that one controller keeps: what the informer shows of them, overlaid with what was written and is not
//! shown yet. Planning from a copy that is behind would make the same endpoints twice.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::Change;
use client::{Api, WorkQueue};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use parking_lot::Mutex;

use super::plan::{MANAGED_BY, Plan, SERVICE_NAME};
use crate::context::{Context, gone_is_fine, is_code};

/// By Service, then by name.
type Written = HashMap<NamespacedName, HashMap<String, Arc<EndpointSlice>>>;

pub struct Slices {
    /// Value of the label `endpointslice.kubernetes.io/managed-by`.
    manager: &'static str,
    written: Mutex<Written>,
}

impl Slices {
    pub fn new(manager: &'static str) -> Self {
        Self { manager, written: Mutex::default() }
    }

    fn is_ours(&self, slice: &EndpointSlice) -> bool {
        slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == self.manager)
    }

    /// Adds a Service to the queue when one of its slices changed otherwise than by us.
    pub fn watch(self: &Arc<Self>, context: &Context, queue: &WorkQueue<NamespacedName>) {
        let (changed, slices) = (queue.clone(), Arc::clone(self));
        context.endpoint_slices.on_change(move |change| {
            let slice = change.object();
            if !slices.is_ours(slice) {
                return;
            }
            let Some(service) = slice.labels().get(SERVICE_NAME) else { return };
            let key = NamespacedName::new(&slice.namespace().unwrap_or_default(), service);
            let mut written = slices.written.lock();
            let name = slice.name_any();
            let expected = written.get(&key).and_then(|mine| mine.get(&name)).map(|slice| slice.resource_version());
            let seen = expected.is_some_and(|version| version == slice.resource_version());
            if let Some(mine) = written.get_mut(&key)
                && (seen || matches!(change, Change::Deleted(_)))
            {
                mine.remove(&name);
            }
            if !seen {
                changed.add(key);
            }
        });
    }

    /// The slices of a Service.
    pub fn of(&self, context: &Context, key: &NamespacedName) -> Vec<Arc<EndpointSlice>> {
        let shown = context.endpoint_slices.filter(|slice| {
            slice.namespace().as_deref() == Some(&*key.namespace)
                && slice.labels().get(SERVICE_NAME) == Some(&key.name)
                && self.is_ours(slice)
        });
        let mut all: HashMap<String, Arc<EndpointSlice>> = shown.into_iter().map(|s| (s.name_any(), s)).collect();
        let newest = |slice: &EndpointSlice| slice.resource_version().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        if let Some(mine) = self.written.lock().get_mut(key) {
            mine.retain(|name, slice| all.get(name).is_none_or(|shown| newest(shown) < newest(slice)));
            all.extend(mine.iter().map(|(name, slice)| (name.clone(), Arc::clone(slice))));
        }
        all.into_values().collect()
    }

    /// Deletes what is left of a Service.
    pub async fn delete_all(
        &self,
        api: &Api<EndpointSlice>,
        key: &NamespacedName,
        existing: &[Arc<EndpointSlice>],
    ) -> anyhow::Result<()> {
        self.written.lock().remove(key);
        for slice in existing {
            gone_is_fine(api.delete(&slice.name_any(), &DeleteParams::default()).await)
                .with_context(|| format!("delete a slice of the gone Service {key}"))?;
        }
        Ok(())
    }

    /// Does what a plan says.
    pub async fn apply(&self, api: &Api<EndpointSlice>, key: &NamespacedName, plan: Plan) -> anyhow::Result<()> {
        let remember = |slice: EndpointSlice| {
            self.written.lock().entry(key.clone()).or_default().insert(slice.name_any(), Arc::new(slice));
        };
        for slice in plan.create {
            match api.create(&PostParams::default(), &slice).await {
                Ok(made) => remember(made),
                // The namespace goes.
                Err(error) if is_code(&error, 403) || is_code(&error, 404) => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("make a slice of Service {key}")),
            }
        }
        for slice in plan.update {
            let updated = api.replace(&slice.name_any(), &PostParams::default(), &slice).await;
            remember(updated.with_context(|| format!("update a slice of Service {key}"))?);
        }
        for name in plan.delete {
            if let Some(mine) = self.written.lock().get_mut(key) {
                mine.remove(&name);
            }
            gone_is_fine(api.delete(&name, &DeleteParams::default()).await)
                .with_context(|| format!("delete slice {name} of Service {key}"))?;
        }
        Ok(())
    }
}
