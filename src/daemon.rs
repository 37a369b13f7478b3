//! Detaching: the cluster goes on in a session of its own while the parent waits for its word that the node is Ready.
//!
//! The child is the same command line run again (`fork` alone is no use to a process that will have threads). Its
//! standard output is the pipe that the parent reads: progress lines are passed on, the end of the pipe is the word.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::layout::Layout;
use crate::progress::say;

/// Set in the child's environment: it is the detached one.
const MARK: &str = "COX_DETACHED";

/// What a detached cluster prints as its last line before it lets go of the pipe.
const READY: &str = "ready";

/// Begins the line that says why a detached cluster ends before that: the log may be on a disk that is full.
const FAILED: &str = "failed: ";

/// Whether this process is the detached child.
pub fn is_child() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs this command line again in a session of its own, and returns when it said that it is ready.
pub fn detach(layout: &Layout) -> Result<()> {
    let log_path = layout.log_file();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path);
    let log = log.with_context(|| format!("open {}", log_path.display()))?;
    let program = std::env::current_exe().context("find this program's file")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(MARK, "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
    let mut child = command.spawn().context("start the detached process")?;
    let pipe = child.stdout.take().context("the detached process's output is missing")?;
    let mut failure = None;
    for line in BufReader::new(pipe).lines() {
        let line = line.context("read the detached process's progress")?;
        if line == READY {
            return Ok(());
        }
        match line.strip_prefix(FAILED) {
            Some(why) => failure = Some(why.to_owned()),
            None => say(&line),
        }
    }
    let status = child.wait().context("wait for the detached process")?;
    match failure {
        Some(why) => bail!("the cluster did not start: {why}\n({} may say more)", log_path.display()),
        None => bail!("the cluster did not start ({status}); {} says why:\n{}", log_path.display(), tail(layout)),
    }
}

/// The last lines of the log, for the person who waits.
fn tail(layout: &Layout) -> String {
    let text = std::fs::read_to_string(layout.log_file()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Tells the service manager that started this process, if one did and waits for it, that it is ready (sd_notify(3)).
fn tell_manager() -> Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    let address = address.context("read NOTIFY_SOCKET")?;
    UnixDatagram::unbound()
        .and_then(|own| own.send_to_addr(b"READY=1", &address))
        .map(drop)
        .context("tell the service manager that the node is Ready")
}

/// Says that the node is Ready: to the service manager, and in the child to the parent, whose pipe it lets go of.
pub fn say_ready() -> Result<()> {
    tell_manager()?;
    if !is_child() {
        return Ok(());
    }
    say(READY);
    let null = OpenOptions::new().write(true).open("/dev/null").context("open /dev/null")?;
    nix::unistd::dup2_stdout(&null).context("let go of the parent's pipe")?;
    Ok(())
}

/// In the child: says why it ends. Does nothing in the foreground, nor once the parent has gone on.
pub fn say_failed(why: &str) {
    if is_child() {
        say(&format!("{FAILED}{}", why.replace('\n', " ")));
    }
}
