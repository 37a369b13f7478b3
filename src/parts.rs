//! Keeping parts running: each in a task of its own, started again with back-off when it ends before its time.

use std::sync::Arc;
use std::time::Duration;

use apiserver_auth::UserInfo;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A part that ran this long is taken to have been well: its next pause is the first again.
const WELL: Duration = Duration::from_secs(60);

/// Parts under supervision. Dropping it ends them.
pub struct Parts {
    tasks: JoinSet<()>,
    pub stop: CancellationToken,
}

impl Parts {
    pub fn new() -> Self {
        Self { tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// Runs a part until the token is cancelled. `start` is called anew whenever it ended before.
    pub fn keep<F, R>(&mut self, name: &'static str, start: F)
    where
        F: Fn(CancellationToken) -> R + Send + Sync + 'static,
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !stop.is_cancelled() {
                let began = tokio::time::Instant::now();
                // A task of its own: a panic ends the part, not the process.
                let part = stop.child_token();
                match client::spawn(start(part.clone())).await {
                    Ok(Ok(())) if stop.is_cancelled() => return,
                    Ok(Ok(())) => tracing::warn!(part = name, "ended; it will be started again"),
                    Ok(Err(error)) => {
                        tracing::error!(part = name, error = format!("{error:#}"), "failed; it will be started again");
                    }
                    Err(error) => tracing::error!(part = name, %error, "crashed; it will be started again"),
                }
                part.cancel();
                pause = if began.elapsed() > WELL { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Cancels all parts and waits for them, as long as `patience`.
    pub async fn end(mut self, patience: Duration) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("some parts did not end in time");
        }
    }
}

/// Makes a client that acts as a user, by the user's name, on the API server in this process.
pub fn in_process_clients(server: &Arc<apiserver::Server>) -> Arc<dyn Fn(&str) -> kube::Client + Send + Sync> {
    let server = Arc::clone(server);
    Arc::new(move |name| client::in_process(server.in_process(identity(name)), "default"))
}

/// A component's identity by its user name; the groups follow from the name.
fn identity(name: &str) -> UserInfo {
    if let Some(node) = name.strip_prefix("system:node:") {
        return UserInfo::node(node);
    }
    if let Some((namespace, account)) =
        name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
    {
        return UserInfo::service_account(namespace, account, "");
    }
    UserInfo::new(name, &[])
}
