//! What a shim makes before it answers: the Pod's namespaces, its network, its shared memory.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, unshare};

use super::protocol::{Network, SandboxSpec};
use crate::network::mac_of;
use crate::syscall::netlink::{Batch, Socket, VethEnd};
use crate::syscall::{mount, process};
use crate::sysctl;

type Result<T> = std::result::Result<T, String>;

/// Makes everything of the sandbox that lives in the kernel. All of it goes with the process, but for the cgroups.
/// Returns the pid of the Pod's first process when its containers share a PID namespace.
pub fn sandbox(spec: &SandboxSpec) -> Result<Option<i32>> {
    namespaces(spec)?;
    if !spec.host_ipc {
        let target = &spec.shared_memory;
        mount::shared_memory(target).map_err(|error| format!("mount {}: {error}", target.display()))?;
    }
    for (name, value) in &spec.sysctls {
        fs::write(sysctl::path(name), value).map_err(|error| format!("set sysctl {name}={value}: {error}"))?;
    }
    if !spec.pod_pid {
        return Ok(None);
    }
    let pid = first_process()?;
    let link = spec.shared_memory.with_file_name("pid");
    std::os::unix::fs::symlink(format!("/proc/{pid}/ns/pid"), &link)
        .map_err(|error| format!("make link {}: {error}", link.display()))?;
    Ok(Some(pid))
}

fn namespaces(spec: &SandboxSpec) -> Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS;
    if !spec.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    let Some(network) = &spec.network else {
        unshare(flags).map_err(|error| format!("make namespaces: {error}"))?;
        return mount::receive_only().map_err(|error| format!("set mount propagation: {error}"));
    };
    flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    let host = Socket::open().map_err(|error| format!("open netlink: {error}"))?;
    let host_namespace =
        fs::File::open("/proc/self/ns/net").map_err(|error| format!("open network namespace: {error}"))?;
    unshare(flags).map_err(|error| format!("make namespaces: {error}"))?;
    mount::receive_only().map_err(|error| format!("set mount propagation: {error}"))?;
    nix::unistd::sethostname(&spec.hostname).map_err(|error| format!("set hostname {}: {error}", spec.hostname))?;
    connect(network, &host, &host_namespace).map_err(|error| format!("set up Pod network: {error}"))
}

/// The veth pair, addresses and routes on both sides. Neighbours are fixed, so that no packet waits for ARP.
fn connect(network: &Network, host: &Socket, host_namespace: &fs::File) -> io::Result<()> {
    let pod = Socket::open()?;
    let inner = VethEnd { name: "eth0", mac: mac_of(network.address, false) };
    let outer = VethEnd { name: &network.host_link, mac: mac_of(network.address, true) };
    let mut batch = Batch::default();
    batch.veth(&inner, &outer, Some(host_namespace.as_raw_fd()), network.mtu);
    batch.link_up("lo");
    pod.apply(&batch)?;

    let eth0 = pod.index("eth0")?;
    let mut batch = Batch::default();
    batch.address(eth0, network.address);
    batch.link_route(eth0, network.gateway, None);
    batch.default_route(eth0, network.gateway);
    batch.neighbour(eth0, network.gateway, outer.mac);
    pod.apply(&batch)?;

    let index = host.index(&network.host_link)?;
    let mut batch = Batch::default();
    batch.link_up(&network.host_link);
    batch.address(index, network.gateway);
    batch.link_route(index, network.address, Some(network.gateway));
    batch.neighbour(index, network.address, inner.mac);
    host.apply(&batch)
}

/// The first process of a PID namespace that containers share: it reaps orphans, and nothing can be reached through
/// it: its root is an empty directory, it has no capabilities, and its memory is not readable.
fn first_process() -> Result<i32> {
    let (ours, theirs) = crate::syscall::socket::pair().map_err(|error| format!("make socket pair: {error}"))?;
    // The namespace is for the child alone, so an intermediate process enters it and leaves.
    let between = process::fork(|| {
        if unshare(CloneFlags::CLONE_NEWPID).is_err() {
            return 1;
        }
        let forked = process::fork_sibling(|| {
            if confine().is_err() || crate::syscall::socket::send(std::os::fd::AsFd::as_fd(&theirs), b"1", &[]).is_err()
            {
                return 1;
            }
            process::close_all_descriptors();
            reap_for_ever()
        });
        let Ok(pid) = forked else { return 1 };
        i32::from(
            crate::syscall::socket::send(std::os::fd::AsFd::as_fd(&theirs), &pid.as_raw().to_ne_bytes(), &[]).is_err(),
        )
    })
    .map_err(|error| format!("fork: {error}"))?;
    drop(theirs);
    let mut pid = None;
    let mut confined = false;
    let mut buffer = [0u8; 8];
    for _ in 0..2 {
        let received = crate::syscall::socket::receive(std::os::fd::AsFd::as_fd(&ours), &mut buffer)
            .map_err(|error| format!("wait for the PID namespace: {error}"))?;
        match received.0 {
            4 => pid = buffer.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes),
            1 => confined = true,
            _ => {}
        }
    }
    nix::sys::wait::waitpid(between, None).map_err(|error| format!("wait for a child: {error}"))?;
    pid.filter(|_| confined).ok_or_else(|| "the PID namespace's first process could not be started".into())
}

fn confine() -> nix::Result<()> {
    process::set_name(c"pause");
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount::empty_root()?;
    process::drop_all_privileges()?;
    process::set_undumpable()
}

/// Orphans are reaped by the kernel, since this process does not care for its children.
fn reap_for_ever() -> i32 {
    if process::ignore_children().is_err() {
        return 1;
    }
    loop {
        nix::unistd::pause();
    }
}
