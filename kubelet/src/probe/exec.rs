//! Exec probes: the command ends with 0, or not.

use std::time::Duration;

use kubelet_runtime::cri::{Error, Runtime};

use super::Outcome;

/// What of a command's output stands in a message.
const MAX_OUTPUT: usize = 10 * 1024;

pub async fn probe(runtime: &dyn Runtime, id: &str, command: Vec<String>, timeout: Duration) -> Outcome {
    let shown = command.join(" ");
    match runtime.exec_sync(id, command, timeout.as_secs().max(1)).await {
        Ok(output) if output.exit_code == 0 => Outcome::Success,
        Ok(output) => {
            let mut text = output.stdout;
            text.extend_from_slice(&output.stderr);
            text.truncate(MAX_OUTPUT);
            Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
        }
        Err(Error::Timeout { seconds, .. }) => {
            Outcome::Failure(format!("command timed out: {shown:?} timed out after {seconds}s"))
        }
        Err(error) => Outcome::Error(format!("rpc error: {error}")),
    }
}
