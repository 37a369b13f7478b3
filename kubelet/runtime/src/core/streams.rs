//! Exec, attach and port-forward: the shim connects the process to the caller's descriptors; only a terminal's bytes
//! go through here.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::{Container, Core, Phase};
use crate::connection::{Answer, Connection};
use crate::cri::{self, Error, ExecOutput, Streams};
use crate::shim::protocol::{ExecSpec, Reply, Request};
use crate::syscall::watched::watch;
use crate::syscall::{pipe, socket, terminal};

/// What an exec's output may be at most, as in the kubelet's CRI client.
const OUTPUT_LIMIT: usize = 16 << 20;
const CHUNK: usize = 32 * 1024;

impl Core {
    fn running(&self, id: &str, operation: &'static str) -> cri::Result<(Arc<Container>, Arc<Connection>)> {
        let container = self.container(id)?;
        if !matches!(*container.phase.borrow(), Phase::Running { .. }) {
            return Err(Error::Failed { operation, message: format!("container {id} is not running") });
        }
        let shim = self.sandbox(&container.record.sandbox_id)?.connection(operation)?;
        Ok((container, shim))
    }

    pub(super) async fn run_exec_sync(&self, id: &str, args: Vec<String>, timeout: u64) -> cri::Result<ExecOutput> {
        const OPERATION: &str = "exec";
        let (_, shim) = self.running(id, OPERATION)?;
        let failed = |error: std::io::Error| Error::Failed { operation: OPERATION, message: error.to_string() };
        let (out, their_out) = pipe::pair().map_err(failed)?;
        let (err, their_err) = pipe::pair().map_err(failed)?;
        let spec = ExecSpec { container: id.to_owned(), args, tty: false, streams: [false, true, true] };
        let fds = [their_out.as_raw_fd(), their_err.as_raw_fd()];
        let (number, mut answers) = shim.send(Request::Exec(spec), &fds).await.map_err(failed)?;
        drop((their_out, their_err));
        let mut output = ExecOutput::default();
        let run = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            let (out, err) = (watch(out)?, watch(err)?);
            let ended = async {
                expect_started(answers.recv().await)?;
                expect_ended(answers.recv().await)
            };
            let code = {
                let reading = async { tokio::join!(collect(&out, &mut stdout), collect(&err, &mut stderr)) };
                tokio::pin!(ended, reading);
                tokio::select! {
                    code = &mut ended => code,
                    _ = &mut reading => ended.await,
                }
            };
            // What the process wrote is in the pipes; its children, which may hold them open, are not waited for.
            take_rest(&out, &mut stdout);
            take_rest(&err, &mut stderr);
            (output.stdout, output.stderr) = (stdout, stderr);
            Ok::<_, std::io::Error>(code)
        };
        let limit = if timeout == 0 { Duration::MAX } else { Duration::from_secs(timeout) };
        match tokio::time::timeout(limit, run).await {
            Ok(code) => {
                output.exit_code = code.map_err(failed)?.map_err(|message| exec_error(OPERATION, message))?;
                Ok(output)
            }
            Err(_) => {
                shim.call(OPERATION, Request::KillExec { exec: number }, &[]).await?;
                Err(Error::Timeout { operation: OPERATION, seconds: timeout })
            }
        }
    }

    pub(super) async fn run_exec(&self, id: &str, args: Vec<String>, streams: Streams) -> cri::Result<i32> {
        const OPERATION: &str = "exec";
        let (_, shim) = self.running(id, OPERATION)?;
        let failed = |error: std::io::Error| Error::Failed { operation: OPERATION, message: error.to_string() };
        let ours = [&streams.stdin, &streams.stdout, &streams.stderr];
        let passed: Vec<RawFd> = if streams.tty {
            Vec::new()
        } else {
            ours.iter().filter_map(|fd| Some(fd.as_ref()?.as_raw_fd())).collect()
        };
        let present = ours.map(|fd| fd.is_some() && !streams.tty);
        let spec = ExecSpec { container: id.to_owned(), args, tty: streams.tty, streams: present };
        let (number, mut answers) = shim.send(Request::Exec(spec), &passed).await.map_err(failed)?;
        let guard = KillOnDrop { shim: Some((Arc::clone(&shim), number)) };
        let fds = expect_started(answers.recv().await).map_err(|message| exec_error(OPERATION, message))?;
        let code = if streams.tty {
            let master = fds.into_iter().next().ok_or_else(|| exec_error(OPERATION, "no terminal came".into()))?;
            with_terminal(master, streams, answers.recv()).await.map_err(failed)?
        } else {
            // The caller's side sees the end of the streams when the process lets go of them.
            drop(streams);
            answers.recv().await
        };
        guard.disarm();
        expect_ended(code).map_err(|message| exec_error(OPERATION, message))
    }

    pub(super) async fn run_attach(&self, id: &str, streams: Streams) -> cri::Result<()> {
        const OPERATION: &str = "attach";
        let (container, shim) = self.running(id, OPERATION)?;
        let tty = container.record.config.tty;
        let stdin = match &streams.stdin {
            Some(_) => {
                Some(shim.call(OPERATION, Request::Stdin { container: id.to_owned(), close: false }, &[]).await?)
            }
            None => None,
        };
        let ours = [&None, &streams.stdout, &streams.stderr];
        let passed: Vec<RawFd> = ours.iter().filter_map(|fd| Some(fd.as_ref()?.as_raw_fd())).collect();
        let request = Request::Attach { container: id.to_owned(), streams: ours.map(Option::is_some) };
        let failed = |error: std::io::Error| Error::Failed { operation: OPERATION, message: error.to_string() };
        let (_, mut answers) = shim.send(request, &passed).await.map_err(failed)?;
        // Input that came before could be answered before anybody sees it.
        match answers.recv().await {
            Some((Reply::Attached, _)) => {}
            Some((Reply::Failed { message }, _)) => return Err(Error::Failed { operation: OPERATION, message }),
            Some(_) | None => return Err(exec_error(OPERATION, "the Pod's shim has ended".into())),
        }
        let target = stdin.and_then(|(_, fds)| fds.into_iter().next());
        // A pipe ends when the last one who could write lets go; a terminal is needed for its size, too.
        let (pipe, terminal) = if tty { (None, target) } else { (target, None) };
        let Streams { stdin, stdout, stderr, resize, .. } = streams;
        drop((stdout, stderr));
        let input = async {
            match (stdin, pipe, terminal.as_ref()) {
                (Some(from), Some(to), _) => {
                    pump(from, &to).await?;
                    drop(to);
                    if container.record.config.stdin_once {
                        let close = Request::Stdin { container: id.to_owned(), close: true };
                        // The container may have ended meanwhile.
                        drop(shim.call(OPERATION, close, &[]).await);
                    }
                }
                (Some(from), None, Some(to)) => pump(from, to).await?,
                _ => {}
            }
            std::future::pending::<std::io::Result<()>>().await
        };
        let resizing = follow_size(resize, terminal.as_ref());
        tokio::select! {
            // Done, or the Pod is gone with its shim.
            _ = answers.recv() => Ok(()),
            error = input => error.map_err(failed),
            () = resizing => Ok(()),
        }
    }

    pub(super) async fn forward(&self, sandbox: &str, port: u16) -> cri::Result<OwnedFd> {
        const OPERATION: &str = "port forward";
        let shim = self.sandbox(sandbox)?.connection(OPERATION)?;
        let (_, fds) = shim.call(OPERATION, Request::PortForward { port }, &[]).await?;
        let failed = |message: String| Error::Failed { operation: OPERATION, message };
        let fd = fds.into_iter().next().ok_or_else(|| failed("no connection came from the shim".into()))?;
        let stream = std::net::TcpStream::from(fd);
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|error| failed(error.to_string()))?;
        stream.writable().await.map_err(|error| failed(error.to_string()))?;
        if let Some(error) = stream.take_error().map_err(|error| failed(error.to_string()))? {
            return Err(failed(format!("connect to port {port}: {error}")));
        }
        stream.into_std().map(OwnedFd::from).map_err(|error| failed(error.to_string()))
    }
}

