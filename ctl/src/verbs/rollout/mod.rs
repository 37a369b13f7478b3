//! `rollout`: the state and the history of Deployments, StatefulSets and DaemonSets.

mod change;
mod history;
pub(super) mod status;

pub(super) use change::{pause, restart, resume};
pub(super) use history::{HISTORY_FLAGS, UNDO_FLAGS, history, undo};

pub(super) const STATUS_FLAGS: &str = "
  -w, --watch      Wait until the rollout is done (default true)
      --revision=  Wait for this revision only
      --timeout=   How long to wait; 0 is as long as it takes
";
