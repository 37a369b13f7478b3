//! The runtime core alone, without API and kubelet.

use std::time::Instant;

use anyhow::{Context, Result};
use kubelet_runtime::cri::{ContainerConfig, PodSandboxConfig, Runtime as _, SeccompProfile, SecurityContext};
use kubelet_runtime::{Config, Core};
use testkit::Image;

use crate::side::Target;

/// Sandboxes with one container that are made one after another; the median counts.
const ROUNDS: usize = 51;

/// Milliseconds from a sandbox wanted to its container's program running.
pub async fn create_to_started(target: &Target) -> Result<f64> {
    let cluster = target.own()?;
    let directory = cluster.home().join("runtime-alone");
    let mut config = Config::new(&directory, &format!("{:08x}", std::process::id()));
    config.shim = vec![cluster.program().into(), "shim".into()];
    let core = Core::open(config.clone()).await?;
    core.update_pod_cidr("10.244.9.0/24").await?;
    let archive = cluster.home().join("alone.tar");
    Image::named("docker.io/library/alone:dev").busybox()?.write(&archive)?;
    let image = core.images().load(&archive)?.into_iter().next().context("the archive has no image")?;
    let mut seen = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        seen.push(once(&core, &image, &format!("{}/kubepods/pod{round}", config.cgroup_root)).await?);
    }
    drop(core);
    kubelet_runtime::reset(&config)?;
    seen.sort_by(f64::total_cmp);
    Ok(seen[ROUNDS / 2])
}

async fn once(core: &Core, image: &str, cgroup: &str) -> Result<f64> {
    let start = Instant::now();
    let pod = PodSandboxConfig {
        name: "alone".into(),
        uid: cgroup.into(),
        hostname: "alone".into(),
        cgroup_parent: format!("/{cgroup}"),
        ..PodSandboxConfig::default()
    };
    let sandbox = core.run_pod_sandbox(pod).await?;
    let security = SecurityContext { seccomp: SeccompProfile::RuntimeDefault, ..SecurityContext::default() };
    let command = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
    let config =
        ContainerConfig { name: "main".into(), image: image.into(), command, security, ..ContainerConfig::default() };
    let container = core.create_container(&sandbox, config).await?;
    core.start_container(&container).await?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    core.stop_pod_sandbox(&sandbox).await?;
    core.remove_pod_sandbox(&sandbox).await?;
    Ok(took)
}
