//! Which kernel parameters are a sandbox's own, as runc has it: any other would be the machine's, and every Pod's.

use crate::cri::NamespaceOptions;

const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Why a sandbox may not set the parameter, named with dots between its parts.
pub fn refused(name: &str, namespaces: &NamespaceOptions) -> Option<String> {
    if name.split('.').any(|part| part.is_empty() || part.starts_with('/')) {
        return Some(format!("sysctl {name:?} is no name of a kernel parameter"));
    }
    if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return namespaces.host_ipc.then(|| format!("sysctl {name:?} is not allowed in the hosts ipc namespace"));
    }
    if name.starts_with("net.") {
        return namespaces.host_network.then(|| format!("sysctl {name:?} not allowed in host network namespace"));
    }
    if name == "kernel.domainname" && !namespaces.host_network {
        return None;
    }
    Some(format!("sysctl {name:?} is not in a separate kernel namespace"))
}

/// Where the kernel shows it: dots separate parts, a slash in one is a dot of its name.
pub fn path(name: &str) -> std::path::PathBuf {
    let part = |part: &str| part.replace('/', ".");
    std::iter::once("/proc/sys".to_owned()).chain(name.split('.').map(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_parameters_are_not_a_sandboxs() {
        let own = NamespaceOptions::default();
        let hosts = NamespaceOptions { host_network: true, host_ipc: true, ..own.clone() };
        for (name, allowed) in [
            ("net.ipv4.tcp_rmem", true),
            ("kernel.sem", true),
            ("fs.mqueue.msg_max", true),
            ("kernel.domainname", true),
            ("kernel.hostname", false),
            ("kernel.core_pattern", false),
            ("vm.overcommit_memory", false),
            ("fs.file-max", false),
            ("netx", false),
            ("net.//.kernel.panic", false),
            ("net..kernel", false),
        ] {
            assert_eq!(refused(name, &own).is_none(), allowed, "{name}");
            assert!(refused(name, &hosts).is_some(), "{name}");
        }
        assert_eq!(
            path("net.ipv4.conf.eno2/100.rp_filter"),
            std::path::Path::new("/proc/sys/net/ipv4/conf/eno2.100/rp_filter")
        );
    }
}
