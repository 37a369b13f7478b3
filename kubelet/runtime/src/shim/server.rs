//! The shim's loop: one epoll set over its sockets, its children's death, and its containers' output.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::container::{Container, Phase};
use super::log::unix_nanos;
use super::output::Flow;
use super::protocol::{Envelope, Exit, Message, Reply, SandboxSpec};
use super::status::Receiver;
use crate::syscall::{process, socket};

/// Cores that may be connected at once: one, and others that are going or only look.
const CORES: usize = 8;
/// Deaths remembered while it is not known yet whose they are.
const UNCLAIMED: usize = 64;

/// What a descriptor in the epoll set is.
pub(super) enum Source {
    Listener(OwnedFd),
    Deaths(SignalFd),
    Core(OwnedFd),
    /// A container's first process on its way.
    Start {
        container: String,
        pid: i32,
        status: Receiver,
    },
    /// A further process on its way.
    Exec {
        core: u64,
        number: u64,
        status: Receiver,
    },
    Output {
        container: String,
    },
    Tap {
        container: String,
    },
}

/// A further process that runs in a container.
pub(super) struct Running {
    pub core: u64,
    pub number: u64,
    pub pid: i32,
}

pub struct Shim {
    id: String,
    socket_directory: PathBuf,
    epoll: Epoll,
    next_token: u64,
    pub(super) sources: BTreeMap<u64, Source>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) execs: Vec<Running>,
    /// (pid, code, signal) of dead children that nobody is known to wait for yet.
    unclaimed: Vec<(i32, i32, i32)>,
    /// First process of the Pod's shared PID namespace.
    pub(super) pod_process: Option<i32>,
    /// (core, number) of requests to list, which wait for what is starting.
    pub(super) lists: Vec<(u64, u64)>,
    ended: bool,
}

