//! `drain`: cordons a node and evicts its Pods.

use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::pods::{items, pod_resource, text};
use super::taint::{node_words, set_one};
use super::wait::until_gone;
use crate::Target;
use crate::error::{Exit, Result, has_reason};
use crate::flags::Args;
use crate::output::{DryRun, line};
use crate::session::{Query, Session};
use crate::target;

pub(super) const FLAGS: &str = "
      --ignore-daemonsets      Leave the Pods of DaemonSets where they are
      --delete-emptydir-data   Go on though Pods have emptyDir volumes, which are lost
      --delete-local-data      The same
      --force                  Go on though Pods have no controller and will not come back
      --grace-period=          Seconds given to each Pod; its own if negative
      --timeout=               How long to try; 0 is as long as it takes
      --pod-selector=          Only Pods with these labels
      --disable-eviction       Delete, which budgets do not hold up
      --skip-wait-for-delete-timeout=  Do not wait for Pods that are being deleted for longer than this many seconds
      --chunk-size=            Accepted
";

/// After an eviction that a budget does not allow now.
const AGAIN: Duration = Duration::from_secs(5);
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) async fn run(args: &Args) -> Result<()> {
    if args.words.is_empty() && !args.has("selector") {
        bail!("USAGE: drain NODE [flags]\nSee 'cox drain -h' for help and examples");
    }
    let session = Session::open(args).await?;
    let nodes = target::targets(&session, args, &node_words(args)).await?;
    for node in &nodes {
        set_one(&session, args, node, true).await?;
    }
    let mut pending: Vec<(&str, String)> = Vec::new();
    for node in &nodes {
        if let Err(error) = one(&session, args, node).await {
            eprintln!("error: unable to drain node {:?} due to error: {error:#}, continuing command...", node.name);
            let why = match error.downcast_ref::<Refused>() {
                Some(Refused(reasons)) => reasons.join("\n"),
                None => format!("{error:#}"),
            };
            pending.push((node.name.as_str(), why));
        }
    }
    if pending.is_empty() {
        return Ok(());
    }
    eprintln!("There are pending nodes to be drained:");
    pending.iter().for_each(|(name, _)| eprintln!(" {name}"));
    pending.iter().for_each(|(_, why)| eprintln!("{why}"));
    Err(Exit(1).into())
}

/// Pods that may not be deleted as the flags are, by reason.
#[derive(Debug)]
struct Refused(Vec<String>);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            several => write!(f, "[{}]", several.join(", ")),
        }
    }
}

impl std::error::Error for Refused {}

/// What becomes of a Pod.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Evict,
    /// It stays; with what is said of it.
    Leave(&'static str),
    Refuse(&'static str),
}

const DAEMON_SET: &str = "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
const LOCAL: &str = "Pods with local storage (use --delete-emptydir-data to override)";
const ALONE: &str = "Pods that declare no controller (use --force to override)";

fn verdict(pod: &Value, args: &Args) -> Verdict {
    let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if pod.pointer("/metadata/annotations").is_some_and(|a| a.get(MIRROR).is_some()) {
        return Verdict::Leave("");
    }
    let mut owners = items(pod, "/metadata/ownerReferences");
    let controller = owners.find(|owner| owner["controller"] == Value::Bool(true)).map(|owner| text(owner, "/kind"));
    if controller == Some("DaemonSet") && !is_over {
        return match args.on("ignore-daemonsets") {
            true => Verdict::Leave("ignoring DaemonSet-managed Pods"),
            false => Verdict::Refuse(DAEMON_SET),
        };
    }
    let deletes = args.on("delete-emptydir-data") || args.on("delete-local-data");
    if items(pod, "/spec/volumes").any(|volume| volume.get("emptyDir").is_some()) && !is_over && !deletes {
        return Verdict::Refuse(LOCAL);
    }
    if controller.is_none() && !is_over && !args.on("force") {
        return Verdict::Refuse(ALONE);
    }
    Verdict::Evict
}

/// Nobody makes such a Pod again.
fn is_alone(pod: &Value) -> bool {
    let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    !is_over && !items(pod, "/metadata/ownerReferences").any(|owner| owner["controller"] == Value::Bool(true))
}

async fn one(session: &Session, args: &Args, node: &Target) -> Result<()> {
    let query = Query::new()
        .with("fieldSelector", format!("spec.nodeName={}", node.name))
        .with_some("labelSelector", args.get("pod-selector"));
    let list = session.list("/api/v1/pods", &query).await?;
    let (mut evicted, mut refused, mut left): (Vec<Target>, Vec<(&str, String)>, Vec<String>) = Default::default();
    for pod in items(&list, "/items") {
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        match verdict(pod, args) {
            Verdict::Evict => evicted.push(Target::of(&pod_resource(), pod.clone())),
            Verdict::Refuse(why) => refused.push((why, name)),
            Verdict::Leave(why) if !why.is_empty() => left.push(name),
            Verdict::Leave(_) => {}
        }
    }
    if !refused.is_empty() {
        let mut reasons: Vec<&str> = Vec::new();
        for (why, _) in &refused {
            if !reasons.contains(why) {
                reasons.push(why);
            }
        }
        let why = |reason: &str| {
            let names = refused.iter().filter(|(why, _)| *why == reason).map(|(_, name)| name.as_str());
            format!("cannot delete {reason}: {}", names.collect::<Vec<_>>().join(", "))
        };
        return Err(Refused(reasons.into_iter().map(why).collect()).into());
    }
    let alone = evicted.iter().filter(|pod| pod.object.as_ref().is_some_and(is_alone));
    let alone: Vec<String> = alone.map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
    let mut warnings = Vec::new();
    if !left.is_empty() {
        warnings.push(format!("ignoring DaemonSet-managed Pods: {}", left.join(", ")));
    }
    if !alone.is_empty() {
        warnings.push(format!("deleting Pods that declare no controller: {}", alone.join(", ")));
    }
    if !warnings.is_empty() {
        eprintln!("Warning: {}", warnings.join("; "));
    }
    let dry = DryRun::of(args)?;
    let deadline = args.seconds("timeout")?.filter(|s| *s > 0.0).map(|s| Instant::now() + Duration::from_secs_f64(s));
    let evictions = evicted.iter().map(|pod| evict(session, args, pod, dry, deadline));
    futures::future::try_join_all(evictions).await?;
    line(format!("node/{} drained{}", node.name, suffix(dry)))
}

fn suffix(dry: DryRun) -> &'static str {
    match dry {
        DryRun::No => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    }
}

