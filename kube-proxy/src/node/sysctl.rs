//! Kernel settings that Pods and Services need.

use crate::config::Config;

/// Connections tracked at least, and for each CPU (upstream's defaults `conntrack-min`, `conntrack-max-per-core`).
const CONNTRACK_MIN: usize = 131_072;
const CONNTRACK_PER_CPU: usize = 32_768;

/// Sets what is not yet so. What the machine does not let us set is logged: it may be right from outside.
pub fn apply(config: &Config) {
    let v6 = config.pod_cidrs.iter().any(|cidr| !cidr.addr().is_ipv4());
    at_least("net/ipv4/ip_forward", 1);
    if v6 {
        at_least("net/ipv6/conf/all/forwarding", 1);
    }
    // A Pod that reaches itself through a Service would be told of a shorter way that does not exist.
    set("net/ipv4/conf/all/send_redirects", "0");
    set("net/ipv4/conf/default/send_redirects", "0");
}

/// Lets the kernel remember enough connections. To be called when there are rules that ask for it to remember any: the
/// module that has this setting comes with the first.
pub fn remember_connections() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    at_least("net/netfilter/nf_conntrack_max", CONNTRACK_MIN.max(CONNTRACK_PER_CPU * cpus));
}

fn at_least(name: &str, value: usize) {
    let current = std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
    if current.and_then(|text| text.trim().parse::<usize>().ok()).is_none_or(|current| current < value) {
        set(name, &value.to_string());
    }
}

fn set(name: &str, value: &str) {
    let path = format!("/proc/sys/{name}");
    if std::fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return;
    }
    if let Err(error) = std::fs::write(&path, value) {
        tracing::warn!(%error, name, value, "sysctl not set");
    }
}
