//! A container's life: it runs, logs, ends, is stopped and removed, and leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{Node, isolated, shell};
use kubelet_runtime::cri::{ContainerState, Runtime, SandboxState};

#[test]
fn a_container_runs_logs_and_leaves_nothing() {
    isolated(|| async {
        let node = Node::with_image().await;
        let before = node.traces();
        let sandbox = node.sandbox().await;
        let status = node.core.pod_sandbox_status(&sandbox).await.unwrap();
        assert_eq!(status.state, SandboxState::Ready);
        assert_eq!(status.ips, ["10.244.7.2"]);

        let (status, log) =
            node.run(&sandbox, shell("echo out; echo err >&2; pwd; hostname; echo $FROM_IMAGE; exit 3")).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
        assert!(status.started_at > 0 && status.finished_at >= status.started_at);
        let lines: BTreeSet<&str> = log.lines().collect();
        assert_eq!(lines, BTreeSet::from(["out", "err", "/work", "pod", "yes"]));
        let raw = std::fs::read_to_string(&status.log_path).unwrap();
        assert!(raw.contains(" stderr F err\n") && raw.contains(" stdout F out\n"), "{raw}");

        let sleeper = node.start(&sandbox, "trap 'exit 7' TERM; echo set; while true; do sleep 0.05; done").await;
        node.logged(&sleeper, "set\n").await;
        node.core.stop_container(&sleeper, 10).await.unwrap();
        let status = node.core.container_status(&sleeper).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 7));
        node.core.remove_container(&sleeper).await.unwrap();
        node.core.remove_container(&sleeper).await.unwrap();

        node.remove(&sandbox).await;
        assert_eq!(node.traces(), before);
    });
}
