//! One node by hand, against any API server: `cox-node NAME IP DATA-DIRECTORY KUBECONFIG [KEY=VALUE…]` runs kubelet and
//! runtime core; `cox-node shim …` is what the core runs; `cox-node load DATA-DIRECTORY FILE` loads an image.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kubelet_runtime::{Config as RuntimeConfig, Core};
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<()> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "shim") {
        kubelet_runtime::shim::main(args.get(1..).unwrap_or(&[]));
    }
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow::anyhow!("a TLS provider is set"))?;
    let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["load", directory, file] => load(Path::new(directory), Path::new(file)).await,
            [name, ip, directory, kubeconfig, ref rest @ ..] => {
                node(name, ip, Path::new(directory), Path::new(kubeconfig), rest).await
            }
            _ => anyhow::bail!("cox-node NAME IP DATA-DIRECTORY KUBECONFIG [KEY=VALUE…]"),
        }
    })
}

fn runtime_config(directory: &Path) -> RuntimeConfig {
    let mut config = RuntimeConfig::new(directory, "e0e0e0e0");
    config.shim = vec!["/proc/self/exe".into(), "shim".into()];
    config
}

async fn load(directory: &Path, file: &Path) -> anyhow::Result<()> {
    let core = Core::open(runtime_config(directory)).await?;
    let names = core.images().load(file)?;
    println!("{names:?}");
    Ok(())
}

async fn node(name: &str, ip: &str, directory: &Path, kubeconfig: &Path, rest: &[&str]) -> anyhow::Result<()> {
    let core = Core::open(runtime_config(directory)).await?;
    let client = client::from_kubeconfig(kubeconfig).await?;
    let mut config = kubelet::Config::new(name, ip.parse()?, &directory.join("kubelet"));
    config.cgroup_root = "/cox-e0e0e0e0".to_owned();
    config.pod_log_dir = directory.join("log/pods");
    for pair in rest {
        match pair.split_once('=') {
            Some(("client-ca", file)) => config.client_ca = Some(PathBuf::from(file)),
            Some(("manifests", dir)) => config.static_pod_dir = Some(PathBuf::from(dir)),
            Some(("listen", address)) => config.listen = Some(address.parse()?),
            _ => anyhow::bail!("unknown setting {pair}"),
        }
    }
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        // Without signals the process is ended by force.
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    kubelet::run(config, client, Arc::clone(&core) as _, cancel).await
}
