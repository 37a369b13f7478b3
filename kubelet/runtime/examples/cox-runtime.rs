//! Plays `cox` for the tests: `shim` is a shim; `churn DIR CLUSTER IMAGE` makes Pods one after another until it is
//! killed.

use std::ffi::OsString;
use std::path::Path;

use kubelet_runtime::cri::{ContainerConfig, PodSandboxConfig, Runtime};
use kubelet_runtime::{Config, Core};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("shim") => kubelet_runtime::shim::main(args.get(1..).unwrap_or(&[])),
        Some("churn") => match args.get(1..) {
            Some([directory, cluster, image]) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(churn(directory.as_ref(), &cluster.to_string_lossy(), &image.to_string_lossy()))
            }
            _ => Err("usage: churn DIR CLUSTER IMAGE".into()),
        },
        _ => Err("this program is run by the tests of kubelet-runtime".into()),
    }
}

async fn churn(directory: &Path, cluster: &str, image: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::new(&directory.join("churn"), cluster);
    config.shim = vec![std::env::current_exe()?.into(), "shim".into()];
    let core = Core::open(config).await?;
    core.update_pod_cidr("10.244.7.128/25").await?;
    core.images().load(&directory.join("image.tar"))?;
    for round in 0.. {
        let sandbox = core
            .run_pod_sandbox(PodSandboxConfig {
                name: format!("churn-{round}"),
                hostname: "churn".into(),
                cgroup_parent: format!("/cox-{cluster}/kubepods/churn-{round}"),
                ..PodSandboxConfig::default()
            })
            .await?;
        let command = vec!["/bin/sleep".into(), "1000".into()];
        let config = ContainerConfig { image: image.into(), command, ..ContainerConfig::default() };
        let container = core.create_container(&sandbox, config).await?;
        core.start_container(&container).await?;
        core.stop_pod_sandbox(&sandbox).await?;
        core.remove_pod_sandbox(&sandbox).await?;
    }
    Ok(())
}
