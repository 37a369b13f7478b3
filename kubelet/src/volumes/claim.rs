//! persistentVolumeClaim: the directory behind a claim that is bound to a hostPath or local volume.

use std::path::PathBuf;

use client::Api;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::agent::Agent;
use crate::spec;

use super::{blocking, dirs, ownership};

pub(super) async fn path(agent: &Agent, pod: &Pod, name: &str) -> Result<PathBuf, String> {
    let namespace = spec::namespace(pod);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(agent.client.clone(), namespace);
    let claim = claims.get(name).await.map_err(|e| {
        format!("error processing PVC {namespace}/{name}: failed to fetch PVC from API server: {}", crate::text(&e))
    })?;
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty());
    let (true, Some(volume)) = (bound, volume) else {
        return Err(format!("error processing PVC {namespace}/{name}: PVC is not bound"));
    };
    let volumes: Api<PersistentVolume> = Api::all(agent.client.clone());
    let pv = volumes.get(&volume).await.map_err(|e| {
        format!(
            "error processing PVC {namespace}/{name}: failed to fetch PV {volume:?} from API server: {}",
            crate::text(&e)
        )
    })?;
    let source = pv.spec.as_ref();
    let path = if let Some(host) = source.and_then(|s| s.host_path.as_ref()) {
        // As upstream, what belongs to the node keeps its owners.
        return dirs::host_path(host).await;
    } else if let Some(local) = source.and_then(|s| s.local.as_ref()) {
        let path = PathBuf::from(&local.path);
        if !path.exists() {
            return Err(format!("path {:?} does not exist", local.path));
        }
        path
    } else {
        return Err(format!("no volume plugin matched for volume {volume:?}"));
    };
    let context = spec::spec(pod).security_context.as_ref();
    if let Some(group) = context.and_then(|c| c.fs_group) {
        let lazy = context.and_then(|c| c.fs_group_change_policy.as_deref()) == Some("OnRootMismatch");
        let root = path.clone();
        blocking(move || {
            if lazy && ownership::matches(&root, group) {
                return Ok(());
            }
            ownership::apply(&root, group, false).map_err(|e| format!("applying fsGroup to {}: {e}", root.display()))
        })
        .await?;
    }
    Ok(path)
}
