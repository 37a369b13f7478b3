//! A container's security context: its own over the Pod's, as CRI takes it; and the runAsNonRoot check. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use kubelet_runtime::cri;

use crate::spec;

/// Who the image says it runs as.
#[derive(Clone, Debug, Default)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub username: String,
}

/// What the container may do. `seccomp_root` is where `localhostProfile` paths start.
pub fn context(pod: &Pod, container: &Container, user: &ImageUser, seccomp_root: &Path) -> cri::SecurityContext {
    let own = container.security_context.as_ref();
    let whole = spec::spec(pod).security_context.as_ref();
    let privileged = own.and_then(|c| c.privileged) == Some(true);
    let unmasked = privileged || own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked");
    let capabilities = own.and_then(|c| c.capabilities.as_ref());
    let run_as_user = own.and_then(|c| c.run_as_user).or(whole.and_then(|c| c.run_as_user));
    let mut groups: Vec<i64> = whole.and_then(|c| c.fs_group).into_iter().collect();
    groups.extend(whole.and_then(|c| c.supplemental_groups.as_ref()).into_iter().flatten());
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|&p| p.to_owned()).collect() };
    cri::SecurityContext {
        privileged,
        add_capabilities: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
        run_as_user: run_as_user.or(user.uid),
        run_as_group: own.and_then(|c| c.run_as_group).or(whole.and_then(|c| c.run_as_group)),
        run_as_username: if run_as_user.is_none() && user.uid.is_none() {
            user.username.clone()
        } else {
            String::new()
        },
        supplemental_groups: groups,
        readonly_rootfs: own.and_then(|c| c.read_only_root_filesystem) == Some(true),
        no_new_privs: own.and_then(|c| c.allow_privilege_escalation) == Some(false),
        masked_paths: paths(&cri::MASKED_PATHS),
        readonly_paths: paths(&cri::READONLY_PATHS),
        seccomp: seccomp(
            own.and_then(|c| c.seccomp_profile.as_ref()).or(whole.and_then(|c| c.seccomp_profile.as_ref())),
            privileged,
            seccomp_root,
        ),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, root: &Path) -> cri::SeccompProfile {
    let Some(profile) = profile.filter(|_| !privileged) else { return cri::SeccompProfile::Unconfined };
    match profile.type_.as_str() {
        "RuntimeDefault" => cri::SeccompProfile::RuntimeDefault,
        "Localhost" => {
            let path = root.join(profile.localhost_profile.as_deref().unwrap_or(""));
            cri::SeccompProfile::Localhost(path.to_string_lossy().into_owned())
        }
        _ => cri::SeccompProfile::Unconfined,
    }
}

/// `runAsNonRoot`: upstream's error when the container would run as root, or it cannot be told.
pub fn verify_non_root(pod: &Pod, container: &Container, user: &ImageUser) -> Result<(), String> {
    let own = container.security_context.as_ref();
    let whole = spec::spec(pod).security_context.as_ref();
    let required = own.and_then(|c| c.run_as_non_root).or(whole.and_then(|c| c.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let about = format!("(pod: \"{}\", container: {})", spec::format(pod), container.name);
    match own.and_then(|c| c.run_as_user).or(whole.and_then(|c| c.run_as_user)) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {about}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match user.uid {
        Some(0) => Err(format!("container has runAsNonRoot and image will run as root {about}")),
        None if !user.username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {about}",
            user.username
        )),
        None => Err(format!("container has runAsNonRoot and image will run as root {about}")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn pod(whole: serde_json::Value, own: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": whole, "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap()
    }

    #[test]
    fn own_over_pod() {
        let pod = pod(
            json!({"runAsUser": 1, "fsGroup": 7, "supplementalGroups": [8],
                "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 2, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
        );
        let got = context(&pod, &spec::containers(&pod)[0], &ImageUser::default(), Path::new("/s"));
        assert_eq!((got.run_as_user, got.no_new_privs, got.supplemental_groups), (Some(2), true, vec![7, 8]));
        assert_eq!((got.seccomp, got.drop_capabilities), (cri::SeccompProfile::RuntimeDefault, vec!["ALL".to_owned()]));
        assert_eq!(got.masked_paths.len(), cri::MASKED_PATHS.len());
    }

    #[test]
    fn non_root_is_checked() {
        let user = |uid, name: &str| ImageUser { uid, username: name.to_owned() };
        let check = |whole, own, user: ImageUser| {
            let pod = pod(whole, own);
            verify_non_root(&pod, &spec::containers(&pod)[0], &user)
        };
        assert!(check(json!({}), json!({}), user(Some(0), "")).is_ok());
        assert!(check(json!({"runAsNonRoot": true}), json!({}), user(Some(5), "")).is_ok());
        let root = check(json!({"runAsNonRoot": true}), json!({}), user(Some(0), "")).unwrap_err();
        let want = "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)";
        assert_eq!(root, want);
        let named = check(json!({}), json!({"runAsNonRoot": true}), user(None, "www")).unwrap_err();
        assert!(named.contains("image has non-numeric user (www), cannot verify user is non-root"));
        assert!(check(json!({"runAsNonRoot": true}), json!({"runAsUser": 0}), user(Some(5), "")).is_err());
    }
}
