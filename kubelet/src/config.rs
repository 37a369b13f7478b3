//! What a kubelet is told when it starts; upstream's KubeletConfiguration, as far as it is used.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Taint;

use crate::shutdown::Shutdown;

/// Certificate and key of the kubelet's server, PEM files.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How one node agent is set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The address under which the node is reached; `InternalIP` in its status.
    pub node_ip: IpAddr,
    /// `pods/UID/…` lie below; upstream's `--root-dir`.
    pub root_dir: PathBuf,
    /// `NAMESPACE_NAME_UID/CONTAINER/N.log` lie below.
    pub pod_log_dir: PathBuf,
    /// Directory with manifests of static Pods.
    pub static_pod_dir: Option<PathBuf>,
    /// Servers that Pods of DNS policy ClusterFirst ask. Empty: they get the node's.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's resolver configuration.
    pub resolv_conf: PathBuf,
    /// Where the kubelet's HTTPS server listens; `None` is no server.
    pub listen: Option<SocketAddr>,
    /// `None`: a self-signed certificate made at start.
    pub serving_certificate: Option<ServingCertificate>,
    /// CA whose client certificates name a user.
    pub client_ca: Option<PathBuf>,
    /// Users (common names) that may do everything without a SubjectAccessReview: the API server's kubelet client.
    pub trusted_users: Vec<String>,
    /// Parent of `kubepods` in every cgroup hierarchy, `/cox-1a2b3c4d`; `/` is the root.
    pub cgroup_root: String,
    pub max_pods: u32,
    pub node_labels: BTreeMap<String, String>,
    /// Taints of the Node when it registers.
    pub register_taints: Vec<Taint>,
    /// Kept from Pods: allocatable is capacity less this, in bytes and thousandths of a CPU.
    pub reserved_memory_bytes: u64,
    pub reserved_cpu_millis: u64,
    /// A container's log is rotated when it is longer, in bytes.
    pub container_log_max_size: u64,
    /// How many files of a container's log are kept, the current one included.
    pub container_log_max_files: usize,
    /// Seconds that a node's Lease lasts; it is renewed at a quarter of it.
    pub lease_duration_seconds: i32,
    /// Seconds between reports of an unchanged node status.
    pub node_status_report_seconds: u64,
    /// By which the node's Pods are told to end.
    pub shutdown: Shutdown,
}

impl Config {
    /// Upstream's defaults for a node with this name, address and data directory.
    pub fn new(node_name: &str, node_ip: IpAddr, root_dir: &Path) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_ip,
            root_dir: root_dir.to_owned(),
            pod_log_dir: root_dir.join("log/pods"),
            static_pod_dir: None,
            cluster_dns: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10))],
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 10250)),
            serving_certificate: None,
            client_ca: None,
            trusted_users: vec!["kube-apiserver-kubelet-client".to_owned()],
            cgroup_root: "/".to_owned(),
            max_pods: 110,
            node_labels: BTreeMap::new(),
            register_taints: Vec::new(),
            reserved_memory_bytes: 100 << 20,
            reserved_cpu_millis: 0,
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            lease_duration_seconds: 40,
            node_status_report_seconds: 300,
            shutdown: Shutdown::default(),
        }
    }

    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    /// Where the links to containers' logs lie, beside the Pods' directories.
    pub fn container_links(&self) -> Option<PathBuf> {
        Some(self.pod_log_dir.parent()?.join("containers"))
    }

    /// The log directory of a Pod.
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_log_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