fn exec_error(operation: &'static str, message: String) -> Error {
    Error::Failed { operation, message }
}

fn expect_started(answer: Option<Answer>) -> Result<Vec<OwnedFd>, String> {
    match answer {
        Some((Reply::ExecStarted, fds)) => Ok(fds),
        Some((Reply::NotStarted { message }, _)) => Err(format!(
            "failed to exec in container: failed to start exec: OCI runtime exec failed: \
            unable to start container process: {message}"
        )),
        Some((Reply::Failed { message }, _)) => Err(message),
        Some(_) => Err("an unexpected answer from the shim".into()),
        None => Err("the Pod's shim has ended".into()),
    }
}

fn expect_ended(answer: Option<Answer>) -> Result<i32, String> {
    match answer {
        Some((Reply::ExecEnded { code }, _)) => Ok(code),
        Some(_) => Err("an unexpected answer from the shim".into()),
        None => Err("the Pod's shim has ended".into()),
    }
}

/// A caller who gives up takes the process with it.
struct KillOnDrop {
    shim: Option<(Arc<Connection>, u64)>,
}

impl KillOnDrop {
    fn disarm(mut self) {
        self.shim = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some((shim, exec)) = self.shim.take() {
            tokio::spawn(async move { drop(shim.call("exec", Request::KillExec { exec }, &[]).await) });
        }
    }
}

