//! Starts a container: a forked child of the shim mounts its root and has libcontainer make the rest, so that the
//! memory this takes is gone afterwards.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use super::confinement::Confinement;
use super::program;
use super::protocol::StartSpec;
use super::status::Sender;
use crate::syscall::{fs as files, mount, process};

/// libcontainer's own files, below the container's directory.
const STATE: &str = "state";
const CONSOLE: &str = "console.sock";

/// The container's ends of its streams; stdin is /dev/null where there is none. With a terminal there are none at all.
pub struct Streams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Runs in the forked child and ends it.
pub fn child(spec: &StartSpec, streams: Option<Streams>, trees: &[OwnedFd], status: Sender) -> i32 {
    process::set_name(c"cox-launch");
    match launch(spec, streams, trees, status) {
        Ok(()) => 0,
        Err(text) => {
            status.error(&text);
            1
        }
    }
}

fn launch(spec: &StartSpec, streams: Option<Streams>, trees: &[OwnedFd], status: Sender) -> Result<(), String> {
    let rootfs = spec.bundle.join("rootfs");
    let (upper, work) = (spec.bundle.join("upper"), spec.bundle.join("work"));
    mount::overlay(&mount::Overlay { lower: &spec.lower, upper: &upper, work: &work }, &rootfs)
        .map_err(|error| format!("mount root file system {}: {error}", rootfs.display()))?;
    for (tree, target) in trees.iter().zip(&spec.trees) {
        mount::attach_tree(tree, target).map_err(|error| format!("mount {}: {error}", target.display()))?;
    }
    let path = spec.bundle.join("config.json");
    let specification = Spec::load(&path).map_err(|error| chain(&error))?;
    make_working_directory(&specification, &rootfs)?;
    let confinement = Confinement::read(&spec.bundle, &specification)?;
    // Lowering it takes CAP_SYS_RESOURCE, which a node may lack.
    drop(fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string()));

    let console = spec.tty.then(|| listen_console(&spec.bundle)).transpose()?;
    let state = spec.bundle.join(STATE);
    fs::create_dir_all(&state).map_err(|error| format!("make {}: {error}", state.display()))?;
    let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_root_path(&state)
        .map_err(|error| chain(&error))?
        .with_executor(Program { status, confinement })
        .with_console_socket(console.as_ref().map(|_| spec.bundle.join(CONSOLE)));
    if let Some(streams) = streams {
        builder = builder.with_stdin(streams.stdin).with_stdout(streams.stdout).with_stderr(streams.stderr);
    }
    let container = builder
        .as_init(&spec.bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| chain(&error))?;
    let pid = container.pid().ok_or("the container has no process")?;
    let terminal = console.map(receive_terminal).transpose()?;
    status.pid(pid.as_raw());
    if let Some(terminal) = &terminal {
        status.terminal(terminal.as_raw_fd());
    }
    NotifySocket::new(state.join(&spec.id).join(NOTIFY_FILE)).notify_container_start().map_err(|error| chain(&error))
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// As runc does, the working directory is made when the image lacks it.
fn make_working_directory(spec: &Spec, rootfs: &Path) -> Result<(), String> {
    let Some(process) = spec.process() else { return Ok(()) };
    let root = fs::File::open(rootfs).map_err(|error| format!("open {}: {error}", rootfs.display()))?;
    files::make_directories(&root, process.cwd(), 0o755)
        .map(drop)
        .map_err(|error| format!("make working directory {}: {error}", process.cwd().display()))
}

fn listen_console(bundle: &Path) -> Result<UnixListener, String> {
    let error = |error: io::Error| format!("make console socket in {}: {error}", bundle.display());
    let directory = fs::File::open(bundle).map_err(error)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{CONSOLE}", directory.as_raw_fd())).map_err(error)
}

fn receive_terminal(listener: UnixListener) -> Result<OwnedFd, String> {
    let (stream, _): (UnixStream, _) = listener.accept().map_err(|error| format!("accept console: {error}"))?;
    let mut buffer = [0u8; 256];
    let (_, mut fds) = crate::syscall::socket::receive(std::os::fd::AsFd::as_fd(&stream), &mut buffer)
        .map_err(|error| format!("receive terminal: {error}"))?;
    fds.pop().ok_or_else(|| "no terminal came from the container".into())
}

/// Replaces the container's first process with the program, or says why not.
#[derive(Clone)]
struct Program {
    status: Sender,
    confinement: Confinement,
}

impl Executor for Program {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args =
            spec.process().as_ref().and_then(|process| process.args().as_ref()).ok_or(ExecutorError::InvalidArg)?;
        let text = match self.confinement.enter() {
            Ok(()) => program::run(args),
            Err(text) => text,
        };
        self.status.error(&text);
        Err(ExecutorError::Execution(text.into()))
    }

    /// Found out at exec, where the text reaches the user.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}
