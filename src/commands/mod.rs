//! One file for each command of the cluster's own; what several of them need is here.

pub mod agent;
pub mod down;
pub mod image;
pub mod part;
pub mod reset;
pub mod status;
pub mod store;
pub mod token;
pub mod up;

use anyhow::{Result, bail};

use crate::cli::NodeArgs;
use crate::cluster::{Machine, POD_NETWORK, SERVICE_NETWORK};
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
    for (network, what) in [(POD_NETWORK, "the Pods'"), (SERVICE_NETWORK, "the Services'")] {
        if within(ip, network) {
            bail!(
                "{ip} lies in {what} network {network}: the cluster would take its packets; choose another with --node-ip"
            );
        }
    }
    Ok(Machine { name, ip })
}

/// Whether an address lies in an IPv4 network, `10.96.0.0/12`.
fn within(ip: std::net::IpAddr, network: &str) -> bool {
    let std::net::IpAddr::V4(ip) = ip else { return false };
    let Some((base, prefix)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<std::net::Ipv4Addr>(), prefix.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    u32::from(ip) & mask == u32::from(base) & mask
}

/// Logs go to the cluster's file when detached, to standard error else. `COX_LOG` filters, as tracing's `RUST_LOG`.
pub fn start_logging() -> Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("COX_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Where the log cannot be written, on a full disk for one, a line is lost; telling of that would be a panic.
    let logs = logs.with_ansi(coloured).log_internal_errors(false);
    logs.try_init().map_err(|error| anyhow::anyhow!("start logging: {error}"))
}

/// The argument that leads a command to this cluster: none where it lives in the usual place.
pub fn place(layout: &Layout) -> String {
    if layout.dir() == std::path::Path::new(crate::layout::DEFAULT_DIR) {
        return String::new();
    }
    format!(" --data-dir {}", layout.dir().display())
}

/// What to type next.
pub fn next_steps(layout: &Layout) -> String {
    let (place, kubeconfig) = (place(layout), layout.kubeconfig());
    format!(
        "\nNext:\n  export KUBECONFIG={}\n  kubectl get nodes            # or: cox get nodes\n  cox status{place}\n  cox down{place}",
        kubeconfig.display()
    )
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn addresses_in_networks() {
        let cases = [
            ("10.99.0.1", "10.96.0.0/12", true),
            ("10.112.0.1", "10.96.0.0/12", false),
            ("::1", "10.96.0.0/12", false),
        ];
        for (ip, network, expected) in cases {
            assert_eq!(ip.parse().is_ok_and(|ip| within(ip, network)), expected, "{ip} in {network}");
        }
    }
}
