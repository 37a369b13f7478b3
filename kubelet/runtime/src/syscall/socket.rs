//! Sequenced-packet Unix sockets that carry one message and its descriptors at a time.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket, socketpair,
};

/// Most descriptors that one message carries.
pub const MAX_FDS: usize = 32;
/// Longest message; the kernel's default socket buffer holds it.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// A connected pair, closed on exec.
pub fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Listens at `directory`/`name`. Goes through the directory's descriptor: a socket's path may have 107 bytes only.
pub fn listen_at(directory: &Path, name: &str) -> std::io::Result<OwnedFd> {
    let anchor = std::fs::File::open(directory)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{name}", anchor.as_raw_fd()).as_str())?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(fd.as_raw_fd(), &address)?;
    listen(&fd, Backlog::new(8)?)?;
    Ok(fd)
}

/// Connects to `directory`/`name`; the socket does not block.
pub fn connect_at(directory: &Path, name: &str) -> std::io::Result<OwnedFd> {
    let anchor = std::fs::File::open(directory)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{name}", anchor.as_raw_fd()).as_str())?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

pub fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: accept4 returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends one message whole; `EAGAIN` when the peer's buffer is full and the socket does not block.
pub fn send(fd: BorrowedFd<'_>, message: &[u8], fds: &[RawFd]) -> nix::Result<()> {
    let iov = [IoSlice::new(message)];
    let control = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &control };
    sendmsg::<()>(fd.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives one message into `buffer`; 0 is the peer's end. Descriptors that came along are closed on exec.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(fd.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel made these descriptors for this message; nothing else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) || message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((message.bytes, fds))
}

/// A TCP connection to `port` on this network namespace's loopback, IPv4 first. It may still be under way: wait until
/// it can be written.
pub fn connect_loopback(port: u16) -> std::io::Result<OwnedFd> {
    use nix::sys::socket::{SockaddrIn, SockaddrIn6};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let v4 = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let refused = match connect(v4.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) | Err(Errno::EINPROGRESS) => return Ok(v4),
        Err(errno) => errno,
    };
    let v6 = socket(AddressFamily::Inet6, SockType::Stream, flags, None)?;
    let address = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
    match connect(v6.as_raw_fd(), &SockaddrIn6::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(v6),
        Err(_) => Err(refused.into()),
    }
}

/// Reads from it fail with `EAGAIN` after so many seconds.
pub fn set_patience(fd: &OwnedFd, seconds: i64) -> nix::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
    use nix::sys::time::{TimeVal, TimeValLike};
    setsockopt(fd, ReceiveTimeout, &TimeVal::seconds(seconds))
}

/// Makes reads and writes return `EAGAIN` instead of waiting.
pub fn set_nonblocking<F: AsFd>(fd: &F) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
