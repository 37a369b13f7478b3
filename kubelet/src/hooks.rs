//! Lifecycle hooks: postStart and preStop by exec, HTTP, TCP or sleep.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use kubelet_runtime::cri::Runtime;

use crate::probe::{Outcome, http, port, tcp};

/// A hook that connects waits at most this long for each answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a hook to its end. The caller bounds its time.
///
/// # Errors
/// What the hook failed with; it may contain what the container said, so it belongs in no event.
pub async fn run(
    runtime: &dyn Runtime,
    id: &str,
    container: &Container,
    handler: &LifecycleHandler,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let shown = format!("{command:?}");
        // The grace period or the Pod's end is the only limit of an exec hook.
        let output = runtime
            .exec_sync(id, command, 0)
            .await
            .map_err(|e| format!("Exec lifecycle hook ({shown}) failed: {e}"))?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!(
                "Exec lifecycle hook ({shown}) for Container {:?} failed - error: command exited with {code}, \
                 message: {:?}",
                container.name,
                String::from_utf8_lossy(&output.stderr)
            )),
        };
    }
    if let Some(action) = &handler.http_get {
        let target = http::target(action, container, pod_ip)?;
        return outcome(http::probe(&target, TIMEOUT, "lifecycle").await);
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if let Some(action) = &handler.tcp_socket {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
        return outcome(tcp::probe(host, port(&action.port, container)?, TIMEOUT).await);
    }
    Err("invalid handler: it names no action".to_owned())
}

fn outcome(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Success | Outcome::Warning(_) => Ok(()),
        Outcome::Failure(text) | Outcome::Error(text) => Err(text),
    }
}
