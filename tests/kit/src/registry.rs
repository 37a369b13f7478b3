//! A real registry (Debian's docker-registry) inside a test's network namespace.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::image::Image;
use crate::net::{Network, run};
use crate::wait_for;

/// Listens on 127.0.0.1:5000 of the namespace; ended when dropped.
pub struct Registry {
    process: Child,
}

pub const ADDRESS: &str = "127.0.0.1:5000";

impl Registry {
    /// Starts a registry that keeps its data in `dir`.
    pub fn start(network: &Network, dir: &Path) -> Result<Self> {
        let config = dir.join("registry.yml");
        let storage = dir.join("registry");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {ADDRESS}\n",
            storage.display()
        );
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut command = network.command("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start docker-registry")?;
        let registry = Self { process };
        wait_for("the registry to answer", Duration::from_secs(30), || {
            let mut probe = network.command("curl");
            run(probe.args(["--silent", "--fail", &format!("http://{ADDRESS}/v2/")])).map(Some)
        })?;
        Ok(registry)
    }

    /// Pushes an image under a name without a registry, `library/nginx:latest`.
    pub fn push(&self, network: &Network, image: &Image, name: &str, dir: &Path) -> Result<()> {
        let file = dir.join("push.tar");
        image.write(&file)?;
        let mut command: Command = network.command("skopeo");
        command.args(["copy", "--insecure-policy", "--dest-tls-verify=false"]);
        command.arg(format!("docker-archive:{}", file.display())).arg(format!("docker://{ADDRESS}/{name}"));
        run(&mut command).map(drop)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // The process may have ended by itself; either way it is gone after this.
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("end the registry: {error}");
        }
    }
}
