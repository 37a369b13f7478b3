//! Which address this machine is known by.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context, Result, bail};

/// The address that packets to the world would leave from; without a route there, the first address of an interface
/// that is no loopback.
pub fn default_address() -> Result<IpAddr> {
    if let Some(address) = routed_address() {
        return Ok(address);
    }
    let addresses = nix::ifaddrs::getifaddrs().context("list the machine's addresses")?;
    let first = addresses
        .filter_map(|interface| interface.address?.as_sockaddr_in().map(|v4| v4.ip()))
        .find(|ip| !ip.is_loopback() && !ip.is_link_local());
    match first {
        Some(ip) => Ok(IpAddr::V4(ip)),
        None => bail!("this machine has no address but loopback; name one with --node-ip"),
    }
}

/// Connecting a datagram socket sends nothing; it only asks the routing table.
fn routed_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The node's default name: the host name in lower case, as the kubelet has it.
pub fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("ask the host's name")?;
    let name = name.to_string_lossy().trim().to_lowercase();
    if name.is_empty() {
        bail!("this machine has no host name; name the node with --node-name");
    }
    Ok(name)
}
