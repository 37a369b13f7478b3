//! Further processes in a container, and the ways into it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use common::{Node, isolated, security, shell};
use kubelet_runtime::cri::{ContainerConfig, Error, Runtime, SecurityContext, Streams};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn exec_sync_has_the_containers_identity_and_limits() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let config = ContainerConfig {
            envs: vec![("GIVEN".into(), "a=b".into())],
            security: SecurityContext {
                run_as_user: Some(1000),
                supplemental_groups: vec![3000],
                no_new_privs: true,
                ..security()
            },
            ..shell("cat /proc/self/status | grep -E 'Cap|Seccomp|NoNewPrivs|Groups'; id; sleep 1000")
        };
        let id = node.start_config(&sandbox, config).await;
        let script =
            "cat /proc/self/status | grep -E 'Cap|Seccomp|NoNewPrivs|Groups'; id; echo $GIVEN; pwd; echo e >&2; exit 5";
        let args = vec!["sh".into(), "-c".into(), script.into()];
        let output = node.core.exec_sync(&id, args, 10).await.unwrap();
        assert_eq!(output.exit_code, 5);
        assert_eq!(output.stderr, b"e\n");
        let text = String::from_utf8(output.stdout).unwrap();
        let own = node.logged(&id, "uid=1000").await;
        let rest = text.strip_prefix(own.as_str());
        assert_eq!(rest, Some("a=b\n/work\n"), "of exec: {text}\nof the container: {own}");
        assert!(text.contains("uid=1000(app) gid=1000") || text.contains("uid=1000"), "{text}");
        assert!(text.contains("Seccomp:\t2") && text.contains("NoNewPrivs:\t1") && text.contains("3000"), "{text}");

        let missing = node.core.exec_sync(&id, words("nothing-there"), 10).await.unwrap_err().to_string();
        assert!(missing.contains("\"nothing-there\": executable file not found in $PATH"), "{missing}");
        let denied = node.core.exec_sync(&id, words("/etc/passwd"), 10).await.unwrap_err().to_string();
        assert!(denied.contains("permission denied"), "{denied}");

        let begin = std::time::Instant::now();
        let late = node.core.exec_sync(&id, words("sleep 600"), 1).await.unwrap_err();
        assert!(matches!(late, Error::Timeout { seconds: 1, .. }), "{late}");
        assert!(begin.elapsed().as_secs() < 30);
        let left = node.core.exec_sync(&id, words("ps"), 10).await.unwrap();
        assert!(!String::from_utf8(left.stdout).unwrap().contains("sleep 600"));

        // A child that keeps the output open does not keep the caller waiting.
        let output = node.core.exec_sync(&id, vec!["sh".into(), "-c".into(), "sleep 500 & echo done".into()], 20).await;
        assert_eq!(output.unwrap().stdout, b"done\n");
        node.remove(&sandbox).await;
    });
}

fn pipe() -> (std::fs::File, OwnedFd) {
    let (ours, theirs) = nix::unistd::pipe().unwrap();
    (ours.into(), theirs)
}

#[test]
fn exec_streams_go_to_the_callers_descriptors() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, "sleep 1000").await;
        let (mut out, stdout) = pipe();
        let (mut err, stderr) = pipe();
        let (stdin, to_stdin) = nix::unistd::pipe().unwrap();
        std::fs::File::from(to_stdin).write_all(b"typed").unwrap();
        let streams =
            Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), tty: false, resize: None };
        let code = node.core.exec(&id, vec!["sh".into(), "-c".into(), "cat; echo x >&2; exit 4".into()], streams).await;
        assert_eq!(code.unwrap(), 4);
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut errors).unwrap();
        assert_eq!((text.as_str(), errors.as_str()), ("typed", "x\n"));
        node.remove(&sandbox).await;
    });
}

