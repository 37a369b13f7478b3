//! rtnetlink, as much as a Pod's network needs: links, addresses, routes, neighbours, many requests in one write.
//! A socket stays in the network namespace in which it was opened.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

const HEADER: usize = 16;
const IFINFOMSG: usize = 16;
const VETH_INFO_PEER: u16 = 1;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;

pub type Mac = [u8; 6];

/// Requests that are sent together and applied in their order.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each request is, for the error.
    subjects: Vec<String>,
}

/// One end of a veth pair to be made.
pub struct VethEnd<'a> {
    pub name: &'a str,
    pub mac: Mac,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, subject: String, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        let sequence = self.subjects.len() as u32;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | ACK | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(&mut self.bytes);
        set_length32(&mut self.bytes, start);
        self.subjects.push(subject);
    }

    /// A veth pair: `here`, which is up, in the socket's namespace, `there` in the one behind `namespace`, or here too.
    /// The kernel cannot have the far end up before the pair is whole.
    pub fn veth(&mut self, here: &VethEnd<'_>, there: &VethEnd<'_>, namespace: Option<RawFd>, mtu: u32) {
        let subject = format!("make link {} with peer {}", here.name, there.name);
        self.message(libc::RTM_NEWLINK, NEW, subject, |out| {
            link_header(out, 0, libc::IFF_UP as u32);
            link_attributes(out, here, mtu);
            nested(out, libc::IFLA_LINKINFO, |out| {
                attribute(out, libc::IFLA_INFO_KIND, b"veth");
                nested(out, libc::IFLA_INFO_DATA, |out| {
                    nested(out, VETH_INFO_PEER, |out| {
                        link_header(out, 0, 0);
                        link_attributes(out, there, mtu);
                        if let Some(namespace) = namespace {
                            attribute(out, libc::IFLA_NET_NS_FD, &(namespace as u32).to_ne_bytes());
                        }
                    });
                });
            });
        });
    }

    pub fn link_up(&mut self, name: &str) {
        self.message(libc::RTM_NEWLINK, 0, format!("set link {name} up"), |out| {
            link_header(out, 0, libc::IFF_UP as u32);
            attribute(out, libc::IFLA_IFNAME, &terminated(name));
        });
    }

    pub fn delete_link(&mut self, name: &str) {
        self.message(libc::RTM_DELLINK, 0, format!("delete link {name}"), |out| {
            link_header(out, 0, 0);
            attribute(out, libc::IFLA_IFNAME, &terminated(name));
        });
    }

    /// `address`/32 on the link.
    pub fn address(&mut self, index: u32, address: Ipv4Addr) {
        self.message(libc::RTM_NEWADDR, REPLACE, format!("add address {address}/32"), |out| {
            out.extend_from_slice(&[libc::AF_INET as u8, 32, 0, 0]);
            out.extend_from_slice(&index.to_ne_bytes());
            attribute(out, libc::IFA_LOCAL, &address.octets());
            attribute(out, libc::IFA_ADDRESS, &address.octets());
        });
    }

    /// `destination`/32 is on the link itself; packets to it carry `source` unless the sender chose.
    pub fn link_route(&mut self, index: u32, destination: Ipv4Addr, source: Option<Ipv4Addr>) {
        let subject = format!("add route to {destination}/32");
        self.message(libc::RTM_NEWROUTE, REPLACE, subject, |out| {
            route_header(out, 32, libc::RT_SCOPE_LINK);
            attribute(out, libc::RTA_DST, &destination.octets());
            attribute(out, libc::RTA_OIF, &index.to_ne_bytes());
            if let Some(source) = source {
                attribute(out, libc::RTA_PREFSRC, &source.octets());
            }
        });
    }

    pub fn default_route(&mut self, index: u32, gateway: Ipv4Addr) {
        self.message(libc::RTM_NEWROUTE, REPLACE, format!("add default route via {gateway}"), |out| {
            route_header(out, 0, libc::RT_SCOPE_UNIVERSE);
            attribute(out, libc::RTA_GATEWAY, &gateway.octets());
            attribute(out, libc::RTA_OIF, &index.to_ne_bytes());
        });
    }

    /// `address` is at `mac` on the link, for good: no ARP.
    pub fn neighbour(&mut self, index: u32, address: Ipv4Addr, mac: Mac) {
        self.message(libc::RTM_NEWNEIGH, REPLACE, format!("add neighbour {address}"), |out| {
            out.extend_from_slice(&[libc::AF_INET as u8, 0, 0, 0]);
            out.extend_from_slice(&index.to_ne_bytes());
            out.extend_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
            out.extend_from_slice(&[0, 0]);
            attribute(out, libc::NDA_DST, &address.octets());
            attribute(out, libc::NDA_LLADDR, &mac);
        });
    }
}

