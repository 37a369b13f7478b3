//! Listens on UDP and TCP and answers.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::forward::{Forwarder, Transport};
use super::records::Records;
use super::respond::{Outcome, UDP_LIMIT, respond, response};

/// Smallest UDP message that every client takes, bytes (RFC 1035).
const UDP_MINIMUM: u16 = 512;
/// Largest query taken over UDP, bytes.
const QUERY_LIMIT: usize = 4096;
/// TCP connections at once, at most.
const CONNECTIONS: usize = 256;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Queries that wait for another server at once, at most; see also the forwarder's own bound.
const WAITING: usize = 1024;

/// What all listeners share.
pub struct Shared {
    pub records: RwLock<Records>,
    pub domain: String,
    pub forwarder: Forwarder,
    rotation: AtomicUsize,
    waiting: Arc<Semaphore>,
}

impl Shared {
    pub fn new(domain: String, forwarder: Forwarder) -> Self {
        Self {
            records: RwLock::default(),
            domain,
            forwarder,
            rotation: AtomicUsize::new(0),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    fn outcome(&self, query: &Message) -> Outcome {
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        respond(&self.records.read(), &self.domain, query, rotation)
    }

    /// The response to what needs another server.
    async fn finish(&self, query: &Message, outcome: Outcome, transport: Transport) -> Message {
        match outcome {
            Outcome::Respond(message) => *message,
            Outcome::Forward => match self.forwarder.ask(query, transport).await {
                Some(message) => message,
                None => response(query, ResponseCode::ServFail),
            },
            Outcome::Chase(mut message, target) => {
                let mut onward = query.clone();
                onward.queries.iter_mut().for_each(|question| question.name = target.clone());
                match self.forwarder.ask(&onward, transport).await {
                    Some(found) => {
                        message.metadata.response_code = found.metadata.response_code;
                        message.metadata.truncation |= found.metadata.truncation;
                        message.answers.extend(found.answers);
                        message.authorities.extend(found.authorities);
                    }
                    None => message.metadata.response_code = ResponseCode::ServFail,
                }
                *message
            }
        }
    }
}

/// Encodes a message into at most `limit` bytes: what does not fit is left out and the message says so.
fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    let result = message.emit(&mut encoder);
    match result {
        Ok(()) => Some(bytes),
        // Not even question and OPT record fit beside what was written: answer with these alone.
        Err(_) => message.truncate().to_vec().ok().filter(|bytes| bytes.len() <= limit.into()),
    }
}

/// What a server of no records answers to a packet, for the fuzz targets.
pub fn untrusted(bytes: &[u8]) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(bytes) else { return encode(&malformed(bytes)?, UDP_MINIMUM) };
    match respond(&super::records::Records::default(), "cluster.local", &query, 0) {
        Outcome::Respond(message) | Outcome::Chase(message, _) => encode(&message, udp_limit(&query)),
        Outcome::Forward => encode(&response(&query, ResponseCode::ServFail), udp_limit(&query)),
    }
}

/// What a client takes over UDP, bytes.
fn udp_limit(query: &Message) -> u16 {
    query.edns.as_ref().map_or(UDP_MINIMUM, |edns| edns.max_payload().clamp(UDP_MINIMUM, UDP_LIMIT))
}

/// A response to bytes that are no query, if they have at least an identifier.
fn malformed(bytes: &[u8]) -> Option<Message> {
    let id = u16::from_be_bytes(*bytes.first_chunk::<2>()?);
    // Responses are never answered: two servers would talk for ever.
    let is_query = bytes.get(2).is_some_and(|flags| flags & 0x80 == 0);
    is_query.then(|| Message::error_msg(id, hickory_proto::op::OpCode::Query, ResponseCode::FormErr))
}

/// Binds one address; it may come to exist only later.
fn bound(kind: SockType, addr: SocketAddr) -> nix::Result<std::os::fd::OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    match addr.ip() {
        IpAddr::V4(_) => setsockopt(&fd, sockopt::IpFreebind, &true)?,
        IpAddr::V6(_) => setsockopt(&fd, sockopt::Ipv6V6Only, &true)?,
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    Ok(fd)
}

