//! Netlink messages of the netfilter subsystem: writing them, reading attributes, and one blocking socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::Error;

/// Length of `struct nlmsghdr` and of `struct nfgenmsg`, bytes.
const HEADER: usize = 16;
const GENMSG: usize = 4;
/// Length of a netlink attribute's header, bytes.
const ATTR_HEADER: usize = 4;
/// Receive buffer for one datagram, bytes: the kernel's dumps use at most 32 KiB a datagram.
const RECEIVE: usize = 64 * 1024;
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;
const EXTACK_MSG: u16 = 1;

/// Rounds up to netlink's alignment of four bytes.
const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// One or more netlink messages under construction.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    message: usize,
}

/// Where an open nested attribute began; to be handed back to [`Writer::close`].
#[must_use]
pub struct Nest(usize);

impl Writer {
    /// Begins a message of `kind` (subsystem << 8 | message) for address family `family`.
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32, family: u8, resource: u16) {
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    /// Ends the message that [`Writer::begin`] began.
    pub fn end(&mut self) {
        let len = (self.bytes.len() - self.message) as u32;
        self.bytes[self.message..self.message + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Appends one attribute, padded.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        debug_assert!(value.len() + ATTR_HEADER <= usize::from(u16::MAX), "attribute too long");
        let len = (value.len() + ATTR_HEADER) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Appends a 32-bit attribute in network byte order, as netfilter wants them.
    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Appends a 64-bit attribute in network byte order.
    pub fn attr_u64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Appends a NUL-terminated string.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        let len = (value.len() + 1 + ATTR_HEADER) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Opens a nested attribute.
    pub fn open(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        Nest(at)
    }

    /// Closes a nested attribute; false if it grew beyond what its length field can say.
    pub fn close(&mut self, nest: Nest) -> bool {
        let len = self.bytes.len() - nest.0;
        let Ok(short) = u16::try_from(len) else { return false };
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&short.to_ne_bytes());
        true
    }

    /// Length so far, bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The finished messages.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Iterates over attributes: (type without flags, value). Ends at the first malformed one.
#[derive(Clone, Copy)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The value of the first attribute of this type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// A nested attribute's content.
    pub fn nested(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    /// A 32-bit attribute in network byte order.
    pub fn get_u32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A 16-bit attribute in network byte order.
    pub fn get_u16(self, kind: u16) -> Option<u16> {
        self.get(kind)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A string, without its NUL.
    pub fn get_str(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.first_chunk::<ATTR_HEADER>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = self.0.get(ATTR_HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// One message as received.
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    /// Address family of the netfilter header (0 for control messages).
    pub family: u8,
    /// What follows the netlink header.
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after the netfilter header.
    pub fn attrs(&self) -> Attrs<'a> {
        Attrs(self.body.get(GENMSG..).unwrap_or(&[]))
    }

    /// The error (0 is an acknowledgement) that a control message carries, with the kernel's words if any.
    fn error(&self) -> Option<(i32, Option<String>)> {
        if i32::from(self.kind) != libc::NLMSG_ERROR {
            return None;
        }
        let code = i32::from_ne_bytes(*self.body.first_chunk::<4>()?);
        let echoed = self.body.get(4..8).and_then(|b| b.try_into().ok()).map_or(HEADER, |b| {
            // Without NLM_F_CAPPED the whole refused message is echoed before the attributes.
            if self.flags & 0x100 == 0 { u32::from_ne_bytes(b) as usize } else { HEADER }
        });
        let attrs = Attrs(self.body.get(4 + align(echoed)..).unwrap_or(&[]));
        Some((-code, attrs.get_str(EXTACK_MSG).map(str::to_owned)))
    }
}

/// Splits a datagram into its messages.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<HEADER>()?;
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = datagram.get(HEADER..len)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            family: body.first().copied().unwrap_or(0),
            body,
        };
        datagram = datagram.get(align(len)..).unwrap_or(&[]);
        Some(message)
    })
}

/// What the kernel said about one message of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub seq: u32,
    pub errno: i32,
    pub extended: Option<String>,
}

/// A blocking NETLINK_NETFILTER socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    send_limit: usize,
}

