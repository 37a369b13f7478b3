//! A cluster of one machine in a namespace of its own, with the real kubectl beside it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::image::Image;
use crate::kubectl::Kubectl;
pub use crate::kubectl::{PATIENCE, condition};
use crate::net::{Network, run};

/// Reset and removed when dropped. What kubectl does is a cluster's method too.
pub struct Cluster {
    pub network: Network,
    kubectl: Kubectl,
    pub dir: PathBuf,
    cox: PathBuf,
    arguments: Vec<String>,
    home: TempDir,
}

impl Cluster {
    /// Starts `cox up --detach` with further arguments. `cox` is the program's file.
    pub fn up(cox: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        let cluster = Self::prepare(cox, arguments)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// Makes what a cluster needs and starts nothing.
    pub fn prepare(cox: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("cox-test-").tempdir().context("make a folder for the cluster")?;
        let (network, dir) = (Network::lonely()?, home.path().join("data"));
        let kubectl =
            Kubectl { entry: network.entry(), kubeconfig: dir.join("kubeconfig"), home: home.path().to_owned() };
        Ok(Self {
            network,
            kubectl,
            dir,
            cox: cox.as_ref().to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            home,
        })
    }

    /// Starts the process (again).
    pub fn start(&self) -> Result<()> {
        let mut command = self.cox(&["up", "--detach"]);
        command.args(["--node-name", "node-1", "--node-ip", &self.network.ip]).args(&self.arguments);
        run(&mut command).map(drop)
    }

    /// A command of the cluster's own: `cox WORDS --data-dir …`.
    pub fn cox(&self, words: &[&str]) -> Command {
        let mut command = self.network.command(&self.cox);
        command.args(words).arg("--data-dir").arg(&self.dir).env("HOME", self.home.path());
        command
    }

    /// One of cox's kubectl-like verbs.
    pub fn verb(&self, words: &[&str]) -> Command {
        let mut command = self.network.command(&self.cox);
        command.args(words).env("KUBECONFIG", self.dir.join("kubeconfig")).env("HOME", self.home.path());
        command
    }

    /// Writes an image and loads it.
    pub fn load(&self, image: &Image) -> Result<()> {
        let file = self.home.path().join("image.tar");
        image.write(&file)?;
        let file = file.to_string_lossy().into_owned();
        run(&mut self.cox(&["image", "load", &file])).map(drop)
    }

    /// A folder for the test's own files, removed with the cluster.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The id of the cluster's process.
    pub fn pid(&self) -> Result<i32> {
        let text = std::fs::read_to_string(self.dir.join("cox.pid")).context("read cox.pid")?;
        text.trim().parse().context("cox.pid holds no number")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log/cox.log")).unwrap_or_default()
    }
}

impl Deref for Cluster {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the cluster's log ends:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        if let Err(error) = run(&mut self.cox(&["reset", "--yes"])) {
            eprintln!("the cluster in {} is left behind: {error:#}", self.dir.display());
        }
    }
}
