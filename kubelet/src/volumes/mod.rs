//! A Pod's volumes on the node: set up side by side, kept up to date, taken down at the end.
//!
//! Each lies at `pods/UID/volumes/kubernetes.io~PLUGIN/NAME`, as upstream lays them out.

pub mod atomic_writer;
mod claim;
mod dirs;
pub mod ownership;
mod payload;
pub mod shared;
pub mod subpath;
mod teardown;
pub mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::agent::Agent;
use crate::spec;
use crate::time::Nanos;

pub use teardown::{orphans, tear_down};

/// Where each volume of a Pod lies on the node, by the volume's name.
pub type Paths = BTreeMap<String, PathBuf>;

/// What setting up came to.
#[derive(Clone, Debug, Default)]
pub struct Mounted {
    pub paths: Paths,
    /// When a token in them is to be renewed.
    pub refresh_at: Option<Nanos>,
}

/// A volume that could not be set up; the text of a `FailedMount` event.
#[derive(Clone, Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct Error {
    pub volume: String,
    pub message: String,
}

/// Sets up every volume that the Pod's containers may use; calling it again renews what has changed.
pub async fn set_up(agent: &Agent, pod: &Pod) -> Result<Mounted, Vec<Error>> {
    let volumes = spec::spec(pod).volumes.as_deref().unwrap_or_default();
    let results = join_all(volumes.iter().map(|v| one(agent, pod, v))).await;
    let (mut mounted, mut errors) = (Mounted::default(), Vec::new());
    for (volume, result) in volumes.iter().zip(results) {
        match result {
            Ok((path, refresh)) => {
                mounted.paths.insert(volume.name.clone(), path);
                mounted.refresh_at = [mounted.refresh_at, refresh].into_iter().flatten().min();
            }
            Err(message) => errors.push(Error { volume: volume.name.clone(), message }),
        }
    }
    if errors.is_empty() { Ok(mounted) } else { Err(errors) }
}

/// Whether containers may only read a volume, whatever their mounts say: those that the kubelet writes, and claims that
/// the Pod asks for so.
pub fn is_read_only(pod: &Pod, name: &str) -> bool {
    let volume = spec::spec(pod).volumes.iter().flatten().find(|volume| volume.name == name);
    volume.is_some_and(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some()
            || volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true))
    })
}

/// Directory of a volume below the Pod's.
fn dir(agent: &Agent, pod: &Pod, plugin: &str, name: &str) -> PathBuf {
    agent.config.pod_dir(spec::uid(pod)).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// Sets up one volume; its path, and when it wants to be looked at again.
async fn one(agent: &Agent, pod: &Pod, volume: &Volume) -> Result<(PathBuf, Option<Nanos>), String> {
    let name = &volume.name;
    let group = spec::spec(pod).security_context.as_ref().and_then(|c| c.fs_group);
    if let Some(host) = &volume.host_path {
        return Ok((dirs::host_path(host).await?, None));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return Ok((claim::path(agent, pod, &claim.claim_name).await?, None));
    }
    if volume.ephemeral.is_some() {
        let claim = format!("{}-{name}", spec::name(pod));
        return Ok((claim::path(agent, pod, &claim).await?, None));
    }
    if let Some(empty) = &volume.empty_dir {
        let path = dir(agent, pod, "empty-dir", name);
        dirs::empty_dir(path.clone(), empty, group).await?;
        return Ok((path, None));
    }
    let plugin = match () {
        () if volume.config_map.is_some() => "configmap",
        () if volume.secret.is_some() => "secret",
        () if volume.projected.is_some() => "projected",
        () if volume.downward_api.is_some() => "downward-api",
        () => return Err(format!("no volume plugin matched for volume {name:?}")),
    };
    let (files, refresh) = payload::payload(agent, pod, volume).await?;
    let path = dir(agent, pod, plugin, name);
    let target = path.clone();
    let write = move || -> Result<(), String> {
        dirs::make_root(&target)?;
        atomic_writer::write(&target, &files, group).map_err(|e| format!("error writing payload to dir: {e}"))
    };
    blocking(write).await?;
    Ok((path, refresh))
}

/// Runs file work off the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("file work was cut short: {e}"))?
}