#[test]
fn exec_with_a_terminal_has_its_size() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, "sleep 1000").await;
        let (mut out, stdout) = pipe();
        let (stdin, to_stdin) = nix::unistd::pipe().unwrap();
        let (sizes, resize) = tokio::sync::mpsc::channel(1);
        sizes.send((97, 31)).await.unwrap();
        let mut keyboard = std::fs::File::from(to_stdin);
        keyboard.write_all(b"echo got:$(stty size); exit 6\n").unwrap();
        let streams =
            Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: None, tty: true, resize: Some(resize) };
        // The size must be there before the shell asks for it.
        let script = "while [ \"$(stty size)\" != '31 97' ]; do sleep 0.02; done; exec sh";
        let args = vec!["sh".into(), "-c".into(), script.into()];
        assert_eq!(node.core.exec(&id, args, streams).await.unwrap(), 6);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert!(text.contains("got:31 97"), "{text}");
        node.remove(&sandbox).await;
    });
}

#[test]
fn attach_sees_output_and_feeds_input() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let config = ContainerConfig { stdin: true, stdin_once: true, ..shell("cat; echo end; exit 2") };
        let id = node.start_config(&sandbox, config).await;
        let (mut out, stdout) = pipe();
        let (stdin, to_stdin) = nix::unistd::pipe().unwrap();
        std::fs::File::from(to_stdin).write_all(b"hello\n").unwrap();
        let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: None, tty: false, resize: None };
        node.core.attach(&id, streams).await.unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\nend\n");
        let status = node.wait(&id).await;
        assert_eq!((status.exit_code, node.log(&status).as_str()), (2, "hello\nend\n"));
        node.remove(&sandbox).await;
    });
}

#[test]
fn a_container_with_a_terminal_logs_and_can_be_attached() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let config =
            ContainerConfig { stdin: true, tty: true, ..shell("test -t 0 && echo tty; read line; echo got $line") };
        let id = node.start_config(&sandbox, config).await;
        let (stdin, to_stdin) = nix::unistd::pipe().unwrap();
        let mut keyboard = std::fs::File::from(to_stdin);
        keyboard.write_all(b"word\n").unwrap();
        let (mut out, stdout) = pipe();
        let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: None, tty: true, resize: None };
        node.core.attach(&id, streams).await.unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert!(text.contains("got word"), "{text:?}");
        let status = node.wait(&id).await;
        assert!(node.log(&status).contains("tty"));
        node.remove(&sandbox).await;
    });
}

/// A client that does not read loses its view, not the container its time.
#[test]
fn a_client_that_does_not_read_holds_nothing_up() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let config = ContainerConfig {
            stdin: true,
            stdin_once: true,
            ..shell("read line; dd if=/dev/zero bs=64k count=64 2>/dev/null; exit 5")
        };
        let id = node.start_config(&sandbox, config).await;
        let (_unread, stdout) = pipe();
        let (stdin, to_stdin) = nix::unistd::pipe().unwrap();
        std::fs::File::from(to_stdin).write_all(b"go\n").unwrap();
        let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: None, tty: false, resize: None };
        node.core.attach(&id, streams).await.unwrap();
        assert_eq!(node.wait(&id).await.exit_code, 5);
        node.remove(&sandbox).await;
    });
}

#[test]
fn port_forward_reaches_the_pods_loopback() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, "echo answer | nc -l -p 8080; sleep 1000").await;
        node.core
            .exec_sync(
                &id,
                vec![
                    "sh".into(),
                    "-c".into(),
                    "while ! cat /proc/net/tcp /proc/net/tcp6 | grep -q ':1F90 '; do sleep 0.02; done".into(),
                ],
                20,
            )
            .await
            .unwrap();
        let fd = node.core.port_forward(&sandbox, 8080).await.unwrap();
        let mut stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(false).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer\n");
        let refused = node.core.port_forward(&sandbox, 9).await.unwrap_err().to_string();
        assert!(
            refused.contains("connect to port 9") && refused.contains("ECONNREFUSED") || refused.contains("refused"),
            "{refused}"
        );
        node.remove(&sandbox).await;
    });
}
