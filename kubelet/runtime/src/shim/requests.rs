//! What a core may ask of a shim.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::epoll::EpollFlags;
use nix::unistd::{Pid, pipe2};

use super::container::{Client, Container, Phase};
use super::log::{LogFile, Stream, unix_nanos};
use super::output::{Output, Tap};
use super::protocol::{Envelope, ExecSpec, Message, Reply, Request, StartSpec};
use super::server::{Running, Shim, Source};
use super::status::{Receiver, Sender};
use super::{exec, launch};
use crate::syscall::{process, socket};

type Result<T> = std::result::Result<T, String>;

impl Shim {
    pub(super) fn request(&mut self, core: u64, envelope: Envelope, fds: Vec<OwnedFd>) {
        let number = envelope.number;
        let done = match envelope.request {
            Request::Sandbox(_) => Err("this shim has its sandbox".into()),
            // These answer later.
            Request::Start(spec) if self.containers.contains_key(&spec.id) => {
                Err(format!("container {} was started before", spec.id))
            }
            Request::Start(spec) => match self.start(core, number, &spec, fds) {
                Ok(()) => return,
                Err(text) => {
                    self.forget(&spec.id);
                    Err(text)
                }
            },
            Request::Exec(spec) => match self.exec(core, number, &spec, fds) {
                Ok(()) => return,
                Err(text) => Err(text),
            },
            Request::Attach { container, streams } => match self.attach(core, number, &container, streams, fds) {
                Ok(()) => return,
                Err(text) => Err(text),
            },
            Request::Stdin { container, close } => return self.stdin(core, number, &container, close),
            Request::PortForward { port } => return self.port_forward(core, number, port),
            Request::List => {
                self.lists.push((core, number));
                return self.answer_lists();
            }
            Request::Signal { container, signal, all } => self.signal(&container, signal, all),
            Request::KillExec { exec } => self.kill_exec(core, exec),
            Request::ReopenLog { container } => self.reopen_log(&container),
            Request::Remove { container } => self.remove(&container),
            Request::Shutdown => {
                self.shut_down();
                Ok(())
            }
        };
        let reply = match done {
            Ok(()) => Reply::Done,
            Err(message) => Reply::Failed { message },
        };
        self.reply(core, number, reply);
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| format!("container {id} is not known to its shim"))
    }

    fn start(&mut self, core: u64, number: u64, spec: &StartSpec, trees: Vec<OwnedFd>) -> Result<()> {
        let log = LogFile::open(spec.log_path.clone())
            .map_err(|error| format!("open log {}: {error}", spec.log_path.display()))?;
        let container = Container {
            id: spec.id.clone(),
            bundle: spec.bundle.clone(),
            cgroups: spec.cgroups.clone(),
            placement: spec.placement.clone(),
            own_pid_namespace: spec.own_pid_namespace,
            phase: Phase::Starting { core, number },
            log,
            outputs: Vec::new(),
            taps: Vec::new(),
            clients: Vec::new(),
            stdin: None,
            terminal: None,
        };
        self.containers.insert(spec.id.clone(), container);
        let streams =
            if spec.tty { [None, None, None] } else { self.streams(spec).map_err(|e| format!("make pipes: {e}"))? };
        let (ours, theirs) = socket::pair().map_err(|error| format!("make status channel: {error}"))?;
        let status = Sender::new(&theirs);
        let pid = self.fork_first(spec, || launch::child(spec, &streams, &trees, status))?;
        drop(theirs);
        socket::set_nonblocking(&ours).map_err(|error| format!("unblock status channel: {error}"))?;
        let source = Source::Start { container: spec.id.clone(), pid, status: Receiver::new(ours) };
        self.add(source, EpollFlags::EPOLLIN).map(drop).map_err(|error| format!("watch status channel: {error}"))
    }

    /// The container's first process, in its namespaces and, on version 2, its control group.
    fn fork_first(&self, spec: &StartSpec, body: impl FnOnce() -> i32) -> Result<i32> {
        let birthplace = spec.placement.birthplace().map_err(|error| error.to_string())?;
        let forked = match self.pod_process.filter(|_| !spec.own_pid_namespace) {
            Some(first) => process::fork_beside(first, libc::CLONE_NEWNS, birthplace.as_ref(), body),
            None => {
                let own = if spec.own_pid_namespace { libc::CLONE_NEWPID } else { 0 };
                process::fork_into(libc::CLONE_NEWNS | own, birthplace.as_ref(), body)
            }
        };
        forked.map(Pid::as_raw).map_err(|error| format!("fork: {error}"))
    }

    /// Pipes for a container without a terminal: its ends are returned, ours go to its record.
    fn streams(&mut self, spec: &StartSpec) -> nix::Result<[Option<OwnedFd>; 3]> {
        let stdin = if spec.stdin {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            if let Some(container) = self.containers.get_mut(&spec.id) {
                container.stdin = Some(ours);
            }
            Some(theirs)
        } else {
            None
        };
        let (out, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (err, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        self.watch_output(&spec.id, Stream::Stdout, out)?;
        self.watch_output(&spec.id, Stream::Stderr, err)?;
        Ok([stdin, Some(stdout), Some(stderr)])
    }

    fn watch_output(&mut self, id: &str, stream: Stream, fd: OwnedFd) -> nix::Result<()> {
        socket::set_nonblocking(&fd)?;
        let source = Source::Output { container: id.to_owned() };
        let token = self.add_fd(source, fd.as_fd(), EpollFlags::EPOLLIN)?;
        if let Some(container) = self.containers.get_mut(id) {
            container.outputs.push(Output::new(token, stream, fd));
        }
        Ok(())
    }

    pub(super) fn starting(&mut self, token: u64) {
        let Some(Source::Start { status, .. }) = self.sources.get_mut(&token) else { return };
        if !status.advance() {
            return;
        }
        let Some(Source::Start { container: id, pid, mut status }) = self.sources.remove(&token) else { return };
        let Some(container) = self.containers.get_mut(&id) else { return };
        let Phase::Starting { core, number } = container.phase else { return };
        if status.error.is_some() || !status.ready {
            let message = status.error.unwrap_or_else(|| "the starting process ended without a word".into());
            self.forget(&id);
            self.reply(core, number, Reply::NotStarted { message });
            return self.answer_lists();
        }
        let started_at = unix_nanos();
        container.phase = Phase::Running { pid, started_at };
        if let Some(terminal) = status.terminal.take() {
            let copy = terminal.try_clone();
            container.terminal = Some(terminal);
            if let Ok(copy) = copy {
                // Fails for want of memory: the terminal still works, only its log stays empty.
                let _ = self.watch_output(&id, Stream::Stdout, copy);
            }
        }
        self.reply(core, number, Reply::Started { pid, started_at });
        self.answer_lists();
        self.claim_earlier(pid);
    }

    /// A list would say nothing right of a container that is just starting.
    fn answer_lists(&mut self) {
        if self.containers.values().any(|container| matches!(container.phase, Phase::Starting { .. })) {
            return;
        }
        let listed: Vec<_> = self.containers.values().filter_map(Container::listed).collect();
        for (core, number) in std::mem::take(&mut self.lists) {
            self.reply(core, number, Reply::Listed(listed.clone()));
        }
    }

    fn exec(&mut self, core: u64, number: u64, spec: &ExecSpec, fds: Vec<OwnedFd>) -> Result<()> {
        let container = self.container(&spec.container)?;
        let pid = container.pid().ok_or_else(|| format!("container {} is not running", spec.container))?;
        let (bundle, placement) = (container.bundle.clone(), container.placement.clone());
        let mut fds = fds.into_iter();
        let streams = spec.streams.map(|present| if present { fds.next() } else { None });
        let (ours, theirs) = socket::pair().map_err(|error| format!("make status channel: {error}"))?;
        let status = Sender::new(&theirs);
        let target = exec::Target { pid, bundle: &bundle, placement: &placement };
        let birthplace = placement.birthplace().map_err(|error| error.to_string())?;
        process::fork_into(0, birthplace.as_ref(), || exec::child(spec, &target, streams, status))
            .map_err(|error| format!("fork: {error}"))?;
        drop(theirs);
        socket::set_nonblocking(&ours).map_err(|error| format!("unblock status channel: {error}"))?;
        let source = Source::Exec { core, number, status: Receiver::new(ours) };
        self.add(source, EpollFlags::EPOLLIN).map(drop).map_err(|error| format!("watch status channel: {error}"))
    }

    pub(super) fn exec_starting(&mut self, token: u64) {
        let Some(Source::Exec { status, .. }) = self.sources.get_mut(&token) else { return };
        if !status.advance() {
            return;
        }
        let Some(Source::Exec { core, number, status }) = self.sources.remove(&token) else { return };
        let (Some(pid), None) = (status.pid, &status.error) else {
            let message = status.error.unwrap_or_else(|| "the starting process ended without a word".into());
            return self.reply(core, number, Reply::NotStarted { message });
        };
        self.execs.push(Running { core, number, pid });
        let fds: Vec<_> = status.terminal.iter().map(AsRawFd::as_raw_fd).collect();
        self.send(core, &Message::Reply { number, reply: Reply::ExecStarted }, &fds);
        self.claim_earlier(pid);
    }

    fn kill_exec(&mut self, core: u64, number: u64) -> Result<()> {
        if let Some(exec) = self.execs.iter().find(|exec| exec.core == core && exec.number == number) {
            process::kill_tree(exec.pid);
        }
        Ok(())
    }

    fn attach(&mut self, core: u64, number: u64, id: &str, streams: [bool; 3], fds: Vec<OwnedFd>) -> Result<()> {
        if self.container(id)?.pid().is_none() {
            return Err(format!("container {id} is not running"));
        }
        let mut client = Client { core, number, taps: Vec::new() };
        let wanted = [Stream::Stdout, Stream::Stderr].into_iter().zip(streams.into_iter().skip(1));
        let wanted = wanted.filter(|(_, present)| *present).map(|(stream, _)| stream);
        for (stream, fd) in wanted.zip(fds) {
            socket::set_nonblocking(&fd).map_err(|error| format!("unblock stream: {error}"))?;
            let source = Source::Tap { container: id.to_owned() };
            let token =
                self.add_fd(source, fd.as_fd(), EpollFlags::empty()).map_err(|error| format!("watch: {error}"))?;
            client.taps.push(token);
            self.container(id)?.taps.push(Tap::new(token, stream, fd));
        }
        self.container(id)?.clients.push(client);
        self.reply(core, number, Reply::Attached);
        Ok(())
    }

    fn stdin(&mut self, core: u64, number: u64, id: &str, close: bool) {
        let Some(container) = self.containers.get_mut(id) else {
            return self.reply(core, number, Reply::Failed { message: format!("container {id} is not known") });
        };
        if close {
            container.stdin = None;
            return self.reply(core, number, Reply::Done);
        }
        let fd = container.terminal.as_ref().or(container.stdin.as_ref()).map(AsRawFd::as_raw_fd);
        self.send(core, &Message::Reply { number, reply: Reply::Done }, fd.as_slice());
    }

    fn port_forward(&mut self, core: u64, number: u64, port: u16) {
        match socket::connect_loopback(port) {
            Ok(fd) => self.send(core, &Message::Reply { number, reply: Reply::Done }, &[fd.as_raw_fd()]),
            Err(error) => {
                let message = format!("connect to port {port}: {error}");
                self.reply(core, number, Reply::Failed { message });
            }
        }
    }

    fn signal(&mut self, id: &str, signal: i32, all: bool) -> Result<()> {
        let container = self.container(id)?;
        let Some(pid) = container.pid() else { return Ok(()) };
        if all && !container.own_pid_namespace {
            crate::cgroup::kill_all(&container.cgroups);
        }
        process::signal(pid, signal).map_err(|error| format!("send signal {signal} to container {id}: {error}"))
    }

    fn reopen_log(&mut self, id: &str) -> Result<()> {
        self.container(id)?.log.reopen().map_err(|error| format!("open log again: {error}"))
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        match self.containers.get(id).map(|container| &container.phase) {
            Some(Phase::Starting { .. } | Phase::Running { .. }) => Err(format!("container {id} is running")),
            Some(Phase::Ended { .. }) => {
                self.forget(id);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Drops everything of a container but its files.
    fn forget(&mut self, id: &str) {
        let Some(container) = self.containers.remove(id) else { return };
        for token in
            container.outputs.iter().map(|output| output.token).chain(container.taps.iter().map(|tap| tap.token))
        {
            self.sources.remove(&token);
        }
    }
}