/// The two sockets of one address.
pub struct Listener {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

impl Listener {
    /// Listens on `addr`.
    pub fn bind(addr: SocketAddr) -> anyhow::Result<Self> {
        let udp = bound(SockType::Datagram, addr).with_context(|| format!("bind UDP {addr}"))?;
        let tcp = bound(SockType::Stream, addr).with_context(|| format!("bind TCP {addr}"))?;
        listen(&tcp, Backlog::new(128).unwrap_or(Backlog::MAXCONN)).with_context(|| format!("listen on TCP {addr}"))?;
        Ok(Self {
            udp: Arc::new(UdpSocket::from_std(udp.into()).with_context(|| format!("UDP {addr}"))?),
            tcp: TcpListener::from_std(tcp.into()).with_context(|| format!("TCP {addr}"))?,
        })
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, shared: Arc<Shared>) -> anyhow::Result<()> {
        tokio::try_join!(serve_udp(self.udp, shared.clone()), serve_tcp(self.tcp, shared))?;
        Ok(())
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut buffer = vec![0; QUERY_LIMIT];
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (len, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // What the network says about an earlier answer is nothing to stop for.
            Err(error) => {
                tracing::debug!(%error, "DNS over UDP");
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let bytes = &buffer[..len];
        let Ok(query) = Message::from_vec(bytes) else {
            if let Some(message) = malformed(bytes) {
                send(&socket, &message, UDP_MINIMUM, client).await;
            }
            continue;
        };
        if query.metadata.message_type != hickory_proto::op::MessageType::Query {
            continue;
        }
        let limit = udp_limit(&query);
        match shared.outcome(&query) {
            Outcome::Respond(message) => send(&socket, &message, limit, client).await,
            outcome => match shared.waiting.clone().try_acquire_owned() {
                Ok(slot) => {
                    let (socket, shared) = (socket.clone(), shared.clone());
                    tasks.spawn(async move {
                        let message = shared.finish(&query, outcome, Transport::Udp).await;
                        send(&socket, &message, limit, client).await;
                        drop(slot);
                    });
                }
                Err(_) => send(&socket, &response(&query, ResponseCode::ServFail), limit, client).await,
            },
        }
    }
}

async fn send(socket: &UdpSocket, message: &Message, limit: u16, client: SocketAddr) {
    let Some(bytes) = encode(message, limit) else {
        tracing::debug!(%client, "DNS response does not fit");
        return;
    };
    if let Err(error) = socket.send_to(&bytes, client).await {
        tracing::debug!(%client, %error, "DNS response not sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await.context("DNS over TCP")?;
        match listener.accept().await {
            Ok((stream, client)) => {
                while tasks.try_join_next().is_some() {}
                let shared = shared.clone();
                tasks.spawn(async move {
                    if let Err(error) = converse(stream, &shared).await {
                        tracing::debug!(%client, %error, "DNS over TCP");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept DNS over TCP");
                // Out of descriptors, most likely: let others finish.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Answers the queries of one connection in turn, until the client ends it or falls silent.
async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let mut length = [0; 2];
        match timeout(IDLE, stream.read_exact(&mut length)).await {
            Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(result) => result?,
        };
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let message = match Message::from_vec(&bytes) {
            Ok(query) if query.metadata.message_type == hickory_proto::op::MessageType::Query => {
                let outcome = shared.outcome(&query);
                shared.finish(&query, outcome, Transport::Tcp).await
            }
            Ok(_) => return Ok(()),
            Err(_) => match malformed(&bytes) {
                Some(message) => message,
                None => return Ok(()),
            },
        };
        let Some(bytes) = encode(&message, u16::MAX) else { return Ok(()) };
        let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use hickory_proto::op::{Edns, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    fn large(edns: Option<u16>) -> (Message, Message) {
        let mut query = Message::query();
        let name = Name::from_ascii("many.ns.svc.cluster.local.").unwrap();
        query.add_query(Query::query(name.clone(), RecordType::A));
        if let Some(size) = edns {
            let mut asked = Edns::new();
            asked.set_max_payload(size);
            query.set_edns(asked);
        }
        let mut message = response(&query, ResponseCode::NoError);
        for n in 0..60 {
            message.add_answer(Record::from_rdata(name.clone(), 5, RData::A(A::new(10, 244, 0, n))));
        }
        (query, message)
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        for (edns, fits) in [(None, false), (Some(600), false), (Some(4096), true), (Some(100), false)] {
            let (query, message) = large(edns);
            let limit = udp_limit(&query);
            let bytes = encode(&message, limit).unwrap();
            assert!(bytes.len() <= limit.into(), "{edns:?}: {}", bytes.len());
            let parsed = Message::from_vec(&bytes).unwrap();
            assert_eq!(parsed.metadata.truncation, !fits, "{edns:?}");
            assert_eq!(parsed.queries, query.queries);
            assert_eq!(parsed.answers.len() == 60, fits, "{edns:?}");
        }
        let (_, message) = large(None);
        let whole = Message::from_vec(&encode(&message, u16::MAX).unwrap()).unwrap();
        assert_eq!(whole.answers.len(), 60);
    }

    #[test]
    fn garbage_gets_a_format_error_and_responses_get_nothing() {
        assert_eq!(malformed(&[1, 2, 0, 0, 9]).unwrap().metadata.id, 0x0102);
        assert!(malformed(&[1, 2, 0x80]).is_none());
        assert!(malformed(&[1]).is_none());
    }
}
