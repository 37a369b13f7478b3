//! System call filters: the runtime's default, which is containerd's, or a profile on the node.

use serde_json::{Value, json};

use super::seccomp_calls::{ALLOWED, BY_CAPABILITY};
use crate::cri::{SeccompProfile, SecurityContext};

/// Longest profile that is read from the node.
const PROFILE_LIMIT: u64 = 4 << 20;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Namespaces that clone may not make without CAP_SYS_ADMIN: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
/// Values of personality(2) that are allowed: Linux, its 32-bit form, and either as UNAME26; and the question itself.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF];
const AF_VSOCK: u64 = 40;

/// The OCI object; `None` leaves system calls alone.
pub fn profile(security: &SecurityContext) -> Result<Option<Value>, String> {
    match &security.seccomp {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => default_profile(security).map(Some),
        SeccompProfile::Localhost(path) => {
            let named = |error: String| format!("read seccomp profile {path}: {error}");
            let length = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
            if length > PROFILE_LIMIT {
                return Err(named("it is too large".into()));
            }
            let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
            serde_json::from_slice(&text).map(Some).map_err(|error| named(error.to_string()))
        }
    }
}

/// What containerd's default becomes for these capabilities.
fn default_profile(security: &SecurityContext) -> Result<Value, String> {
    let capabilities = super::capabilities::bounding(security, u64::MAX)?;
    let mut rules = vec![
        allow(&ALLOWED),
        json!({
            "names": ["socket"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE" }],
        }),
    ];
    rules.extend(PERSONALITIES.map(|value| {
        json!({
            "names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }],
        })
    }));
    for (capability, names) in BY_CAPABILITY.iter().filter(|(capability, _)| capabilities.contains(capability)) {
        debug_assert!(!capability.is_empty());
        rules.push(allow(names));
    }
    if !capabilities.contains(&"SYS_ADMIN") {
        rules.push(json!({
            "names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }],
        }));
        // The C library falls back to clone, of which the flags can be seen.
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    }))
}

fn allow(names: &[&str]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW" })
}

fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_default_is_a_valid_filter_that_depends_on_capabilities() {
        let plain = SecurityContext { seccomp: SeccompProfile::RuntimeDefault, ..SecurityContext::default() };
        let text = profile(&plain).unwrap().unwrap().to_string();
        assert!(text.contains("\"openat2\"") && text.contains("SCMP_CMP_MASKED_EQ") && !text.contains("\"bpf\""));
        serde_json::from_str::<libcontainer::oci_spec::runtime::LinuxSeccomp>(&text).unwrap();
        let admin = SecurityContext { add_capabilities: vec!["SYS_ADMIN".into()], ..plain };
        let text = profile(&admin).unwrap().unwrap().to_string();
        assert!(text.contains("\"mount\"") && !text.contains("SCMP_CMP_MASKED_EQ"));
    }

    #[test]
    fn calls_are_named_once() {
        let mut seen = std::collections::BTreeSet::new();
        assert_eq!(ALLOWED.iter().find(|name| !seen.insert(**name)), None);
    }
}
