//! Which kernel parameters a Pod may set: those that are its own namespaces' and cannot harm its neighbours, as
//! upstream has them.

use k8s_openapi::api::core::v1::Pod;

use crate::spec;

/// Upstream's safe ones; each kernel that we run on has them for each namespace.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Reason and message of a rejection; `None`: the Pod may have what it asks for.
pub fn check(pod: &Pod) -> Option<(String, String)> {
    let own = spec::spec(pod);
    let asked = own.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    asked.into_iter().flatten().find_map(|sysctl| {
        let name = normalized(&sysctl.name);
        let why = if !SAFE.contains(&name.as_str()) {
            "not allowlisted"
        } else if name.starts_with("net.") && spec::host_network(pod) {
            "not allowed with host Net enabled"
        } else if name.starts_with("kernel.") && own.host_ipc == Some(true) {
            "not allowed with host IPC enabled"
        } else {
            return None;
        };
        Some(("SysctlForbidden".to_owned(), format!("forbidden sysctl: {name:?} {why}")))
    })
}

/// A name with dots between its parts; where slashes stand between them, a dot belongs to a part, and becomes a slash.
pub fn normalized(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_the_pods_own_and_safe() {
        let no = |name: &str, why: &str| Some(format!("forbidden sysctl: \"{name}\" {why}"));
        for (name, more, want) in [
            ("net.ipv4.tcp_syncookies", json!({}), None),
            ("net/ipv4/tcp_syncookies", json!({}), None),
            ("kernel.shm_rmid_forced", json!({}), None),
            ("kernel.msgmax", json!({}), no("kernel.msgmax", "not allowlisted")),
            ("kernel/core_pattern", json!({}), no("kernel.core_pattern", "not allowlisted")),
            ("net.core.somaxconn", json!({}), no("net.core.somaxconn", "not allowlisted")),
            (
                "net.ipv4.tcp_rmem",
                json!({"hostNetwork": true}),
                no("net.ipv4.tcp_rmem", "not allowed with host Net enabled"),
            ),
            (
                "kernel.shm_rmid_forced",
                json!({"hostIPC": true}),
                no("kernel.shm_rmid_forced", "not allowed with host IPC enabled"),
            ),
        ] {
            let mut pod = json!({"spec": more});
            pod["spec"]["containers"] = json!([]);
            pod["spec"]["securityContext"] = json!({"sysctls": [{"name": name, "value": "1"}]});
            let got = check(&serde_json::from_value(pod).unwrap());
            assert_eq!(got.map(|(_, message)| message), want, "{name}");
        }
        assert_eq!(normalized("net/ipv4/conf/eno2.100/rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(normalized("net.ipv4.conf.eno2/100.rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
    }
}