fn failed(operation: &'static str) -> impl FnOnce(nix::Error) -> Error {
    move |errno| Error::Socket { operation, source: errno.into() }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
            .map_err(failed("open socket"))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("bind socket"))?;
        let socket = Self { fd, buffer: vec![0; RECEIVE], send_limit: 0 };
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        Ok(socket)
    }

    fn set_option(&self, level: i32, option: i32, value: i32) -> Result<(), Error> {
        // SAFETY: the pointer and length describe one i32 that outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(&value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(Error::Socket { operation: "set socket option", source: io::Error::last_os_error() }),
        }
    }

    /// Sends one or more messages as a single datagram, with a send buffer that holds it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // The kernel keeps a whole batch in one buffer and counts its own overhead against the limit.
        let needed = bytes.len().saturating_mul(2).max(256 * 1024);
        if needed > self.send_limit {
            let value = i32::try_from(needed).unwrap_or(i32::MAX);
            self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, value)
                .or_else(|_| self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, value))?;
            self.send_limit = needed;
        }
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(failed("send")(errno)),
            }
        }
    }

    fn receive(&mut self, flags: MsgFlags) -> Result<usize, nix::Error> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Err(nix::Error::EINTR) => {}
                other => return other,
            }
        }
    }

    /// Collects what the kernel refused of what was just sent. It handles a batch within `send`, so everything it has
    /// to say is already queued: never waits.
    pub fn refusals(&mut self) -> Result<Vec<Refusal>, Error> {
        let mut found = Vec::new();
        loop {
            let len = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(nix::Error::EAGAIN) => return Ok(found),
                Err(nix::Error::ENOBUFS) => continue,
                Err(errno) => return Err(failed("receive")(errno)),
            };
            for message in messages(&self.buffer[..len]) {
                if let Some((errno, extended)) = message.error()
                    && errno != 0
                {
                    found.push(Refusal { seq: message.seq, errno, extended });
                }
            }
        }
    }

    /// Sends a dump request and calls `each` for every answer; `Ok(false)` if the kernel says that the dump was
    /// interrupted by a change and must be repeated.
    pub fn dump(&mut self, request: &[u8], seq: u32, mut each: impl FnMut(&Message<'_>)) -> Result<bool, Error> {
        self.send(request)?;
        let mut whole = true;
        loop {
            let len = self.receive(MsgFlags::empty()).map_err(failed("receive dump"))?;
            let mut done = false;
            for message in messages(&self.buffer[..len]) {
                if message.seq != seq {
                    continue;
                }
                whole &= message.flags & (libc::NLM_F_DUMP_INTR as u16) == 0;
                if let Some((errno, _)) = message.error() {
                    if errno != 0 {
                        let source = io::Error::from_raw_os_error(errno);
                        return Err(Error::Socket { operation: "dump", source });
                    }
                    done = true;
                } else if i32::from(message.kind) == libc::NLMSG_DONE {
                    done = true;
                } else {
                    each(&message);
                }
            }
            if done {
                return Ok(whole);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip_with_padding_and_nesting() {
        let mut writer = Writer::default();
        writer.begin(0x0a00, 5, 7, 2, 0);
        writer.attr_str(1, "abc");
        let nest = writer.open(4);
        writer.attr_u32(1, 0x0102_0304);
        writer.attr(2, &[9]);
        assert!(writer.close(nest));
        writer.end();

        let parsed: Vec<_> = messages(writer.bytes()).collect();
        assert_eq!(parsed.len(), 1);
        assert_eq!((parsed[0].kind, parsed[0].flags, parsed[0].seq, parsed[0].family), (0x0a00, 5, 7, 2));
        let attrs = parsed[0].attrs();
        assert_eq!(attrs.get_str(1), Some("abc"));
        let nested = attrs.nested(4).unwrap_or(Attrs(&[]));
        assert_eq!(nested.get_u32(1), Some(0x0102_0304));
        assert_eq!(nested.get(2), Some(&[9u8][..]));
    }

    #[test]
    fn malformed_attributes_end_the_walk() {
        assert_eq!(Attrs(&[8, 0, 1, 0, 1]).count(), 0);
        assert_eq!(Attrs(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(Attrs(&[]).count(), 0);
    }
}