impl Shim {
    /// Listens at `ID.sock` and leaves the pid in `ID.pid`.
    pub fn new(spec: &SandboxSpec, pod_process: Option<i32>, core: &OwnedFd) -> Result<Shim, String> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| format!("make epoll: {error}"))?;
        let mut shim = Shim {
            id: spec.id.clone(),
            socket_directory: spec.socket_directory.clone(),
            epoll,
            next_token: 0,
            sources: BTreeMap::new(),
            containers: BTreeMap::new(),
            execs: Vec::new(),
            unclaimed: Vec::new(),
            pod_process,
            lists: Vec::new(),
            ended: false,
        };
        let mut deaths = SigSet::empty();
        deaths.add(Signal::SIGCHLD);
        deaths.thread_block().map_err(|error| format!("block SIGCHLD: {error}"))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let deaths = SignalFd::with_flags(&deaths, flags).map_err(|error| format!("make signalfd: {error}"))?;
        let directory = &spec.socket_directory;
        let listener = socket::listen_at(directory, &format!("{}.sock", spec.id))
            .map_err(|error| format!("listen in {}: {error}", directory.display()))?;
        std::fs::write(directory.join(format!("{}.pid", spec.id)), std::process::id().to_string())
            .map_err(|error| format!("write pid in {}: {error}", directory.display()))?;
        shim.add(Source::Deaths(deaths), EpollFlags::EPOLLIN).map_err(|error| format!("watch: {error}"))?;
        shim.add(Source::Listener(listener), EpollFlags::EPOLLIN).map_err(|error| format!("watch: {error}"))?;
        socket::set_nonblocking(core).map_err(|error| format!("unblock socket: {error}"))?;
        Ok(shim)
    }

    /// Serves until a core says that the sandbox is over.
    pub fn serve(mut self, core: OwnedFd) -> Result<(), String> {
        self.add(Source::Core(core), EpollFlags::EPOLLIN).map_err(|error| format!("watch: {error}"))?;
        let mut events = [EpollEvent::empty(); 16];
        while !self.ended {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(format!("wait for events: {errno}")),
            };
            for event in events.iter().take(count) {
                self.dispatch(event.data(), event.events());
            }
        }
        for name in [format!("{}.sock", self.id), format!("{}.pid", self.id)] {
            // The core removes what is left.
            drop(std::fs::remove_file(self.socket_directory.join(name)));
        }
        Ok(())
    }

    fn dispatch(&mut self, token: u64, events: EpollFlags) {
        match self.sources.get(&token) {
            Some(Source::Listener(_)) => self.accept(token),
            Some(Source::Deaths(_)) => self.deaths(token),
            Some(Source::Core(_)) => self.core(token),
            Some(Source::Start { .. }) => self.starting(token),
            Some(Source::Exec { .. }) => self.exec_starting(token),
            Some(Source::Output { .. }) => self.output(token),
            Some(Source::Tap { .. }) => self.tap(token, events),
            // Gone by an earlier event of the same round.
            None => {}
        }
    }

    /// Watches `source`'s own descriptor.
    pub(super) fn add(&mut self, source: Source, flags: EpollFlags) -> nix::Result<u64> {
        let token = self.next_token;
        let event = EpollEvent::new(flags, token);
        match &source {
            Source::Listener(fd) | Source::Core(fd) => self.epoll.add(fd, event)?,
            Source::Deaths(fd) => self.epoll.add(fd, event)?,
            Source::Start { status, .. } | Source::Exec { status, .. } => self.epoll.add(status.fd(), event)?,
            Source::Output { .. } | Source::Tap { .. } => {}
        }
        self.next_token += 1;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Watches a descriptor that the container's record owns.
    pub(super) fn add_fd(&mut self, source: Source, fd: BorrowedFd<'_>, flags: EpollFlags) -> nix::Result<u64> {
        let token = self.add(source, flags)?;
        match self.epoll.add(fd, EpollEvent::new(flags, token)) {
            Ok(()) => Ok(token),
            Err(errno) => {
                self.sources.remove(&token);
                Err(errno)
            }
        }
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64, flags: EpollFlags) {
        // Fails only for a descriptor that is not in the set, and all of these are.
        let _ = self.epoll.modify(fd, &mut EpollEvent::new(flags, token));
    }

    fn accept(&mut self, token: u64) {
        let Some(Source::Listener(listener)) = self.sources.get(&token) else { return };
        let Ok(core) = socket::accept(listener) else { return };
        let connected = self.sources.values().filter(|source| matches!(source, Source::Core(_))).count();
        if connected < CORES {
            // Where it cannot be watched it is refused by dropping it; the core tries again.
            let _ = self.add(Source::Core(core), EpollFlags::EPOLLIN);
        }
    }

    fn core(&mut self, token: u64) {
        let Some(Source::Core(core)) = self.sources.get(&token) else { return };
        let mut buffer = vec![0; socket::MAX_MESSAGE];
        match socket::receive(core.as_fd(), &mut buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok((length, fds)) if length > 0 => {
                match serde_json::from_slice::<Envelope>(buffer.get(..length).unwrap_or(&[])) {
                    Ok(envelope) => self.request(token, envelope, fds),
                    Err(_) => drop(self.sources.remove(&token)),
                }
            }
            Ok(_) | Err(_) => drop(self.sources.remove(&token)),
        }
    }

    /// Sends to one core. One that does not read is let go: it connects again and lists.
    pub(super) fn send(&mut self, core: u64, message: &Message, fds: &[RawFd]) {
        let Some(Source::Core(socket)) = self.sources.get(&core) else { return };
        let sent = serde_json::to_vec(message)
            .map_err(|_| Errno::EINVAL)
            .and_then(|bytes| socket::send(socket.as_fd(), &bytes, fds));
        if sent.is_err() {
            self.sources.remove(&core);
        }
    }

    pub(super) fn reply(&mut self, core: u64, number: u64, reply: Reply) {
        self.send(core, &Message::Reply { number, reply }, &[]);
    }

    fn deaths(&mut self, token: u64) {
        if let Some(Source::Deaths(signals)) = self.sources.get(&token) {
            while let Ok(Some(_)) = signals.read_signal() {}
        }
        while let Some(death) = process::reap() {
            if !self.claim(death) && self.something_starts() && self.unclaimed.len() < UNCLAIMED {
                self.unclaimed.push(death);
            }
        }
    }

    fn something_starts(&self) -> bool {
        self.sources.values().any(|source| matches!(source, Source::Start { .. } | Source::Exec { .. }))
    }

    /// Whose process was it? False when nobody's that is known.
    fn claim(&mut self, (pid, code, signal): (i32, i32, i32)) -> bool {
        if let Some(at) = self.execs.iter().position(|exec| exec.pid == pid) {
            let exec = self.execs.swap_remove(at);
            self.reply(exec.core, exec.number, Reply::ExecEnded { code });
            return true;
        }
        let found = self.containers.values().find(|container| container.pid() == Some(pid));
        let Some(id) = found.map(|container| container.id.clone()) else { return false };
        self.container_ended(&id, code, signal);
        true
    }

    /// A process that is known from now on may be dead already.
    pub(super) fn claim_earlier(&mut self, pid: i32) {
        if let Some(at) = self.unclaimed.iter().position(|death| death.0 == pid) {
            let death = self.unclaimed.swap_remove(at);
            self.claim(death);
        }
        if !self.something_starts() {
            self.unclaimed.clear();
        }
    }

    /// Takes the last output, then makes the end known.
    fn container_ended(&mut self, id: &str, code: i32, signal: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Running { started_at, .. } = container.phase else { return };
        let oom_killed = container.cgroups.first().is_some_and(|cgroup| crate::cgroup::oom_killed(cgroup));
        if !container.own_pid_namespace {
            crate::cgroup::kill_all(&container.cgroups);
        }
        for output in &mut container.outputs {
            while output.pump(&mut container.log, &mut container.taps) == Flow::More {}
        }
        container.taps.retain(|tap| !tap.overrun());
        let exit = Exit { code, signal, oom_killed, started_at, finished_at: unix_nanos(), start_error: String::new() };
        // A full disk: cores that are connected learn it by message, later ones by asking.
        drop(container.record(&exit));
        container.phase = Phase::Ended { started_at, exit: exit.clone() };
        container.stdin = None;
        container.terminal = None;
        self.detach_finished(id);
        let cores: Vec<u64> = self
            .sources
            .iter()
            .filter(|(_, source)| matches!(source, Source::Core(_)))
            .map(|(token, _)| *token)
            .collect();
        for core in cores {
            self.send(core, &Message::Exited { container: id.to_owned(), exit: exit.clone() }, &[]);
        }
    }

    fn output(&mut self, token: u64) {
        let Some(Source::Output { container }) = self.sources.get(&token) else { return };
        let id = container.clone();
        let Some(container) = self.containers.get_mut(&id) else { return };
        let Some(at) = container.outputs.iter().position(|output| output.token == token) else { return };
        let Some(output) = container.outputs.get_mut(at) else { return };
        if output.pump(&mut container.log, &mut container.taps) == Flow::Ended {
            container.outputs.swap_remove(at);
            self.sources.remove(&token);
        }
        self.let_go_of_slow(&id);
        self.set_interest(&id);
    }

    /// A client that does not keep up does not keep the container waiting: it is told that this is the end.
    fn let_go_of_slow(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if !container.taps.iter().any(super::output::Tap::overrun) {
            return;
        }
        let (slow, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut container.taps).into_iter().partition(super::output::Tap::overrun);
        container.taps = kept;
        for tap in slow {
            self.sources.remove(&tap.token);
        }
        self.answer_clients(id);
    }

    fn set_interest(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else { return };
        for tap in &container.taps {
            let flags = if tap.blocked() { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            self.watch(tap.fd.as_fd(), tap.token, flags);
        }
    }

    fn tap(&mut self, token: u64, events: EpollFlags) {
        let Some(Source::Tap { container }) = self.sources.get(&token) else { return };
        let id = container.clone();
        let Some(container) = self.containers.get_mut(&id) else { return };
        let Some(at) = container.taps.iter().position(|tap| tap.token == token) else { return };
        let hung_up = events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        if hung_up || container.taps.get_mut(at).is_some_and(|tap| tap.flush() == Flow::Ended) {
            container.taps.swap_remove(at);
            self.sources.remove(&token);
        }
        self.detach_finished(&id);
        self.set_interest(&id);
    }

    /// Lets go of clients that are gone, or that have everything of a container that has ended.
    pub(super) fn detach_finished(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let over = matches!(container.phase, Phase::Ended { .. });
        let (kept, done): (Vec<_>, Vec<_>) =
            std::mem::take(&mut container.taps).into_iter().partition(|tap| !over || tap.blocked());
        container.taps = kept;
        for tap in done {
            self.sources.remove(&tap.token);
        }
        self.answer_clients(id);
    }

    fn answer_clients(&mut self, id: &str) {
        let sources = &self.sources;
        let Some(container) = self.containers.get_mut(id) else { return };
        let over = matches!(container.phase, Phase::Ended { .. });
        let taps = &container.taps;
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut container.clients).into_iter().partition(|client| {
            let connected = sources.contains_key(&client.core);
            let sees = taps.iter().any(|tap| client.taps.contains(&tap.token));
            !connected || (!sees && (over || !client.taps.is_empty()))
        });
        container.clients = kept;
        for client in gone {
            self.reply(client.core, client.number, Reply::Done);
        }
    }

    /// Ends everything and lets the loop stop.
    pub(super) fn shut_down(&mut self) {
        for container in self.containers.values() {
            if container.pid().is_some() {
                crate::cgroup::kill_all(&container.cgroups);
            }
        }
        if let Some(pid) = self.pod_process {
            // It fails for one that is gone already, which is as good.
            let _ = process::signal(pid, libc::SIGKILL);
        }
        self.ended = true;
    }
}