fn link_header(out: &mut Vec<u8>, index: i32, up: u32) {
    out.extend_from_slice(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
    out.extend_from_slice(&index.to_ne_bytes());
    out.extend_from_slice(&up.to_ne_bytes());
    out.extend_from_slice(&up.to_ne_bytes());
}

fn link_attributes(out: &mut Vec<u8>, end: &VethEnd<'_>, mtu: u32) {
    attribute(out, libc::IFLA_IFNAME, &terminated(end.name));
    attribute(out, libc::IFLA_ADDRESS, &end.mac);
    attribute(out, libc::IFLA_MTU, &mtu.to_ne_bytes());
}

fn route_header(out: &mut Vec<u8>, prefix: u8, scope: u8) {
    let (table, protocol, kind) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RTN_UNICAST);
    out.extend_from_slice(&[libc::AF_INET as u8, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]);
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn nested(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
    body(out);
    let length = ((out.len() - start) as u16).to_ne_bytes();
    if let Some(place) = out.get_mut(start..start + 2) {
        place.copy_from_slice(&length);
    }
}

fn set_length32(out: &mut [u8], start: usize) {
    let length = ((out.len() - start) as u32).to_ne_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length);
    }
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A netlink socket of the network namespace that the thread was in when it opened it.
pub struct Socket(OwnedFd);

impl Socket {
    pub fn open() -> io::Result<Socket> {
        // SAFETY: integers only.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        // SAFETY: socket returned a new descriptor.
        Ok(Socket(unsafe { OwnedFd::from_raw_fd(Errno::result(raw)?) }))
    }

    /// Sends the batch and waits for every answer; the error names the first request that failed.
    pub fn apply(&self, batch: &Batch) -> io::Result<()> {
        self.send(&batch.bytes)?;
        let mut first = Ok(());
        let mut open = batch.subjects.len();
        while open > 0 {
            let mut buffer = [0u8; 8192];
            let length = self.receive(&mut buffer)?;
            for message in Messages(buffer.get(..length).unwrap_or(&[])) {
                if message.kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                open = open.saturating_sub(1);
                let code = read_i32(message.body, 0);
                if code != 0 && first.is_ok() {
                    let errno = Errno::from_raw(-code);
                    let subject = batch.subjects.get(message.sequence as usize).map_or("request", String::as_str);
                    first = Err(io::Error::new(io::Error::from(errno).kind(), format!("{subject}: {errno}")));
                }
            }
        }
        first
    }

    /// The link's index.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        let mut bytes = request(libc::RTM_GETLINK, REQUEST);
        link_header(&mut bytes, 0, 0);
        attribute(&mut bytes, libc::IFLA_IFNAME, &terminated(name));
        set_length32(&mut bytes, 0);
        self.send(&bytes)?;
        let mut buffer = [0u8; 8192];
        let length = self.receive(&mut buffer)?;
        for message in Messages(buffer.get(..length).unwrap_or(&[])) {
            if message.kind == libc::RTM_NEWLINK {
                return Ok(read_i32(message.body, 4) as u32);
            }
            if message.kind == libc::NLMSG_ERROR as u16 {
                return Err(Errno::from_raw(-read_i32(message.body, 0)).into());
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("no answer about link {name}")))
    }

    /// Names of all links that begin with `prefix`.
    pub fn links(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut bytes = request(libc::RTM_GETLINK, REQUEST | libc::NLM_F_DUMP as u16);
        link_header(&mut bytes, 0, 0);
        set_length32(&mut bytes, 0);
        self.send(&bytes)?;
        let mut names = Vec::new();
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in Messages(buffer.get(..length).unwrap_or(&[])) {
                if message.kind == libc::NLMSG_DONE as u16 {
                    return Ok(names);
                }
                let name = (message.kind == libc::RTM_NEWLINK).then(|| link_name(message.body)).flatten();
                names.extend(name.filter(|name| name.starts_with(prefix)));
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length of a live slice.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        Errno::result(sent)?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // SAFETY: pointer and length of a live slice.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            match Errno::result(length) {
                Ok(length) => return Ok(length as usize),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn request(kind: u16, flags: u16) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages in one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32::from_ne_bytes(self.0.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(self.0.get(8..12)?.try_into().ok()?);
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message { kind, sequence, body })
    }
}

fn read_i32(body: &[u8], at: usize) -> i32 {
    body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

fn link_name(body: &[u8]) -> Option<String> {
    let mut rest = body.get(IFINFOMSG..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == libc::IFLA_IFNAME {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return Some(String::from_utf8_lossy(value.get(..end)?).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}
