//! Starts a container: a forked child of the shim, in the namespaces that the container is to have, makes its root and
//! becomes its program. Memory that this takes is gone with the exec.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use libcontainer::oci_spec::runtime::Spec;

use super::confinement::Confinement;
use super::protocol::StartSpec;
use super::status::Sender;
use super::{entry, program, root, terminal};
use crate::syscall::{mount, process};

/// Runs in the forked child and ends it. `streams` are stdin, stdout, stderr; an absent one is /dev/null. With a
/// terminal there are none.
pub fn child(spec: &StartSpec, streams: &[Option<OwnedFd>; 3], trees: &[OwnedFd], status: Sender) -> i32 {
    process::set_name(c"cox-launch");
    status.error(&launch(spec, streams, trees, status));
    1
}

/// Returns only why the program does not run.
fn launch(spec: &StartSpec, streams: &[Option<OwnedFd>; 3], trees: &[OwnedFd], status: Sender) -> String {
    let prepared = prepare(spec, streams, trees, status).and_then(|(args, confinement)| {
        status.ready();
        confinement.enter().map(|()| args)
    });
    match prepared {
        Ok(args) => program::run(&args),
        Err(text) => text,
    }
}

fn prepare(
    start: &StartSpec,
    streams: &[Option<OwnedFd>; 3],
    trees: &[OwnedFd],
    status: Sender,
) -> Result<(Vec<String>, Confinement), String> {
    let path = start.bundle.join("config.json");
    let spec = Spec::load(&path).map_err(|error| chain(&error))?;
    let confinement = Confinement::read(&spec)?;
    let process = spec.process().as_ref().ok_or("the container has no process")?;
    start.placement.join().map_err(|error| error.to_string())?;
    // Lowering it takes CAP_SYS_RESOURCE, which a node may lack.
    drop(fs::write("/proc/self/oom_score_adj", start.oom_score_adj.to_string()));
    // Others in a shared PID namespace could read this process, which comes from the node.
    process::set_undumpable().map_err(|error| format!("hide process: {error}"))?;
    nix::unistd::setsid().map_err(|error| format!("make session: {error}"))?;
    root::make(start, &spec, trees)?;
    if start.tty {
        let uid = process.user().uid();
        let (master, slave) = terminal::open(uid).map_err(|error| format!("open terminal: {error}"))?;
        console(&slave).map_err(|error| format!("mount /dev/console: {error}"))?;
        status.terminal(master.as_raw_fd());
    } else {
        entry::connect_streams(streams)?;
    }
    root::restrict(&spec)?;
    process::close_on_exec_from_3().map_err(|error| format!("close descriptors: {error}"))?;
    entry::take_identity(process)?;
    // SAFETY: this process is single-threaded.
    unsafe { entry::set_environment(process) };
    Ok((process.args().clone().unwrap_or_default(), confinement))
}

/// The terminal is the container's console, too.
fn console(slave: &OwnedFd) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    const CONSOLE: &str = "/dev/console";
    let options = &mut fs::File::options();
    drop(
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o666)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open(CONSOLE)?,
    );
    mount::attach_tree(&mount::clone_file(slave)?, CONSOLE.as_ref())?;
    Ok(())
}

/// An error with its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
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
