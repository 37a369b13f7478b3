//! Which capabilities a container's process has.

use serde_json::{Value, json};

use crate::cri::SecurityContext;

/// containerd's default set.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All that Linux has, by number.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The OCI object: no inheritable ones, so that no file in the image raises them (CVE-2022-24769).
pub fn of(security: &SecurityContext) -> Result<Value, String> {
    let set = bounding(security, node_bounding())?;
    let names: Vec<String> = set.into_iter().map(|name| format!("CAP_{name}")).collect();
    Ok(json!({ "bounding": names, "effective": names, "permitted": names }))
}

/// Added to and dropped from the default; `ALL` stands for all, and names may carry `CAP_`. What the node itself lacks
/// cannot be given: privileged containers get the rest.
pub fn bounding(security: &SecurityContext, node: u64) -> Result<Vec<&'static str>, String> {
    let add = known(&security.add_capabilities)?;
    let drop = known(&security.drop_capabilities)?;
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let everything = security.privileged || all(&security.add_capabilities);
    let nothing = !security.privileged && all(&security.drop_capabilities);
    let has = |name: &&str| {
        if add.contains(name) {
            return true;
        }
        let base = everything || (!nothing && DEFAULT.contains(name));
        base && (security.privileged || !drop.contains(name))
    };
    let given = ALL.iter().enumerate().filter(|(number, _)| node & (1 << number) != 0);
    Ok(given.map(|(_, name)| *name).filter(has).collect())
}

fn known(names: &[String]) -> Result<Vec<&'static str>, String> {
    let mut found = Vec::new();
    for name in names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let known = ALL.iter().find(|known| **known == bare);
        found.push(*known.ok_or_else(|| format!("unknown capability {name:?}"))?);
    }
    Ok(found)
}

/// The bounding set of this process as a bit mask; everything when the kernel does not say.
fn node_bounding() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn set(add: &[&str], drop: &[&str], privileged: bool) -> Vec<&'static str> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = SecurityContext {
            add_capabilities: own(add),
            drop_capabilities: own(drop),
            privileged,
            ..SecurityContext::default()
        };
        bounding(&security, u64::MAX).unwrap()
    }

    #[test]
    fn sets_are_added_and_dropped() {
        assert_eq!(set(&[], &[], false).len(), 14);
        assert!(set(&["CAP_NET_ADMIN"], &[], false).contains(&"NET_ADMIN"));
        assert!(!set(&[], &["kill"], false).contains(&"KILL"));
        assert_eq!(set(&["NET_BIND_SERVICE"], &["ALL"], false), ["NET_BIND_SERVICE"]);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"], false).len(), 40);
        assert_eq!(set(&[], &["ALL"], true).len(), 41);
    }

    #[test]
    fn unknown_names_are_refused_and_missing_ones_left_out() {
        let security = SecurityContext { add_capabilities: vec!["FLY".into()], ..SecurityContext::default() };
        assert_eq!(bounding(&security, u64::MAX).unwrap_err(), "unknown capability \"FLY\"");
        let security = SecurityContext { privileged: true, ..SecurityContext::default() };
        assert_eq!(bounding(&security, 1).unwrap(), ["CHOWN"]);
    }
}
