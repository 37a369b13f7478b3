//! Reading a Pod: identity, kinds of containers, restart rules, defaults. Pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// A container always gets this long to end, unless its grace period is longer.
pub const MINIMUM_GRACE_SECONDS: i64 = 2;
/// Annotation that says where a Pod came from: `api`, or `file` for a static one.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// Which list of the spec a container stands in, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    Init(usize),
    Main(usize),
    Ephemeral(usize),
}

static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or("")
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("")
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or("")
}

/// `name_namespace(uid)`, as upstream writes a Pod into messages.
pub fn format(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A Pod from a file, not from the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// Ephemeral containers as plain ones: the two types have the same fields but for the target's name.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let list = spec(pod).ephemeral_containers.as_deref().unwrap_or_default();
    list.iter().map(ephemeral_to_container).collect()
}

fn ephemeral_to_container(e: &k8s_openapi::api::core::v1::EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// The container of a slot.
pub fn container(pod: &Pod, slot: Slot) -> Option<Container> {
    match slot {
        Slot::Init(i) => init_containers(pod).get(i).cloned(),
        Slot::Main(i) => containers(pod).get(i).cloned(),
        Slot::Ephemeral(i) => ephemeral_containers(pod).get(i).cloned(),
    }
}

pub fn slot_of(pod: &Pod, name: &str) -> Option<Slot> {
    let find = |list: &[Container]| list.iter().position(|c| c.name == name);
    find(containers(pod))
        .map(Slot::Main)
        .or_else(|| find(init_containers(pod)).map(Slot::Init))
        .or_else(|| find(&ephemeral_containers(pod)).map(Slot::Ephemeral))
}

/// The path that stands in `involvedObject.fieldPath` of a container's events.
pub fn field_path(slot: Slot, name: &str) -> String {
    let list = match slot {
        Slot::Init(_) => "initContainers",
        Slot::Main(_) => "containers",
        Slot::Ephemeral(_) => "ephemeralContainers",
    };
    format!("spec.{list}{{{name}}}")
}

/// An init container with restart policy Always: it starts in order and then runs beside the main ones.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// Whether a container that ended with this code is started again: its rules first, then its policy, then the Pod's.
pub fn should_restart(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_ref().is_some_and(|v| v.contains(&exit_code));
        let matched = if codes.operator == "NotIn" { !listed } else { listed };
        if matched && rule.action == "Restart" {
            return true;
        }
    }
    match container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod)) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

pub fn termination_message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().unwrap_or("/dev/termination-log")
}

/// The Pod's grace period at deletion, or by its spec, seconds.
pub fn grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(MINIMUM_GRACE_SECONDS)
}

/// `Always` when the tag is `latest` or missing, as the API defaults it; static Pods come without defaults.
pub fn pull_policy(container: &Container) -> &str {
    if let Some(policy) = container.image_pull_policy.as_deref().filter(|p| !p.is_empty()) {
        return policy;
    }
    let image = container.image.as_deref().unwrap_or("");
    let last = image.rsplit('/').next().unwrap_or("");
    let untagged = !last.contains(':') && !image.contains('@');
    if untagged || last.ends_with(":latest") { "Always" } else { "IfNotPresent" }
}

/// The terminal phases, from which no Pod returns.
pub fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Failed" | "Succeeded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
        ] {
            let c = Container { image: Some(image.into()), ..Container::default() };
            assert_eq!(pull_policy(&c), want, "{image}");
        }
    }

    #[test]
    fn restart_rules_come_before_policies() {
        use k8s_openapi::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes};
        let pod = Pod {
            spec: Some(PodSpec { restart_policy: Some("Never".into()), ..PodSpec::default() }),
            ..Pod::default()
        };
        let plain = Container::default();
        assert!(!should_restart(&pod, &plain, 1));
        let on_failure = Container { restart_policy: Some("OnFailure".into()), ..Container::default() };
        assert!(should_restart(&pod, &on_failure, 1));
        assert!(!should_restart(&pod, &on_failure, 0));
        let rule = ContainerRestartRule {
            action: "Restart".into(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes { operator: "In".into(), values: Some(vec![42]) }),
        };
        let ruled = Container {
            restart_policy: Some("Never".into()),
            restart_policy_rules: Some(vec![rule]),
            ..Container::default()
        };
        assert!(should_restart(&pod, &ruled, 42));
        assert!(!should_restart(&pod, &ruled, 41));
    }
}
