//! As much of SCTP (RFC 9260) as shows where a packet got to: an INIT and the INIT ACK that answers it, on raw sockets,
//! for many kernels have no SCTP of their own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The tag that a client chooses, and its answers bear.
const TAG: u32 = 0x1357_9bdf;

/// A socket that sees the SCTP packets of the network namespace in which it is made. It can be used from any.
pub struct Raw(UdpSocket);

/// One packet with one chunk.
struct Packet {
    from: Ipv4Addr,
    source: u16,
    destination: u16,
    chunk: u8,
}

impl Raw {
    /// Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self(socket))
    }

    /// Answers whoever asks for an association with this port, until somebody did or the time is over.
    pub fn answer(&self, port: u16, limit: Duration) -> io::Result<bool> {
        let asked = self.until(limit, |packet| packet.destination == port && packet.chunk == INIT)?;
        let Some(asked) = asked else { return Ok(false) };
        self.send(asked.from, packet(port, asked.source, INIT_ACK))?;
        Ok(true)
    }

    /// Asks for an association with `to` from this port; whether the answer came from there.
    pub fn ask(&self, own: u16, to: (Ipv4Addr, u16), limit: Duration) -> io::Result<bool> {
        self.send(to.0, packet(own, to.1, INIT))?;
        let answers = |packet: &Packet| {
            packet.chunk == INIT_ACK && packet.destination == own && (packet.from, packet.source) == to
        };
        Ok(self.until(limit, answers)?.is_some())
    }

    fn send(&self, to: Ipv4Addr, packet: Vec<u8>) -> io::Result<()> {
        self.0.send_to(&packet, SocketAddr::new(to.into(), 0)).map(drop)
    }

    fn until(&self, limit: Duration, wanted: impl Fn(&Packet) -> bool) -> io::Result<Option<Packet>> {
        let began = Instant::now();
        let mut buffer = [0; 2048];
        while began.elapsed() < limit {
            match self.0.recv_from(&mut buffer) {
                Ok((length, SocketAddr::V4(from))) => {
                    if let Some(packet) = read(*from.ip(), &buffer[..length]).filter(&wanted) {
                        return Ok(Some(packet));
                    }
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// A received packet, which begins with its IPv4 header.
fn read(from: Ipv4Addr, bytes: &[u8]) -> Option<Packet> {
    let header = usize::from(bytes.first()? & 0xf) * 4;
    let sctp = bytes.get(header..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*sctp.get(at)?, *sctp.get(at + 1)?]));
    Some(Packet { from, source: port(0)?, destination: port(2)?, chunk: *sctp.get(12)? })
}

fn packet(source: u16, destination: u16, chunk: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    // An INIT bears no tag, its answer the asker's.
    bytes.extend(if chunk == INIT { 0 } else { TAG }.to_be_bytes());
    bytes.extend([0; 4]);
    // Type, flags, length; initiate tag, window, streams out and in, first sequence number.
    bytes.extend([chunk, 0, 0, 20]);
    bytes.extend(TAG.to_be_bytes());
    bytes.extend(65_536_u32.to_be_bytes());
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(1_u32.to_be_bytes());
    let sum = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

/// The checksum of SCTP (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standards() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
