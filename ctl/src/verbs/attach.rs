//! `attach`: the streams of a container that runs.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::exec::{check_runs, stream};
use super::pods::{self, containers, items, text};
use super::wait::until;
use crate::Target;
use crate::error::Result;
use crate::flags::Args;
use crate::remote::command::Ended;
use crate::session::{JSON, Query, Session};

pub(super) const FLAGS: &str = "
  -c, --container=   Which container
  -i, --stdin        Pass standard input on
  -t, --tty          A terminal
  -q, --quiet        Without messages
  -f, --filename=,   A file that names the object
      --pod-running-timeout=  Accepted
";

const HINT: &str = "All commands and output from this session will be recorded in container logs, including credentials and \
     sensitive information passed through the command prompt.\nIf you don't see a command prompt, try pressing enter.";

pub(super) async fn run(args: &Args) -> Result<()> {
    let [word] = args.words.as_slice() else {
        bail!("at least 1 argument is required for attach");
    };
    let session = Session::open(args).await?;
    let target = pods::pod_or_owner(&session, word).await?;
    let found = pods::pods_of(&session, &target).await?;
    let pod = found.first().context("there is a pod")?;
    check_runs(pod)?;
    to(&session, args, pod).await
}

async fn to(session: &Session, args: &Args, pod: &Value) -> Result<()> {
    let container = pods::container(pod, args.get("container"), args.on("quiet"))?;
    if args.on("tty") && !wants_tty(pod, &container) {
        eprintln!("error: Unable to use a TTY - container {container} did not allocate one");
    }
    if !args.on("quiet") {
        eprintln!("{HINT}");
    }
    stream(session, args, pod, "attach", Query::new().with("container", container).with("stdout", "true")).await
}

fn wants_tty(pod: &Value, container: &str) -> bool {
    containers(pod).any(|(field, name)| {
        name == container
            && items(pod, &format!("/spec/{field}")).any(|c| text(c, "/name") == name && c["tty"] == Value::Bool(true))
    })
}

/// `run -it`: waits until the Pod runs, then attaches; of one that is over already the log is shown.
pub(super) async fn to_new_pod(session: &Session, args: &Args, target: &Target) -> Result<()> {
    let limit = args.seconds("pod-running-timeout")?.map_or(Duration::from_secs(60), Duration::from_secs_f64);
    let runs = until(session, target, |pod| {
        pod.is_none_or(|pod| matches!(text(pod, "/status/phase"), "Running" | "Succeeded" | "Failed"))
    });
    let pod = tokio::time::timeout(limit, runs).await.ok().context("timed out waiting for the condition")??;
    let pod = pod.context("the pod is gone")?;
    let attached = match text(&pod, "/status/phase") == "Running" {
        true => to(session, args, &pod).await,
        false => Err(anyhow!("the pod is over")),
    };
    if let Err(error) = attached {
        if text(&pod, "/status/phase") == "Running" && error.downcast_ref::<Ended>().is_some() {
            return Err(error);
        }
        // It was over before anybody could attach.
        let bytes = session.bytes(http::Method::GET, &format!("{}/log", target.path()), JSON, None).await?;
        crate::output::put(&String::from_utf8_lossy(&bytes))?;
    }
    exit_code(session, args, target).await
}

/// With --restart=Never the container's exit code is the verb's.
async fn exit_code(session: &Session, args: &Args, target: &Target) -> Result<()> {
    if args.get("restart") != Some("Never") {
        return Ok(());
    }
    let over = until(session, target, |pod| {
        pod.is_none_or(|pod| matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"))
    });
    let pod = over.await?.unwrap_or_default();
    let code = items(&pod, "/status/containerStatuses").find_map(|c| c.pointer("/state/terminated/exitCode")?.as_u64());
    match code {
        None | Some(0) => Ok(()),
        Some(code) => {
            eprintln!("pod {}/{} terminated ({})", target.namespace, target.name, text(&pod, "/status/reason"));
            Err(crate::error::Exit(u8::try_from(code).unwrap_or(1)).into())
        }
    }
}
