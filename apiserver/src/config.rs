//! How a server is started.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::Table;
use apiserver_auth::pki::Pki;

/// A range of addresses, `10.96.0.0/12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub first: Ipv4Addr,
    pub prefix: u8,
}

/// Everything that a server is made of besides the store.
pub struct Config {
    /// The resource table; CRDs append to it at run time.
    pub table: Table,
    /// Authorities, certificates and keys.
    pub pki: Pki,
    pub settings: Settings,
}

/// Addresses and limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients reach this server; the `kubernetes` Service leads there.
    pub advertise: SocketAddr,
    pub service_network: Network,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// Open connections at most; more wait to be accepted.
    pub max_connections: usize,
    pub limits: Limits,
}

/// What clients may take of the server, so that none keeps out the others.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time whose clients have not shown who they are.
    pub strangers: usize,
    /// Such a connection is closed when it made no request for so long (upstream's `ReadHeaderTimeout`).
    pub stranger_idle: Duration,
    /// As `stranger_idle`, of clients that are known. They keep connections for 90 s (Go's default), so theirs end
    /// first.
    pub known_idle: Duration,
    /// The TLS handshake must be done by then.
    pub handshake: Duration,
    /// Requests of connections that are answered at a time, but for watches and tunnels.
    pub in_flight: usize,
    /// A request waits so long for its turn, then it is refused with 429.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: 1024,
            stranger_idle: Duration::from_secs(32),
            known_idle: Duration::from_secs(120),
            handshake: Duration::from_secs(10),
            in_flight: 600,
            patience: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// The built-in table and the default networks.
    pub fn new(pki: Pki, advertise: SocketAddr) -> Self {
        Self { table: api::builtin(), pki, settings: Settings::new(advertise) }
    }
}

impl Settings {
    /// The default networks and limits.
    pub fn new(advertise: SocketAddr) -> Self {
        Self {
            advertise,
            service_network: Network { first: Ipv4Addr::new(10, 96, 0, 0), prefix: 12 },
            node_ports: (30000, 32767),
            max_connections: 8192,
            limits: Limits::default(),
        }
    }

    /// The address of the `kubernetes` Service: the first of the Service network.
    pub fn kubernetes_service(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from(self.service_network.first) + 1))
    }
}
