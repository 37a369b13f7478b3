//! A cluster of one machine in a namespace of its own, with the real kubectl beside it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::image::Image;
use crate::net::{Network, run};
use crate::wait_for;

/// Ends a hanging test; what is waited for takes a fraction.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Reset and removed when dropped.
pub struct Cluster {
    pub network: Network,
    pub dir: PathBuf,
    cox: PathBuf,
    arguments: Vec<String>,
    home: TempDir,
}

impl Cluster {
    /// Starts `cox up --detach` with further arguments. `cox` is the program's file.
    pub fn up(cox: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("cox-test-").tempdir().context("make a folder for the cluster")?;
        let cluster = Self {
            network: Network::lonely()?,
            dir: home.path().join("data"),
            cox: cox.as_ref().to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            home,
        };
        cluster.start()?;
        Ok(cluster)
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

    /// The real kubectl, as the cluster's administrator.
    pub fn kubectl_command(&self, words: &[&str]) -> Command {
        let mut command = self.network.command("kubectl");
        command.args(words).env("KUBECONFIG", self.dir.join("kubeconfig")).env("HOME", self.home.path());
        command
    }

    /// Runs kubectl; an error carries what it said.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        run(&mut self.kubectl_command(words))
    }

    /// Runs kubectl, which must fail; returns what it said.
    pub fn kubectl_fails(&self, words: &[&str]) -> Result<String> {
        match self.kubectl(words) {
            Ok(out) => bail!("kubectl {words:?} should have failed, and said {out}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// Applies a manifest given as text.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.feed(&["apply", "-f", "-"], manifest)
    }

    /// Runs kubectl with text on its standard input.
    pub fn feed(&self, words: &[&str], text: &str) -> Result<String> {
        let mut command = self.kubectl_command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        child.stdin.take().context("kubectl's standard input")?.write_all(text.as_bytes()).context("feed kubectl")?;
        let output = child.wait_with_output().context("wait for kubectl")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("kubectl {words:?}: {}\n{out}{err}", output.status);
        }
        Ok(out.into_owned())
    }

    /// An object as JSON.
    pub fn get(&self, words: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], words].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {words:?} gave no JSON"))
    }

    /// Waits until an object satisfies a condition.
    pub fn wait(&self, words: &[&str], what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(&format!("{what} ({words:?})"), PATIENCE, || Ok(Some(self.get(words)?).filter(&holds)))
            .with_context(|| self.kubectl(&[&["describe"], words].concat()).unwrap_or_default())
    }

    /// Waits until a Pod is Running and Ready.
    pub fn wait_ready(&self, pod: &str) -> Result<Value> {
        self.wait(&["pod", pod], "the Pod to be Ready", |pod| condition(pod, "Ready") == Some("True"))
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

/// The status of an object's condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}
