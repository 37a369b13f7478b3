//! Names outside the cluster: asked of the machine's own resolvers.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::Message;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cache::{Cache, Key};

/// Queries under way at once, at most; further ones fail at once.
const CONCURRENCY: usize = 512;
/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers used, at most (as in the C library).
const MAX_SERVERS: usize = 3;
/// How often the list of servers is looked at again, at most.
const RECHECK: Duration = Duration::from_secs(1);
/// Largest response taken over UDP, bytes.
const UDP_BUFFER: usize = 4096;

/// How the client asked; the same way is taken onwards, so that answers fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Asks upstream servers.
pub struct Forwarder {
    resolv_conf: PathBuf,
    /// Addresses that would lead back here.
    own: Vec<IpAddr>,
    servers: Mutex<Servers>,
    cache: Mutex<Cache>,
    slots: Semaphore,
    seed: RandomState,
}

#[derive(Default)]
struct Servers {
    checked: Option<Instant>,
    modified: Option<SystemTime>,
    list: Vec<SocketAddr>,
}

/// The name servers that a resolv.conf lists, without those of our own.
fn parse(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    addresses.filter(|addr| !own.contains(addr)).map(|addr| SocketAddr::new(addr, 53)).take(MAX_SERVERS).collect()
}

impl Forwarder {
    /// Asks the servers that `resolv_conf` lists, except those of `own`.
    pub fn new(resolv_conf: PathBuf, own: Vec<IpAddr>) -> Self {
        Self {
            resolv_conf,
            own,
            servers: Mutex::default(),
            cache: Mutex::default(),
            slots: Semaphore::new(CONCURRENCY),
            seed: RandomState::new(),
        }
    }

    /// Today's servers: the file is read again when it changed.
    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers.lock();
        if servers.checked.is_none_or(|checked| checked.elapsed() >= RECHECK) {
            servers.checked = Some(Instant::now());
            let modified = std::fs::metadata(&self.resolv_conf).and_then(|file| file.modified()).ok();
            if modified.is_none() || modified != servers.modified {
                servers.modified = modified;
                let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
                servers.list = parse(&text, &self.own);
            }
        }
        servers.list.clone()
    }

    /// An identifier that nobody can foresee.
    fn id(&self) -> u16 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u128(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos()));
        hasher.finish() as u16
    }

    /// The response to a query, or nothing if nobody answers.
    pub async fn ask(&self, query: &Message, transport: Transport) -> Option<Message> {
        let key = Key::of(query)?;
        if let Some(response) = self.cache.lock().get(&key, query, Instant::now()) {
            return Some(response);
        }
        let servers = self.servers();
        let _slot = if servers.is_empty() { return None } else { self.slots.try_acquire().ok()? };
        let mut onward = query.clone();
        for server in servers {
            onward.metadata.id = self.id();
            let bytes = onward.to_vec().ok()?;
            let exchange = async {
                match transport {
                    Transport::Udp => udp(server, &bytes, &onward).await,
                    Transport::Tcp => tcp(server, &bytes, &onward).await,
                }
            };
            match timeout(PATIENCE, exchange).await {
                Ok(Ok(mut response)) => {
                    response.metadata.id = query.metadata.id;
                    self.cache.lock().put(key, response.clone(), Instant::now());
                    return Some(response);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "upstream DNS"),
                Err(_) => tracing::debug!(%server, "upstream DNS does not answer"),
            }
        }
        None
    }
}

/// Whether the response belongs to the query.
fn answers(response: &Message, query: &Message) -> bool {
    response.metadata.id == query.metadata.id
        && response.queries.first().map(|q| (&q.name, q.query_type))
            == query.queries.first().map(|q| (&q.name, q.query_type))
}

async fn udp(server: SocketAddr, bytes: &[u8], query: &Message) -> std::io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket for each query: its random port is one more thing that a forger has to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; UDP_BUFFER];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Ok(response) = Message::from_vec(&buffer[..len])
            && answers(&response, query)
        {
            return Ok(response);
        }
    }
}

async fn tcp(server: SocketAddr, bytes: &[u8], query: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut buffer = vec![0; len.into()];
    stream.read_exact(&mut buffer).await?;
    match Message::from_vec(&buffer) {
        Ok(response) if answers(&response, query) => Ok(response),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "response does not match the query")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_are_read_without_our_own_and_bounded() {
        let text = "# comment\nsearch example.com\nnameserver 10.96.0.10\nnameserver 192.0.2.1\n nameserver ::1 \
                    \noptions ndots:5\nnameserver bad\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let own = ["10.96.0.10".parse().unwrap()];
        let servers: Vec<String> = parse(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"]);
        assert!(parse("nameserver 10.96.0.10", &own).is_empty());
    }
}
