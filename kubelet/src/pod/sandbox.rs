//! Making a Pod's sandbox: its cgroup, directories, name, resolver and ports.

use std::fs;

use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_runtime::cri::{NamespaceOptions, PodSandboxConfig, PortMapping};

use crate::agent::Agent;
use crate::events::Type;
use crate::node::sysctl;
use crate::{dns, labels, qos, spec};

/// Everything that has to be before containers: cgroup and directories, then the sandbox. Its id.
pub(super) async fn create(agent: &Agent, pod: &Pod, attempt: u32, old: &[String]) -> Result<String, String> {
    let config = config(agent, pod, attempt)?;
    prepare(agent, pod, &config.log_directory).await?;
    for id in old {
        agent.runtime.stop_pod_sandbox(id).await.map_err(|e| format!("stopping the old sandbox {id}: {e}"))?;
    }
    agent.runtime.run_pod_sandbox(config).await.map_err(|e| e.to_string())
}

async fn prepare(agent: &Agent, pod: &Pod, log_directory: &str) -> Result<(), String> {
    let (cgroups, name) = (agent.cgroups.clone(), qos::pod_cgroup(&agent.config.cgroup_root, pod));
    let resources = qos::pod_resources(pod);
    let dirs = [agent.config.pod_dir(spec::uid(pod)), log_directory.into()];
    let work = move || -> Result<(), String> {
        for dir in dirs {
            fs::create_dir_all(&dir)
                .map_err(|e| format!("error making pod data directories: {}: {e}", dir.display()))?;
        }
        cgroups.ensure(&name, &resources).map_err(|e| format!("unable to ensure pod container exists: {e}"))
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("preparing was cut short: {e}"))?
}

fn config(agent: &Agent, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
    let own = spec::spec(pod);
    let settings = &agent.config;
    let resolv = fs::read_to_string(&settings.resolv_conf).unwrap_or_default();
    let host_dns = dns::parse_resolv_conf(&resolv);
    let (resolver, warnings) = dns::for_pod(pod, &host_dns, &settings.cluster_dns, &settings.cluster_domain);
    for warning in warnings {
        agent.recorder.pod(pod, Type::Warning, "DNSConfigForming", warning);
    }
    let host_network = spec::host_network(pod);
    let hostname = if host_network {
        String::new()
    } else {
        let (name, domain) = dns::hostname(pod, &settings.cluster_domain)?;
        dns::kernel_hostname(pod, &name, &domain)?
    };
    let logs = settings.pod_logs(spec::namespace(pod), spec::name(pod), spec::uid(pod));
    let sysctls = own.security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    Ok(PodSandboxConfig {
        name: spec::name(pod).to_owned(),
        namespace: spec::namespace(pod).to_owned(),
        uid: spec::uid(pod).to_owned(),
        attempt,
        hostname,
        log_directory: logs.to_string_lossy().into_owned(),
        dns: resolver,
        labels: labels::sandbox_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        cgroup_parent: qos::pod_cgroup(&settings.cgroup_root, pod),
        namespaces: NamespaceOptions {
            host_network,
            host_pid: own.host_pid == Some(true),
            host_ipc: own.host_ipc == Some(true),
            pod_pid: own.share_process_namespace == Some(true),
        },
        port_mappings: if host_network { Vec::new() } else { ports(pod) },
        sysctls: sysctls.into_iter().flatten().map(|s| (sysctl::normalized(&s.name), s.value.clone())).collect(),
    })
}

fn ports(pod: &Pod) -> Vec<PortMapping> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let all: Vec<&Container> = spec::containers(pod).iter().chain(sidecars).collect();
    let mapped = all.iter().flat_map(|c| c.ports.iter().flatten()).filter_map(|p| {
        let host_port = u16::try_from(p.host_port?).ok().filter(|p| *p > 0)?;
        Some(PortMapping {
            protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            container_port: u16::try_from(p.container_port).ok()?,
            host_port,
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
    });
    mapped.collect()
}
