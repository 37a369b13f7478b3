//! Runs a further process in a container: a forked child joins its cgroups and namespaces and takes on the user,
//! capabilities and seccomp filter that the container's own process has.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::confinement::Confinement;
use super::protocol::ExecSpec;
use super::status::Sender;
use super::{program, terminal};
use crate::syscall::process;

/// What the child needs to know of the container.
pub struct Target<'a> {
    pub pid: i32,
    pub bundle: &'a Path,
    pub cgroups: &'a [PathBuf],
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
    let confinement = Confinement::read(target.bundle, &spec)?;
    let pidfd = process::pidfd(target.pid).map_err(|error| format!("open process {}: {error}", target.pid))?;
    for cgroup in target.cgroups {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, "0").map_err(|error| format!("join {}: {error}", procs.display()))?;
    }
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
        let master = terminal::open(user.uid()).map_err(|error| format!("open terminal: {error}"))?;
        status.terminal(master.as_raw_fd());
    } else {
        connect_streams(streams).map_err(|error| format!("connect streams: {error}"))?;
    }
    process::close_on_exec_from_3().map_err(|error| format!("close descriptors: {error}"))?;
    take_identity(container)?;
    // SAFETY: this process is single-threaded.
    unsafe { set_environment(container) };
    Ok(())
}

fn connect_streams(streams: [Option<OwnedFd>; 3]) -> std::io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for (number, stream) in streams.iter().enumerate() {
        let fd = stream.as_ref().map_or(null.as_raw_fd(), AsRawFd::as_raw_fd);
        process::duplicate_onto(fd, number as i32)?;
    }
    Ok(())
}

fn take_identity(container: &Process) -> Result<(), String> {
    let user = container.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    process::set_user(user.uid(), user.gid(), &groups).map_err(|error| format!("set user {}: {error}", user.uid()))?;
    nix::unistd::chdir(container.cwd())
        .map_err(|error| format!("chdir to cwd ({:?}): {}", container.cwd(), error.desc().to_lowercase()))
}

/// # Safety
/// No other thread may exist.
unsafe fn set_environment(container: &Process) {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: promised by the caller.
        unsafe { std::env::remove_var(name) };
    }
    for entry in container.env().iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !name.is_empty() {
            // SAFETY: promised by the caller.
            unsafe { std::env::set_var(name, value) };
        }
    }
}