async fn evict(session: &Session, args: &Args, pod: &Target, dry: DryRun, deadline: Option<Instant>) -> Result<()> {
    let by_deletion = args.on("disable-eviction");
    let place = format!("{}/{}", pod.namespace, pod.name);
    line(format!("{} pod {place}{}", if by_deletion { "deleting" } else { "evicting" }, suffix(dry)))?;
    if dry == DryRun::Client {
        return Ok(());
    }
    let mut options = json!({});
    if let Some(seconds) = args.number("grace-period")?.filter(|seconds| *seconds >= 0) {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if dry == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    loop {
        let asked = match by_deletion {
            true => session.delete(&pod.path(), &options).await,
            false => {
                let eviction = json!({
                    "apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": options,
                    "metadata": {"name": pod.name, "namespace": pod.namespace},
                });
                session.post(&format!("{}/eviction", pod.path()), &eviction).await
            }
        };
        match asked {
            Ok(_) => break,
            Err(error) if has_reason(&error, "NotFound") => return Ok(()),
            Err(error) if has_reason(&error, "TooManyRequests") => {
                let what = format!("error when evicting pods/{:?} -n {:?}", pod.name, pod.namespace);
                eprintln!("{what} (will retry after 5s): {error}");
                let again = Instant::now() + AGAIN;
                if let Some(deadline) = deadline.filter(|deadline| *deadline < again) {
                    sleep_until(deadline).await;
                    let timeout = args.get("timeout").unwrap_or_default();
                    return Err(anyhow!("{what}: global timeout reached: {timeout}"));
                }
                sleep_until(again).await;
            }
            Err(error) => {
                return Err(error.context(format!("error when evicting pods/{:?} -n {:?}", pod.name, pod.namespace)));
            }
        }
    }
    if dry == DryRun::No {
        let uid = pod.object.as_ref().map(|o| text(o, "/metadata/uid").to_owned()).unwrap_or_default();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        until_gone(session, pod, &uid, left).await?;
        line(format!("pod/{} {}", pod.name, if by_deletion { "deleted" } else { "evicted" }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_becomes_of_pods() {
        let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "controller": true}]}});
        let mut local = owned("ReplicaSet");
        local["spec"] = json!({"volumes": [{"emptyDir": {}}]});
        let mut over = json!({});
        over["status"] = json!({"phase": "Succeeded"});
        let mirror = json!({"metadata": {"annotations": {MIRROR: "x"}}});
        for (pod, flags, expected) in [
            (owned("ReplicaSet"), "", Verdict::Evict),
            (owned("DaemonSet"), "", Verdict::Refuse(DAEMON_SET)),
            (owned("DaemonSet"), "--ignore-daemonsets", Verdict::Leave("ignoring DaemonSet-managed Pods")),
            (local.clone(), "", Verdict::Refuse(LOCAL)),
            (local, "--delete-emptydir-data", Verdict::Evict),
            (json!({}), "", Verdict::Refuse(ALONE)),
            (json!({}), "--force", Verdict::Evict),
            (over, "", Verdict::Evict),
            (mirror, "", Verdict::Leave("")),
        ] {
            let words = flags.split_whitespace().map(str::to_owned).collect();
            let args = Args::parse("drain", &[FLAGS], words).unwrap();
            assert_eq!(verdict(&pod, &args), expected, "{pod} {flags}");
        }
    }
}
