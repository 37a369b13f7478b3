//! One file for each command of the cluster's own; what several of them need is here.

pub mod down;
pub mod image;
pub mod part;
pub mod reset;
pub mod status;
pub mod token;
pub mod up;

use anyhow::{Result, bail};

use crate::cli::NodeArgs;
use crate::cluster::Machine;
use crate::layout::Layout;
use crate::netif;

/// Clusters need the kernel's doors open.
pub fn require_root(command: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("`cox {command}` makes namespaces, mounts and network links, and must be run as root (sudo cox {command})");
}

/// This machine as the arguments and the system say.
pub fn machine(args: &NodeArgs) -> Result<Machine> {
    let name = match &args.node_name {
        Some(name) => name.clone(),
        None => netif::host_name()?,
    };
    let problems = api::names::dns1123_subdomain(&name);
    if let Some(problem) = problems.first() {
        bail!("{name:?} cannot be a node's name: {problem}");
    }
    let ip = match args.node_ip {
        Some(ip) => ip,
        None => netif::default_address()?,
    };
    Ok(Machine { name, ip })
}

/// Logs go to the cluster's file when detached, to standard error else. `COX_LOG` filters, as tracing's `RUST_LOG`.
pub fn start_logging() -> Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("COX_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
    logs.with_ansi(coloured).try_init().map_err(|error| anyhow::anyhow!("start logging: {error}"))
}

/// What to type next.
pub fn next_steps(layout: &Layout) -> String {
    let (dir, kubeconfig) = (layout.dir().display(), layout.kubeconfig());
    let place = if layout.dir() == std::path::Path::new(crate::layout::DEFAULT_DIR) {
        String::new()
    } else {
        format!(" --data-dir {dir}")
    };
    format!(
        "\nNext:\n  export KUBECONFIG={}\n  kubectl get nodes            # or: cox get nodes\n  cox status{place}\n  cox down{place}",
        kubeconfig.display()
    )
}
