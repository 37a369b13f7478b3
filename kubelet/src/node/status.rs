//! The node's status: capacity, addresses, system information, conditions, images.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::agent::Agent;

const VERSION: &str = "v1.36.2+cox1";
/// How many images a node's status lists, the largest first.
const MAX_IMAGES: usize = 50;

type List = BTreeMap<String, Quantity>;

pub(super) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The status now; conditions keep their times from `old` where they are the same.
pub(super) async fn status(agent: &Agent, old: Option<&NodeStatus>, now: &Time) -> NodeStatus {
    let network = agent.runtime.network_ready().await;
    let (kind, version) = agent.runtime.version();
    let machine = &agent.machine;
    NodeStatus {
        capacity: Some(capacity(agent)),
        allocatable: Some(allocatable(agent)),
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: agent.host_ip() },
            NodeAddress { type_: "Hostname".to_owned(), address: agent.config.node_name.clone() },
        ]),
        conditions: Some(conditions(agent, network, old, now)),
        daemon_endpoints: agent.config.listen.map(|listen| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(listen.port()) }),
        }),
        images: Some(images(agent).await),
        node_info: Some(NodeSystemInfo {
            architecture: arch().to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("{kind}://{version}"),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            swap: None,
            system_uuid: machine.system_uuid.clone(),
        }),
        ..NodeStatus::default()
    }
}

fn kib(bytes: i64) -> Quantity {
    Quantity(format!("{}Ki", bytes / 1024))
}

fn capacity(agent: &Agent) -> List {
    let machine = &agent.machine;
    let mut list: List = [
        ("cpu".to_owned(), Quantity(machine.cpus.to_string())),
        ("memory".to_owned(), kib(machine.memory_bytes)),
        ("ephemeral-storage".to_owned(), kib(machine.storage_bytes)),
        ("pods".to_owned(), Quantity(agent.config.max_pods.to_string())),
    ]
    .into();
    list.extend(hugepages(agent));
    list
}

fn hugepages(agent: &Agent) -> impl Iterator<Item = (String, Quantity)> {
    let sizes = agent.machine.hugepages.iter();
    sizes.map(|(size, bytes)| {
        let amount = if *bytes == 0 { "0".to_owned() } else { format!("{}Mi", bytes >> 20) };
        (format!("hugepages-{size}"), Quantity(amount))
    })
}

fn allocatable(agent: &Agent) -> List {
    let own = agent.allocatable();
    let cpu =
        if own.cpu_millis % 1000 == 0 { (own.cpu_millis / 1000).to_string() } else { format!("{}m", own.cpu_millis) };
    let mut list: List = [
        ("cpu".to_owned(), Quantity(cpu)),
        ("memory".to_owned(), kib(own.memory_bytes)),
        ("ephemeral-storage".to_owned(), Quantity(own.ephemeral_bytes.to_string())),
        ("pods".to_owned(), Quantity(agent.config.max_pods.to_string())),
    ]
    .into();
    list.extend(hugepages(agent));
    list
}

async fn images(agent: &Agent) -> Vec<ContainerImage> {
    let mut list = match agent.runtime.list_images().await {
        Ok(list) => list,
        Err(error) => {
            tracing::warn!(%error, "listing images for the node's status failed");
            Vec::new()
        }
    };
    list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    list.truncate(MAX_IMAGES);
    list.into_iter()
        .map(|image| ContainerImage {
            names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

/// Whether a condition holds, why, and in which words: (holds, reason, message).
type Verdict = (bool, &'static str, String);

fn conditions(agent: &Agent, network: Result<(), String>, old: Option<&NodeStatus>, now: &Time) -> Vec<NodeCondition> {
    let pick = |bad: bool, yes: (&'static str, &str), no: (&'static str, &str)| -> Verdict {
        let (reason, message) = if bad { yes } else { no };
        (bad, reason, message.to_owned())
    };
    let short = agent.pressure.look(&agent.config.root_dir);
    let ready: Verdict = match network {
        Ok(()) if agent.config.shutdown.is_asked() => (false, "KubeletNotReady", "node is shutting down".to_owned()),
        Ok(()) => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Err(why) => (
            false,
            "KubeletNotReady",
            format!(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{why}"
            ),
        ),
    };
    let list = [
        (
            "MemoryPressure",
            pick(
                short.memory,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            "DiskPressure",
            pick(
                short.disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            pick(
                short.pids,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        ("Ready", ready),
    ];
    list.into_iter().map(|(name, verdict)| condition(name, verdict, old, now)).collect()
}

fn condition(name: &str, (holds, reason, message): Verdict, old: Option<&NodeStatus>, now: &Time) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let before = old.and_then(|s| s.conditions.as_ref()).and_then(|c| c.iter().find(|c| c.type_ == name));
    let same = before.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    NodeCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(same.unwrap_or_else(|| now.clone())),
    }
}
