//! A cluster of one machine in a namespace of its own, with the real kubectl beside it.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::image::Image;
use crate::kubectl::Kubectl;
pub use crate::kubectl::{PATIENCE, condition};
use crate::net::{Network, run};
use crate::wait_for;

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
        let dir = home.path().join("data");
        Self::prepare_in(home, dir, cox.as_ref(), arguments)
    }

    /// As [`Cluster::up`], with another data directory, on a disk of its own for one.
    pub fn up_at(dir: &Path, cox: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("cox-test-").tempdir().context("make a folder for the cluster")?;
        let cluster = Self::prepare_in(home, dir.to_owned(), cox.as_ref(), arguments)?;
        cluster.start()?;
        Ok(cluster)
    }

    fn prepare_in(home: TempDir, dir: PathBuf, cox: &Path, arguments: &[&str]) -> Result<Self> {
        let network = Network::lonely()?;
        let kubectl =
            Kubectl { entry: network.entry(), kubeconfig: dir.join("kubeconfig"), home: home.path().to_owned() };
        Ok(Self {
            network,
            kubectl,
            dir,
            cox: cox.to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            home,
        })
    }

    /// Starts the process (again) and returns what it said when the node is Ready.
    pub fn start(&self) -> Result<String> {
        let mut command = self.cox(&["up", "--detach"]);
        command.args(["--node-name", "node-1", "--node-ip", &self.network.ip]).args(&self.arguments);
        run(&mut command)
    }

    /// Starts the process in the foreground, this one's child. What it says goes to the log.
    pub fn foreground(&self) -> Result<Child> {
        let log =
            File::options().create(true).append(true).open(self.dir.join("log/cox.log")).context("open the log")?;
        let mut command = self.cox(&["up"]);
        command.args(["--node-name", "node-1", "--node-ip", &self.network.ip]).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);
        command.spawn().context("start cox up")
    }

    /// Kills the process as a crash would, and returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        let pid = self.pid()?;
        run(Command::new("kill").args(["-9", &pid.to_string()]))?;
        // One that is no child of the test is reaped by the system. Its memory goes first, then its files: only when
        // the lock is free does the next process, or `cox down`, find nobody.
        let lock = File::open(self.dir.join("cox.lock")).context("open the directory's lock")?;
        wait_for("the killed process to end", PATIENCE, || {
            let ended = !Path::new(&format!("/proc/{pid}/exe")).exists() && lock.try_lock().is_ok();
            Ok(ended.then_some(()))
        })
    }

    /// The short id that everything of the cluster in the kernel carries: the data directory's path, digested.
    pub fn id(&self) -> Result<String> {
        let dir = std::fs::canonicalize(&self.dir).context("resolve the data directory")?;
        let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        Ok(digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }

    /// A command of the cluster's own: `cox WORDS --data-dir …`.
    pub fn cox(&self, words: &[&str]) -> Command {
        let mut command = self.network.command(&self.cox);
        command.args(words).arg("--data-dir").arg(&self.dir).env("HOME", self.home.path());
        command
    }

    /// The program's file.
    pub fn program(&self) -> &Path {
        &self.cox
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
        let Ok(text) = std::fs::read_to_string(self.dir.join("cox.pid")) else {
            // On a full disk there is no file; `cox status` knows.
            let status = run(&mut self.cox(&["status"]))?;
            let said =
                status.lines().find_map(|line| line.strip_prefix("process")?.split(',').next()?.trim().parse().ok());
            return said.context("cox status names no process");
        };
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
            for words in [&["get", "pods", "-A", "-o", "wide"][..], &["get", "events", "--sort-by=.lastTimestamp"]] {
                // Nobody may answer any more; that was seen by the test.
                let shown = self.kubectl(&[words, &["--request-timeout=5s"]].concat());
                eprintln!("{}", shown.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
        if let Err(error) = run(&mut self.cox(&["reset", "--yes"])) {
            eprintln!("the cluster in {} is left behind: {error:#}", self.dir.display());
        }
    }
}
