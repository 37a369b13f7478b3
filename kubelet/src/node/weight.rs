//! How much CPU the Burstable class gets beside Guaranteed Pods and BestEffort ones: as much as its Pods ask for
//! together (upstream's `qos_container_manager_linux.go`), set anew as they come and go.

use std::sync::Arc;

use crate::agent::Agent;
use crate::qos;

/// Follows the Pods until the task is dropped. To be started when all of the node's Pods are known: of some of them the
/// sum would be too small for those that run.
pub async fn run(agent: Arc<Agent>) {
    let mut written = None;
    loop {
        let pods = agent.pods.all().into_iter().map(|entry| entry.snapshot()).filter(|snapshot| snapshot.active);
        let shares = qos::burstable_shares(pods.map(|snapshot| snapshot.pod.clone()));
        if written != Some(shares) {
            let cgroups = agent.cgroups.clone();
            match tokio::task::spawn_blocking(move || cgroups.weigh_burstable(shares)).await {
                Ok(Ok(())) => written = Some(shares),
                // It is tried again when the next Pod comes or goes.
                Ok(Err(error)) => tracing::warn!(%error, shares, "setting the weight of Burstable Pods failed"),
                Err(error) => tracing::warn!(%error, "setting the weight of Burstable Pods broke off"),
            }
        }
        agent.pods.changed().await;
    }
}
