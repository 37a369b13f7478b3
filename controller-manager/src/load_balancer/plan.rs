//! Pure: which addresses a Service of type LoadBalancer gets.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::{Node, Service};

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Addresses that Services get one of each, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u128,
    last: u128,
    six: bool,
}

fn number(ip: IpAddr) -> (u128, bool) {
    match ip {
        IpAddr::V4(four) => (u32::from(four).into(), false),
        IpAddr::V6(six) => (six.into(), true),
    }
}

impl Range {
    /// From `192.0.2.0/28` (for IPv4 without the first and the last address) or `192.0.2.10-192.0.2.20`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let ip = |text: &str| text.trim().parse::<IpAddr>().map_err(|e| format!("{text:?}: {e}"));
        if let Some((first, last)) = text.split_once('-') {
            let ((first, six), (last, also)) = (number(ip(first)?), number(ip(last)?));
            if six != also || last < first {
                return Err(format!("{text:?} is not FIRST-LAST"));
            }
            return Ok(Self { first, last, six });
        }
        let (base, length) =
            text.split_once('/').ok_or_else(|| format!("{text:?} is neither a CIDR nor FIRST-LAST"))?;
        let (base, six) = number(ip(base)?);
        let width: u32 = if six { 128 } else { 32 };
        let length: u32 = length.parse().map_err(|e| format!("prefix length {length:?}: {e}"))?;
        if length > width {
            return Err(format!("prefix length {length} is beyond {width}"));
        }
        let hosts = u128::MAX.checked_shr(128 - (width - length)).unwrap_or(0);
        let (first, last) = (base & !hosts, base | hosts);
        // The network's own address and its broadcast address are nobody's.
        let edge = u128::from(!six && hosts > 1);
        Ok(Self { first: first + edge, last: last - edge, six })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let (number, six) = number(ip);
        six == self.six && (self.first..=self.last).contains(&number)
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(four) if !self.six => Ipv4Addr::from(four).into(),
            _ => Ipv6Addr::from(number).into(),
        }
    }

    /// The address of a Service: the one it has, or asks for, or the first that is free.
    pub fn choose(&self, current: Option<IpAddr>, asked: Option<IpAddr>, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
        let usable = |ip: &IpAddr| self.contains(*ip) && !taken.contains(ip);
        let kept = current.filter(|current| asked.is_none_or(|asked| asked == *current || !usable(&asked)));
        let given = asked.filter(usable).or(kept.filter(usable));
        given.or_else(|| (self.first..=self.last).map(|number| self.address(number)).find(|ip| !taken.contains(ip)))
    }
}

/// Whether a Service wants an address from us: another class is another implementation's.
pub fn wants(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none())
}

/// Whether a Service of another type still has addresses that it had as a LoadBalancer.
pub fn must_release(service: &Service) -> bool {
    let other = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() != Some("LoadBalancer"));
    other && !current(service).is_empty()
}

/// The addresses that a Service has.
pub fn current(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|one| one.ip.as_ref()?.parse().ok()).collect()
}

/// The address that a Service asks for.
pub fn asked(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.load_balancer_ip.as_ref()?.parse().ok()
}

/// Whether the Service has addresses of this family.
pub fn is_of_family(service: &Service, ip: IpAddr) -> bool {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()).filter(|all| !all.is_empty());
    let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
    families.map_or(family == "IPv4", |families| families.iter().any(|one| one == family))
}

/// The addresses of the nodes that take traffic from outside: ready, and not excluded by label.
pub fn node_addresses<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<IpAddr> {
    let takes_part = |node: &&Node| {
        let status = node.status.as_ref();
        let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
        !excluded
            && node.metadata.deletion_timestamp.is_none()
            && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let addresses = nodes.filter(takes_part).flat_map(|node| {
        let all = node.status.as_ref().and_then(|status| status.addresses.as_ref());
        all.into_iter().flatten().filter(|address| address.type_ == "InternalIP")
    });
    let mut ips: Vec<IpAddr> = addresses.filter_map(|address| address.address.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges() {
        let cases = [
            ("192.0.2.0/30", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.5/32", "192.0.2.5", "192.0.2.5"),
            ("192.0.2.4/31", "192.0.2.4", "192.0.2.5"),
            ("192.0.2.10-192.0.2.20", "192.0.2.10", "192.0.2.20"),
            ("2001:db8::/126", "2001:db8::", "2001:db8::3"),
        ];
        for (text, first, last) in cases {
            let range = Range::parse(text).unwrap();
            assert_eq!((range.address(range.first), range.address(range.last)), (ip(first), ip(last)), "{text}");
        }
        for bad in ["", "192.0.2.1", "192.0.2.0/33", "192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "x/8"] {
            assert!(Range::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Range::parse("0.0.0.0/0").is_ok() && Range::parse("::/0").is_ok());
    }

    #[test]
    fn addresses_stay_and_are_given_once() {
        let range = Range::parse("192.0.2.1-192.0.2.3").unwrap();
        let choose = |current: &str, asked: &str, taken: &[&str]| {
            let taken = taken.iter().map(|t| ip(t)).collect();
            range.choose(current.parse().ok(), asked.parse().ok(), &taken).map(|ip| ip.to_string())
        };
        let cases: &[(&str, &str, &[&str], Option<&str>)] = &[
            ("", "", &[], Some("192.0.2.1")),
            ("", "", &["192.0.2.1"], Some("192.0.2.2")),
            ("192.0.2.3", "", &["192.0.2.1"], Some("192.0.2.3")),
            ("192.0.2.3", "192.0.2.2", &[], Some("192.0.2.2")),
            ("192.0.2.3", "192.0.2.2", &["192.0.2.2"], Some("192.0.2.3")),
            ("", "203.0.113.1", &[], Some("192.0.2.1")),
            ("203.0.113.1", "", &[], Some("192.0.2.1")),
            ("", "", &["192.0.2.1", "192.0.2.2", "192.0.2.3"], None),
        ];
        for (current, asked, taken, expected) in cases {
            assert_eq!(choose(current, asked, taken).as_deref(), *expected, "{current} {asked} {taken:?}");
        }
    }

    #[test]
    fn nodes_and_services() {
        let node = |address: &str, ready: &str, labels: serde_json::Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": address, "labels": labels}, "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": "h"}]}}))
            .unwrap()
        };
        let nodes = [
            node("192.0.2.2", "True", json!({})),
            node("192.0.2.1", "True", json!({})),
            node("192.0.2.3", "False", json!({})),
            node("192.0.2.4", "True", json!({(EXCLUDED): ""})),
        ];
        assert_eq!(node_addresses(nodes.iter()), [ip("192.0.2.1"), ip("192.0.2.2")]);
        let service = |spec: serde_json::Value, ip: Option<&str>| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec,
                "status": {"loadBalancer": {"ingress": ip.map(|ip| json!([{"ip": ip}]))}}}))
            .unwrap()
        };
        assert!(wants(&service(json!({"type": "LoadBalancer"}), None)));
        assert!(!wants(&service(json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/x"}), None)));
        assert!(must_release(&service(json!({"type": "ClusterIP"}), Some("192.0.2.1"))));
        assert!(!must_release(&service(json!({"type": "ClusterIP"}), None)));
        let four = service(json!({"ipFamilies": ["IPv4"]}), None);
        assert!(is_of_family(&four, ip("192.0.2.1")) && !is_of_family(&four, ip("2001:db8::1")));
    }
}
