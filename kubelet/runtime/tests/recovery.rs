//! Containers outlive the core, and nothing is left of what was half-made when it was killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Node, isolated, shell};
use kubelet_runtime::cri::{ContainerState, EventType, Runtime, SandboxState};
use kubelet_runtime::{Core, reset};

#[test]
fn containers_go_on_while_the_core_is_away() {
    isolated(|| async {
        let mut node = Node::with_image().await;
        let before = node.traces();
        let sandbox = node.sandbox().await;
        let lives =
            node.start(&sandbox, "echo one; while ! test -e /tmp/go; do sleep 0.02; done; echo two; sleep 1000").await;
        let ends = node.start(&sandbox, "while ! test -e /dev/shm/end; do sleep 0.02; done; exit 9").await;
        let created = node.core.create_container(&sandbox, shell("echo late")).await.unwrap();
        let started_at = node.core.container_status(&lives).await.unwrap().started_at;
        reopen(&mut node).await;
        node.core.exec_sync(&lives, vec!["touch".into(), "/tmp/go".into(), "/dev/shm/end".into()], 10).await.unwrap();
        let status = node.wait(&ends).await;
        assert_eq!(status.exit_code, 9);

        let status = node.core.container_status(&lives).await.unwrap();
        assert_eq!((status.state, status.started_at), (ContainerState::Running, started_at));
        reopen(&mut node).await;
        assert_eq!(node.core.container_status(&ends).await.unwrap().exit_code, 9);
        node.core.start_container(&created).await.unwrap();
        assert_eq!(node.log(&node.wait(&created).await), "late\n");
        let status = node.core.pod_sandbox_status(&sandbox).await.unwrap();
        assert_eq!((status.state, status.ips.len()), (SandboxState::Ready, 1));
        assert_eq!(node.logged(&lives, "two\n").await, "one\ntwo\n");
        node.remove(&sandbox).await;
        assert_eq!(node.traces(), before);
    });
}

/// Drops the core, as a kill would, and opens another.
async fn reopen(node: &mut Node) {
    let weak = std::sync::Arc::downgrade(&node.core);
    let placeholder = Core::open({
        let mut other = node.config.clone();
        other.root = node.directory.path().join("other");
        other.run_directory = node.directory.path().join("other-run");
        other.cluster_id = "00000000".into();
        other
    })
    .await
    .unwrap();
    node.core = placeholder;
    while weak.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    node.core = Core::open(node.config.clone()).await.unwrap();
}

#[test]
fn a_lost_shim_ends_its_pod() {
    isolated(|| async {
        let node = Node::with_image().await;
        let before = node.traces();
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, "sleep 1000").await;
        let mut events = node.core.events();
        let pid_file = node.config.run_directory.join("shim").join(format!("{sandbox}.pid"));
        let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        while events.recv().await.unwrap().kind != EventType::SandboxStopped {}
        let status = node.core.container_status(&id).await.unwrap();
        assert_eq!((status.state, status.exit_code, status.signal), (ContainerState::Exited, 137, 9));
        assert_eq!(status.reason, "Error");
        assert_eq!(node.core.pod_sandbox_status(&sandbox).await.unwrap().state, SandboxState::NotReady);
        node.remove(&sandbox).await;
        assert_eq!(node.traces(), before);
    });
}

/// A process that makes Pods is killed at many moments; the next core finds a whole Pod or none.
#[test]
fn a_core_killed_at_any_moment_leaves_nothing_half_made() {
    isolated(|| async {
        let node = Node::with_image().await;
        let before = node.traces();
        let config = node.config.clone();
        for step in 0..12u32 {
            let mut child = std::process::Command::new(common::shim_program())
                .args(["churn".as_ref(), node.directory.path().as_os_str()])
                .args([&config.cluster_id, common::IMAGE])
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(u64::from(step) * 37 + 5));
            child.kill().unwrap();
            child.wait().unwrap();
            let core = Core::open(churned(&node)).await.unwrap();
            for sandbox in core.list_pod_sandboxes().await.unwrap() {
                core.stop_pod_sandbox(&sandbox.id).await.unwrap();
                core.remove_pod_sandbox(&sandbox.id).await.unwrap();
            }
            assert!(core.list_containers().await.unwrap().is_empty());
            assert_nothing_left(&node, &format!("step {step}"));
            drop(core);
            assert_eq!(node.traces(), before, "step {step}");
        }
    });
}

/// As before, but at each place in a Pod's life that leaves something to be found.
#[test]
fn a_core_killed_at_each_place_leaves_nothing_half_made() {
    isolated(|| async {
        let node = Node::with_image().await;
        let before = node.traces();
        for place in kubelet_runtime::faults::PLACES {
            let mut child = std::process::Command::new(common::shim_program())
                .args(["churn".as_ref(), node.directory.path().as_os_str()])
                .args([&node.config.cluster_id, common::IMAGE])
                .env(kubelet_runtime::faults::VARIABLE, place)
                .spawn()
                .unwrap();
            let ended = child.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{place}: {ended}");
            let core = Core::open(churned(&node)).await.unwrap();
            let running: Vec<_> = core.list_containers().await.unwrap();
            assert!(running.len() <= 1, "{place}: {running:?}");
            for sandbox in core.list_pod_sandboxes().await.unwrap() {
                core.stop_pod_sandbox(&sandbox.id).await.unwrap();
                core.remove_pod_sandbox(&sandbox.id).await.unwrap();
            }
            assert_nothing_left(&node, place);
            drop(core);
            assert_eq!(node.traces(), before, "{place}");
        }
    });
}

/// The configuration of the process that is killed: it works below `churn`, with this node's names in the kernel.
fn churned(node: &Node) -> kubelet_runtime::Config {
    let mut config = node.config.clone();
    config.root = node.directory.path().join("churn/runtime");
    config.run_directory = node.directory.path().join("churn/run");
    config
}

fn assert_nothing_left(node: &Node, when: &str) {
    let config = churned(node);
    for directory in [config.root.join("sandboxes"), config.root.join("containers"), config.run_directory.join("shim")]
    {
        assert_eq!(common::names(&directory), Vec::<String>::new(), "{when}: {}", directory.display());
    }
}

#[test]
fn reset_removes_everything_and_may_be_repeated() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        node.start(&sandbox, "sleep 1000").await;
        let config = node.config.clone();
        reset(&config).unwrap();
        assert!(!config.root.exists());
        assert!(node.traces().is_empty(), "{:?}", node.traces());
        assert!(common::links(&config.cluster_id).is_empty());
        reset(&config).unwrap();
    });
}
