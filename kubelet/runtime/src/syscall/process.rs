//! Processes: fork, reaping, pidfds, joining namespaces.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Runs `body` in a forked child, which exits with its result and never returns. To be called by single-threaded
/// processes only.
pub fn fork(body: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: the caller is single-threaded, so the child may go on with any code.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            restore_signals();
            let code = body();
            exit(code)
        }
    }
}

/// As [`fork`], with a child in new namespaces, as `flags` of clone(2) say, and born in a control group of version 2.
pub fn fork_into(flags: libc::c_int, cgroup: Option<&OwnedFd>, body: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: clone_args is plain data; all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: a fork without shared memory by a single-threaded process; the structure lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &args, std::mem::size_of::<libc::clone_args>()) };
    match Errno::result(result)? {
        0 => {
            restore_signals();
            exit(body())
        }
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// As [`fork_into`], with a child in the PID namespace of the process `first`.
pub fn fork_beside(
    first: i32,
    flags: libc::c_int,
    cgroup: Option<&OwnedFd>,
    body: impl FnOnce() -> i32,
) -> nix::Result<Pid> {
    let own = pidfd(std::process::id() as i32)?;
    // Only where children are born changes by this.
    join(&pidfd(first)?, libc::CLONE_NEWPID)?;
    let forked = fork_into(flags, cgroup, body);
    join(&own, libc::CLONE_NEWPID)?;
    forked
}

/// As [`fork`], but the child's parent is the caller's own parent.
pub fn fork_sibling(body: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: a fork without shared memory; `CLONE_PARENT` takes the exit signal from the caller. No pointers passed.
    let result = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    match Errno::result(result)? {
        0 => exit(body()),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// Ends the process at once, without running exit handlers that belong to the process it was forked from.
pub fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// What a container's process expects: nothing ignored, nothing blocked.
pub fn restore_signals() {
    // SAFETY: sets the default action; no handler is involved.
    let pipe = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let mask = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    debug_assert!(pipe.is_ok() && mask.is_ok());
}

/// The next dead child: its pid, exit code (128 + signal when killed) and the signal. `None` when there is none now.
pub fn reap() -> Option<(i32, i32, i32)> {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid.as_raw(), code, 0)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((pid.as_raw(), 128 + signal as i32, signal as i32));
            }
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// Orphans below this process come to it.
pub fn become_subreaper() -> nix::Result<()> {
    // SAFETY: an integer option.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// The name that `ps` shows.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: a C string of at most 15 bytes is copied. A wrong name harms nobody, so the result is not looked at.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Others may not look into this process's memory or follow its links in /proc.
pub fn set_undumpable() -> nix::Result<()> {
    // SAFETY: an integer option.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

pub fn pidfd(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: integers only.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: pidfd_open returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Sends a signal to just this process, never to one that got its number later.
pub fn signal_pidfd(fd: &OwnedFd, signal: i32) -> nix::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; no siginfo is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// Waits until the process has ended; false when it had not within `milliseconds`.
pub fn wait_pidfd(fd: &OwnedFd, milliseconds: u16) -> nix::Result<bool> {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut set, milliseconds) {
            Err(Errno::EINTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

/// Joins namespaces of the process behind `pidfd`; `flags` as of setns(2).
pub fn join(pidfd: &OwnedFd, flags: libc::c_int) -> nix::Result<()> {
    // SAFETY: a descriptor and flags.
    Errno::result(unsafe { libc::setns(pidfd.as_raw_fd(), flags) }).map(drop)
}

/// Every descriptor from 3 on closes at exec, whoever opened it.
pub fn close_on_exec_from_3() -> nix::Result<()> {
    // SAFETY: integers only; marks descriptors, closes none.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    Errno::result(result).map(drop)
}

/// No privileges from exec any more.
pub fn set_no_new_privileges() -> nix::Result<()> {
    // SAFETY: an integer option.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// One arena, and freed memory goes back at once: a shim lives long and does little.
pub fn keep_heap_small() {
    // SAFETY: tunables of the C library's allocator; results say only whether the tunable exists.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 * 1024);
        libc::mallopt(libc::M_TOP_PAD, 4 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * 1024);
    }
}

/// Becomes user and group 65535 with no capabilities and no way to get any.
pub fn drop_all_privileges() -> nix::Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    set_no_new_privileges()?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(65535), Gid::from_raw(65535));
    setresgid(group, group, group)?;
    // Leaving uid 0 clears every capability set but the bounding one, and exec cannot give them back.
    setresuid(user, user, user)
}

/// Closes everything, standard streams too.
pub fn close_all_descriptors() {
    // SAFETY: the caller goes on without any descriptor; closing what is not open is no error.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
}

/// Children of this process leave no zombies.
pub fn ignore_children() -> nix::Result<()> {
    // SAFETY: sets a default action; no handler is involved.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map(drop)
}

/// Undoes [`ignore_children`].
pub fn care_for_children() -> nix::Result<()> {
    // SAFETY: sets a default action; no handler is involved.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

/// The place of this process's last argument, which `ps` shows.
pub struct Title {
    address: usize,
    length: usize,
}

impl Title {
    /// `None` where the kernel does not say where arguments are, or the last one is not `expected`.
    pub fn of_last_argument(expected: &str) -> Option<Title> {
        /// Fields of /proc/PID/stat after the name in parentheses; `arg_start` and `arg_end` are its 48th and 49th.
        const AFTER_NAME: usize = 3;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let field = |number: usize| fields.split(' ').nth(number - AFTER_NAME)?.trim().parse::<usize>().ok();
        let (start, end, length) = (field(48)?, field(49)?, expected.len());
        let address = end.checked_sub(length + 1).filter(|address| *address > start)?;
        // SAFETY: between these addresses the kernel put the arguments, which stay mapped; nobody writes there.
        let found = unsafe { std::slice::from_raw_parts(address as *const u8, length) };
        (found == expected.as_bytes()).then_some(Title { address, length })
    }

    /// Writes another text of at most the same length there.
    pub fn set(&self, text: &str) {
        let bytes = text.as_bytes().iter().copied().chain(std::iter::repeat(0)).take(self.length);
        for (offset, byte) in bytes.enumerate() {
            // SAFETY: within the argument that `of_last_argument` found, in the stack of this process, which is
            // single-threaded and reads its arguments no more.
            unsafe { ((self.address + offset) as *mut u8).write(byte) };
        }
    }
}

/// Makes `number` another name of `fd`, open across exec.
pub fn duplicate_onto(fd: std::os::fd::RawFd, number: i32) -> nix::Result<()> {
    if fd == number {
        // SAFETY: integers only.
        return Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: integers only; `number` is a standard stream, which no owner in this process closes.
    Errno::result(unsafe { libc::dup2(fd, number) }).map(drop)
}

/// Becomes the user and group, with exactly these supplementary groups. Permitted capabilities stay.
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> nix::Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // SAFETY: an integer option.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // SAFETY: an integer option.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) }).map(drop)
}

/// Sends a signal to a process; one that is gone needs none.
pub fn signal(pid: i32, number: i32) -> nix::Result<()> {
    // SAFETY: integers only; a number that is no signal gives EINVAL.
    match Errno::result(unsafe { libc::kill(pid, number) }) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Kills a process and all its descendants. It is stopped first, so that it has no more while they are looked up.
pub fn kill_tree(root: i32) {
    /// Descendants looked at; a fork bomb beyond is the cgroup's limit to bear.
    const MOST: usize = 4096;
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied().filter(|_| found.len() < MOST) {
        at += 1;
        // These signals exist; a process that is gone meanwhile is as good.
        let _ = signal(pid, libc::SIGSTOP);
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    for pid in found {
        // As above.
        let _ = signal(pid, libc::SIGKILL);
    }
}

/// Kills the process if its command line is the one that is meant, and waits until it is gone. Gone already is fine.
pub fn kill_and_wait(pid: i32, is_meant: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let Ok(fd) = pidfd(pid) else { return Ok(()) };
    // Read after the descriptor is held: the number cannot become another process's in between.
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !is_meant(&String::from_utf8_lossy(&command_line)) {
        return Ok(());
    }
    match signal_pidfd(&fd, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    if wait_pidfd(&fd, 30_000)? {
        Ok(())
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("process {pid} does not end")))
    }
}

/// Lets a compiled filter judge every system call from now on. Takes CAP_SYS_ADMIN or no_new_privs.
pub fn load_filter(program: &[u8]) -> nix::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(std::mem::size_of::<libc::sock_filter>())
        .filter_map(|bytes| match bytes {
            [a, b, jt, jf, k @ ..] => Some(libc::sock_filter {
                code: u16::from_ne_bytes([*a, *b]),
                jt: *jt,
                jf: *jf,
                k: u32::from_ne_bytes(k.try_into().ok()?),
            }),
            _ => None,
        })
        .collect();
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?;
    let filter = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: the program and its instructions live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter) }).map(drop)
}
