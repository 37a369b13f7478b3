//! The real kubectl, as a cluster's administrator.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::net::run;
use crate::{tools, wait_for};

/// Ends a hanging test; what is waited for takes a fraction.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where kubectl is run and as whom.
#[derive(Clone, Debug)]
pub struct Kubectl {
    /// The command that enters the place: `nsenter … --`.
    pub entry: Vec<String>,
    pub kubeconfig: PathBuf,
    pub home: PathBuf,
}

impl Kubectl {
    /// The command itself.
    pub fn kubectl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.entry[0]);
        command.args(&self.entry[1..]).arg(tools::program("kubectl")).args(words);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
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
}

/// The status of an object's condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}