/// Reads until the end or the limit.
async fn collect(from: &AsyncFd<OwnedFd>, into: &mut Vec<u8>) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length) = read(from, &mut chunk).await {
        if length == 0 {
            return;
        }
        let room = OUTPUT_LIMIT.saturating_sub(into.len());
        into.extend_from_slice(chunk.get(..length.min(room)).unwrap_or(&[]));
    }
}

fn take_rest(from: &AsyncFd<OwnedFd>, into: &mut Vec<u8>) {
    let mut chunk = vec![0; CHUNK];
    while into.len() < OUTPUT_LIMIT {
        match nix::unistd::read(from.get_ref(), &mut chunk) {
            Ok(length) if length > 0 => into.extend_from_slice(chunk.get(..length).unwrap_or(&[])),
            _ => return,
        }
    }
}

async fn read(from: &AsyncFd<OwnedFd>, chunk: &mut [u8]) -> std::io::Result<usize> {
    loop {
        let mut ready = from.readable().await?;
        match ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), chunk)?)) {
            Ok(result) => return result,
            Err(_would_block) => {}
        }
    }
}

async fn write(to: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = to.writable().await?;
        if let Ok(result) = ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
            bytes = bytes.get(result?..).unwrap_or(&[]);
        }
    }
    Ok(())
}

/// Copies until the end of `from`, or until nobody reads `to`.
async fn pump(from: OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    let to = to.try_clone()?;
    socket::set_nonblocking(&from)?;
    socket::set_nonblocking(&to)?;
    let (from, to) = (watch(from)?, watch(to)?);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match read(&from, &mut chunk).await {
            Ok(length) => length,
            // A terminal whose last user has gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(());
        }
        match write(&to, chunk.get(..length).unwrap_or(&[])).await {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
}

/// Runs the caller's streams over a terminal until the process has ended and its last output is through.
async fn with_terminal(
    master: OwnedFd,
    streams: Streams,
    ended: impl Future<Output = Option<Answer>>,
) -> std::io::Result<Option<Answer>> {
    let Streams { stdin, stdout, resize, .. } = streams;
    let output = async {
        match stdout {
            Some(to) => pump(master.try_clone()?, &to).await,
            None => Ok(()),
        }
    };
    let input = async {
        if let Some(from) = stdin {
            pump(from, &master).await?;
        }
        std::future::pending::<std::io::Result<()>>().await
    };
    let resizing = follow_size(resize, Some(&master));
    tokio::pin!(ended, output, input, resizing);
    let mut output_open = true;
    let answer = loop {
        tokio::select! {
            answer = &mut ended => break answer,
            result = &mut output, if output_open => { result?; output_open = false; }
            result = &mut input => result?,
            () = &mut resizing => {}
        }
    };
    if output_open {
        // The last output is in the terminal already; a child that keeps it open is not waited for.
        let drained = tokio::time::timeout(Duration::from_millis(100), output).await;
        if let Ok(result) = drained {
            result?;
        }
    }
    Ok(answer)
}

/// Never ends: sizes may come until all else is over.
async fn follow_size(resize: Option<tokio::sync::mpsc::Receiver<(u16, u16)>>, master: Option<&OwnedFd>) {
    if let (Some(mut sizes), Some(master)) = (resize, master) {
        while let Some((columns, rows)) = sizes.recv().await {
            // Fails for a terminal that is gone, which has no size.
            let _ = terminal::resize(master, columns, rows);
        }
    }
    std::future::pending().await
}
