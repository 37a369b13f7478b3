//! A command or a container's own process connected to a client, whatever carries the streams.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use kubelet_runtime::cri::{Runtime, Streams};

const BLOCK: usize = 32 << 10;
/// How long output is waited for after the command has ended: a process that it left behind may hold the pipes.
const DRAIN: Duration = Duration::from_secs(2);

/// What comes from a client.
#[derive(Debug)]
pub(super) enum Input {
    Stdin(Bytes),
    StdinClosed,
    /// Columns and rows.
    Resize(u16, u16),
}

/// What goes to a client.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// A `metav1.Status` as JSON; the last of all.
    Status(Vec<u8>),
}

/// What is run.
#[derive(Clone, Debug)]
pub(super) enum What {
    Exec(Vec<String>),
    Attach,
}

/// What is connected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Runs until the command ends or the client is gone (`input` ends); the last output is the status.
pub(super) async fn serve(
    runtime: Arc<dyn Runtime>,
    container_id: String,
    what: What,
    wanted: Wanted,
    mut input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
) {
    let (streams, ours) = match connect(wanted) {
        Ok(pair) => pair,
        Err(error) => return finish(&output, internal(&format!("making pipes: {error}"))).await,
    };
    let mut readers = JoinSet::new();
    if let Some(stdout) = ours.stdout {
        readers.spawn(copy_out(stdout, output.clone(), Output::Stdout));
    }
    if let Some(stderr) = ours.stderr {
        readers.spawn(copy_out(stderr, output.clone(), Output::Stderr));
    }
    let (mut stdin, resize) = (ours.stdin, ours.resize);
    let feed = async {
        while let Some(item) = input.recv().await {
            match item {
                Input::Stdin(data) => {
                    let Some(pipe) = &mut stdin else { continue };
                    if pipe.write_all(&data).await.is_err() {
                        // The command has closed its stdin; the rest is of no interest to it.
                        stdin = None;
                    }
                }
                Input::StdinClosed => stdin = None,
                Input::Resize(columns, rows) => {
                    // Of several changes that nobody has taken yet, the last ones are lost; the next brings the size.
                    let _ = resize.try_send((columns, rows));
                }
            }
        }
    };
    let run = async {
        match &what {
            What::Exec(command) => runtime.exec(&container_id, command.clone(), streams).await.map(Some),
            What::Attach => runtime.attach(&container_id, streams).await.map(|()| None),
        }
    };
    let result = tokio::select! {
        result = run => result,
        // Dropping the call tells the runtime that nobody is there any more.
        () = feed => return,
    };
    let drained = async { while readers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::debug!(container_id, "a command's output goes on after its end");
    }
    let status = match (result, what) {
        (Ok(None | Some(0)), _) => json!({"metadata": {}, "status": "Success"}),
        (Ok(Some(code)), What::Exec(command)) => exit_status(&command, code),
        (Ok(Some(code)), What::Attach) => exit_status(&[], code),
        (Err(error), _) => internal(&error.to_string()),
    };
    finish(&output, status).await;
}

async fn finish(output: &mpsc::Sender<Output>, status: Value) {
    // A client that is gone needs no status.
    drop(output.send(Output::Status(status.to_string().into_bytes())).await);
}

fn exit_status(command: &[String], code: i32) -> Value {
    let shown = command.join(" ");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!(
            "command terminated with non-zero exit code: error executing command [{shown}], exit code {code}"
        ),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

/// Our ends of the pipes.
struct Ours {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    resize: mpsc::Sender<(u16, u16)>,
}

fn connect(wanted: Wanted) -> std::io::Result<(Streams, Ours)> {
    let make = |yes: bool| -> std::io::Result<Option<(OwnedFd, OwnedFd)>> {
        if yes { Ok(Some(pipe2(OFlag::O_CLOEXEC)?)) } else { Ok(None) }
    };
    let (stdin, stdout) = (make(wanted.stdin)?, make(wanted.stdout)?);
    // A terminal has one output.
    let stderr = make(wanted.stderr && !wanted.tty)?;
    let (resize, sizes) = mpsc::channel(4);
    let mut streams = Streams { tty: wanted.tty, resize: Some(sizes), ..Streams::default() };
    let mut ours = Ours { stdin: None, stdout: None, stderr: None, resize };
    if let Some((read, write)) = stdin {
        streams.stdin = Some(read);
        ours.stdin = Some(pipe::Sender::from_owned_fd(write)?);
    }
    if let Some((read, write)) = stdout {
        streams.stdout = Some(write);
        ours.stdout = Some(pipe::Receiver::from_owned_fd(read)?);
    }
    if let Some((read, write)) = stderr {
        streams.stderr = Some(write);
        ours.stderr = Some(pipe::Receiver::from_owned_fd(read)?);
    }
    Ok((streams, ours))
}

async fn copy_out(mut from: pipe::Receiver, to: mpsc::Sender<Output>, wrap: fn(Bytes) -> Output) {
    let mut buffer = BytesMut::with_capacity(BLOCK);
    loop {
        buffer.reserve(BLOCK);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if to.send(wrap(buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::runtime::Fake;

    async fn run(command: &[&str]) -> (Vec<u8>, Value) {
        let (to, input) = mpsc::channel(4);
        let (output, mut from) = mpsc::channel(4);
        let what = What::Exec(command.iter().map(|s| (*s).to_owned()).collect());
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        let task = client::spawn(serve(Fake::new(), "c1".into(), what, wanted, input, output));
        to.send(Input::Stdin(Bytes::from_static(b"hello"))).await.unwrap();
        to.send(Input::StdinClosed).await.unwrap();
        let mut seen = Vec::new();
        loop {
            match from.recv().await.unwrap() {
                Output::Stdout(data) => seen.extend_from_slice(&data),
                Output::Stderr(_) => panic!("no stderr"),
                Output::Status(status) => {
                    task.await.unwrap();
                    return (seen, serde_json::from_slice(&status).unwrap());
                }
            }
        }
    }

    #[tokio::test]
    async fn output_then_status() {
        let (seen, status) = run(&["cat"]).await;
        assert_eq!((&seen[..], &status["status"]), (&b"hello"[..], &json!("Success")));
        let (_, status) = run(&["x", "7"]).await;
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
        assert_eq!(status["reason"], "NonZeroExitCode");
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_it() {
        let (to, input) = mpsc::channel(4);
        let (output, _from) = mpsc::channel(4);
        let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
        let task = client::spawn(serve(Fake::new(), "c1".into(), What::Attach, wanted, input, output));
        drop(to);
        task.await.unwrap();
    }
}
