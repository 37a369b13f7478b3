//! Runs a further process in a container: a forked child joins its cgroups and namespaces and takes on the user,
//! capabilities and seccomp filter that the container's own process has.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use libcontainer::oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::confinement::Confinement;
use super::protocol::ExecSpec;
use super::status::Sender;
use super::{entry, program, terminal};
use crate::cgroup::Placement;
use crate::syscall::process;

/// What the child needs to know of the container.
pub struct Target<'a> {
    pub pid: i32,
    pub bundle: &'a Path,
    pub placement: &'a Placement,
}

/// Runs in the forked child and ends it. `streams` are stdin, stdout, stderr; absent ones are /dev/null.
pub fn child(exec: &ExecSpec, target: &Target<'_>, streams: [Option<OwnedFd>; 3], status: Sender) -> i32 {
    process::set_name(c"cox-exec");
    match enter(exec, target, streams, status) {
        Ok(()) => 0,
        Err(text) => {
            status.error(&text);
            1
        }
    }
}

fn enter(exec: &ExecSpec, target: &Target<'_>, streams: [Option<OwnedFd>; 3], status: Sender) -> Result<(), String> {
    let path = target.bundle.join("config.json");
    let spec = Spec::load(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let confinement = Confinement::read(&spec)?;
    let pidfd = process::pidfd(target.pid).map_err(|error| format!("open process {}: {error}", target.pid))?;
    target.placement.join().map_err(|error| error.to_string())?;
    inherit_oom_score(target.pid);
    // What the container could read of this process once it is inside is not for it.
    process::set_undumpable().map_err(|error| format!("hide process: {error}"))?;
    process::join(&pidfd, namespaces(&spec)).map_err(|error| format!("join namespaces: {error}"))?;
    // The PID namespace is for children only. The child's parent is the shim, which reaps it.
    let pid = process::fork_sibling(|| {
        let text = match prepare(exec, &spec, streams, status).and_then(|()| confinement.enter()) {
            Ok(()) => program::run(&exec.args),
            Err(text) => text,
        };
        status.error(&text);
        1
    })
    .map_err(|error| format!("fork: {error}"))?;
    status.pid(pid.as_raw());
    Ok(())
}

fn inherit_oom_score(pid: i32) {
    if let Ok(score) = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")) {
        // Lowering it takes CAP_SYS_RESOURCE, which a node may lack.
        drop(fs::write("/proc/self/oom_score_adj", score));
    }
}

fn namespaces(spec: &Spec) -> libc::c_int {
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
    listed.iter().fold(0, |flags, namespace| {
        flags
            | match namespace.typ() {
                LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
                LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
                LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
                LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
                LinuxNamespaceType::Network => libc::CLONE_NEWNET,
                LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
                LinuxNamespaceType::User | LinuxNamespaceType::Time => 0,
            }
    })
}

/// Everything but the confinement.
fn prepare(exec: &ExecSpec, spec: &Spec, streams: [Option<OwnedFd>; 3], status: Sender) -> Result<(), String> {
    let container = spec.process().as_ref().ok_or("the container has no process")?;
    nix::unistd::setsid().map_err(|error| format!("make session: {error}"))?;
    if exec.tty {
        let user = container.user();
        let (master, _) = terminal::open(user.uid()).map_err(|error| format!("open terminal: {error}"))?;
        status.terminal(master.as_raw_fd());
    } else {
        entry::connect_streams(&streams)?;
    }
    process::close_on_exec_from_3().map_err(|error| format!("close descriptors: {error}"))?;
    entry::take_identity(container)?;
    // SAFETY: this process is single-threaded.
    unsafe { entry::set_environment(container) };
    Ok(())
}
