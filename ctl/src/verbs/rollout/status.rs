//! `rollout status`: says how far a rollout is until it is done.

use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use crate::error::Result;
use crate::flags::Args;
use crate::output;
use crate::session::Session;
use crate::target::{self, Target};
use crate::verbs::pods::{items, text};
use crate::verbs::wait::until;

pub(crate) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    if args.words.is_empty() && args.all("filename").is_empty() {
        bail!("required resource not specified");
    }
    let targets = target::targets(&session, args, &args.words).await?;
    let timeout = args.seconds("timeout")?.filter(|s| *s > 0.0).map(Duration::from_secs_f64);
    for target in targets {
        let one = one(&session, args, &target);
        match timeout {
            None => one.await?,
            Some(limit) => match tokio::time::timeout(limit, one).await {
                Ok(done) => done?,
                Err(_) => bail!("timed out waiting for the condition"),
            },
        }
    }
    Ok(())
}

async fn one(session: &Session, args: &Args, target: &Target) -> Result<()> {
    let revision = args.number("revision")?.filter(|r| *r > 0);
    if !args.on_unless_off("watch") {
        let object = target.get(session).await?;
        return output::put(&step(target, &object, revision)?.0);
    }
    // Not there from the start is an error; gone later too.
    target.get(session).await?;
    let mut last = String::new();
    let mut failed = None;
    until(session, target, |object| {
        let Some(object) = object else {
            failed = Some(anyhow!("object has been deleted"));
            return true;
        };
        match step(target, object, revision) {
            Ok((said, is_done)) => {
                if said != last {
                    if let Err(error) = output::put(&said) {
                        failed = Some(error);
                        return true;
                    }
                    last = said;
                }
                is_done
            }
            Err(error) => {
                failed = Some(error);
                true
            }
        }
    })
    .await?;
    failed.map_or(Ok(()), Err)
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// What there is to say of a rollout, and whether it is done.
fn step(target: &Target, object: &Value, revision: Option<i64>) -> Result<(String, bool)> {
    match (target.resource.group.as_str(), target.resource.kind.as_str()) {
        ("apps", "Deployment") => deployment(object, revision),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "StatefulSet") => stateful_set(object),
        _ => bail!("no status viewer has been implemented for {}", target.resource.kind),
    }
}

fn deployment(object: &Value, revision: Option<i64>) -> Result<(String, bool)> {
    let name = text(object, "/metadata/name");
    if let Some(wanted) = revision {
        let annotations = object.pointer("/metadata/annotations");
        let current = annotations.and_then(|a| a.get("deployment.kubernetes.io/revision")).and_then(Value::as_str);
        let current = current.unwrap_or("0");
        if current != wanted.to_string() {
            bail!("desired revision ({wanted}) is different from the running revision ({current})");
        }
    }
    if number(object, "/metadata/generation") > number(object, "/status/observedGeneration") {
        return Ok(("Waiting for deployment spec update to be observed...\n".to_owned(), false));
    }
    let progressing = items(object, "/status/conditions").find(|c| text(c, "/type") == "Progressing");
    if progressing.is_some_and(|c| text(c, "/reason") == "ProgressDeadlineExceeded") {
        bail!("deployment {name:?} exceeded its progress deadline");
    }
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let (all, updated) = (number(object, "/status/replicas"), number(object, "/status/updatedReplicas"));
    let available = number(object, "/status/availableReplicas");
    let waiting = format!("Waiting for deployment {name:?} rollout to finish: ");
    Ok(if updated < wanted {
        (format!("{waiting}{updated} out of {wanted} new replicas have been updated...\n"), false)
    } else if all > updated {
        (format!("{waiting}{} old replicas are pending termination...\n", all - updated), false)
    } else if available < updated {
        (format!("{waiting}{available} of {updated} updated replicas are available...\n"), false)
    } else {
        (format!("deployment {name:?} successfully rolled out\n"), true)
    })
}

fn daemon_set(object: &Value) -> Result<(String, bool)> {
    let name = text(object, "/metadata/name");
    if text(object, "/spec/updateStrategy/type") != "RollingUpdate" {
        bail!("rollout status is only available for RollingUpdate strategy type");
    }
    if number(object, "/metadata/generation") > number(object, "/status/observedGeneration") {
        return Ok(("Waiting for daemon set spec update to be observed...\n".to_owned(), false));
    }
    let wanted = number(object, "/status/desiredNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    let waiting = format!("Waiting for daemon set {name:?} rollout to finish: ");
    Ok(if updated < wanted {
        (format!("{waiting}{updated} out of {wanted} new pods have been updated...\n"), false)
    } else if available < wanted {
        (format!("{waiting}{available} of {wanted} updated pods are available...\n"), false)
    } else {
        (format!("daemon set {name:?} successfully rolled out\n"), true)
    })
}

fn stateful_set(object: &Value) -> Result<(String, bool)> {
    if text(object, "/spec/updateStrategy/type") != "RollingUpdate" {
        bail!("rollout status is only available for RollingUpdate strategy type");
    }
    let observed = number(object, "/status/observedGeneration");
    if observed == 0 || number(object, "/metadata/generation") > observed {
        return Ok(("Waiting for statefulset spec update to be observed...\n".to_owned(), false));
    }
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let (ready, updated) = (number(object, "/status/readyReplicas"), number(object, "/status/updatedReplicas"));
    if ready < wanted {
        return Ok((format!("Waiting for {} pods to be ready...\n", wanted - ready), false));
    }
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    if partition > 0 {
        let new = wanted - partition;
        return Ok(if updated < new {
            let waiting = "Waiting for partitioned roll out to finish: ";
            (format!("{waiting}{updated} out of {new} new pods have been updated...\n"), false)
        } else {
            (format!("partitioned roll out complete: {updated} new pods have been updated...\n"), true)
        });
    }
    let current = number(object, "/status/currentReplicas");
    let (new, old) = (text(object, "/status/updateRevision"), text(object, "/status/currentRevision"));
    Ok(if new != old {
        let waiting = "waiting for statefulset rolling update to complete ";
        (format!("{waiting}{updated} pods at revision {new}...\n"), false)
    } else {
        (format!("statefulset rolling update complete {current} pods at revision {old}...\n"), true)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn deployments_are_done_when_all_that_is_new_is_available() {
        let metadata = json!({"name": "d", "generation": 1});
        let object = |status: Value| json!({"metadata": metadata, "spec": {"replicas": 2}, "status": status});
        for (status, said, is_done) in [
            (json!({}), "Waiting for deployment spec update to be observed...\n", false),
            (
                json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}),
                "Waiting for deployment \"d\" rollout to finish: 1 out of 2 new replicas have been updated...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2}),
                "Waiting for deployment \"d\" rollout to finish: 1 old replicas are pending termination...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}),
                "Waiting for deployment \"d\" rollout to finish: 1 of 2 updated replicas are available...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}),
                "deployment \"d\" successfully rolled out\n",
                true,
            ),
        ] {
            assert_eq!(deployment(&object(status), None).unwrap(), (said.to_owned(), is_done));
        }
        let condition = json!({"type": "Progressing", "reason": "ProgressDeadlineExceeded"});
        let late = json!({"observedGeneration": 1, "conditions": [condition]});
        let error = deployment(&object(late), None).unwrap_err().to_string();
        assert_eq!(error, "deployment \"d\" exceeded its progress deadline");
    }
}
