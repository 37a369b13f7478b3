//! What the runtime core is told when it opens.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::images::Mirror;

#[derive(Clone, Debug)]
pub struct Config {
    /// DIR/runtime: images, sandboxes and containers.
    pub root: PathBuf,
    /// DIR/run: the shims' sockets.
    pub run_directory: PathBuf,
    /// The cluster's short id, 8 hexadecimal digits: begins the names of links.
    pub cluster_id: String,
    /// The control group that everything of this cluster is below, `cox-ID`.
    pub cgroup_root: String,
    pub mirrors: Vec<Mirror>,
    /// Program and first arguments that run [`crate::shim::main`]: this binary itself.
    pub shim: Vec<OsString>,
    /// Of the Pods' links.
    pub mtu: u32,
    /// Nameservers and search domains for Pods whose sandbox has none of its own.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// The usual places below a cluster's data directory.
    pub fn new(data_directory: &std::path::Path, cluster_id: &str) -> Config {
        Config {
            root: data_directory.join("runtime"),
            run_directory: data_directory.join("run"),
            cluster_id: cluster_id.to_owned(),
            cgroup_root: format!("cox-{cluster_id}"),
            mirrors: Vec::new(),
            shim: vec!["/proc/self/exe".into(), "shim".into()],
            mtu: 1500,
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    pub(crate) fn socket_directory(&self) -> PathBuf {
        self.run_directory.join("shim")
    }

    pub(crate) fn sandbox_directory(&self, id: &str) -> PathBuf {
        self.root.join("sandboxes").join(id)
    }

    pub(crate) fn container_directory(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }
}
