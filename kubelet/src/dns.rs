//! resolv.conf of a Pod by its DNS policy, its host name, and the managed /etc/hosts. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};
use kubelet_runtime::cri::DnsConfig;

use crate::spec;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// Parses a resolv.conf.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(|w| trim_dot(w).to_owned()).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

fn trim_dot(domain: &str) -> &str {
    if domain == "." { domain } else { domain.trim_end_matches('.') }
}

/// A Pod's resolver configuration; the second value says what did not fit, for a `DNSConfigForming` event.
pub fn for_pod(pod: &Pod, host: &DnsConfig, cluster: &[IpAddr], domain: &str) -> (DnsConfig, Vec<String>) {
    let spec = spec::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let of_cluster = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if of_cluster && !cluster.is_empty() => DnsConfig {
            servers: cluster.iter().map(IpAddr::to_string).collect(),
            searches: cluster_searches(spec::namespace(pod), domain, &host.searches),
            options: vec!["ndots:5".to_owned()],
        },
        _ => host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            config.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            config.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    let mut warnings = Vec::new();
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    fit(&mut config, &mut warnings);
    (config, warnings)
}

fn cluster_searches(namespace: &str, domain: &str, host: &[String]) -> Vec<String> {
    let svc = format!("svc.{domain}");
    let own = [format!("{namespace}.{svc}"), svc, domain.to_owned()];
    own.into_iter().chain(host.iter().cloned()).collect()
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

fn fit(config: &mut DnsConfig, warnings: &mut Vec<String>) {
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        warnings.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.join(" ").len() > MAX_SEARCH_CHARS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        warnings.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            config.searches.join(" ")
        ));
    }
}

/// Host name and domain of a Pod; the domain is empty without a subdomain.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> Result<(String, String), String> {
    let spec = spec::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return Ok((truncated(pod, name)?, String::new()));
    }
    let name = spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(spec::name(pod));
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", spec::namespace(pod)),
        None => String::new(),
    };
    Ok((truncated(pod, name)?, domain))
}

fn truncated(pod: &Pod, name: &str) -> Result<String, String> {
    let cut: String = name.chars().take(63).collect();
    let cut = if cut.len() < name.len() { cut.trim_end_matches(['-', '.']).to_owned() } else { cut };
    if cut.is_empty() { Err(format!("hostname for pod {:?} was invalid: {name:?}", spec::name(pod))) } else { Ok(cut) }
}

/// The name that the kernel shows in the Pod: the FQDN when `setHostnameAsFQDN` asks for it.
pub fn kernel_hostname(pod: &Pod, hostname: &str, domain: &str) -> Result<String, String> {
    if spec::spec(pod).set_hostname_as_fqdn != Some(true) || domain.is_empty() {
        return Ok(hostname.to_owned());
    }
    let fqdn = format!("{hostname}.{domain}");
    if fqdn.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
             (64 characters is the max, {} characters requested)",
            fqdn.len()
        ));
    }
    Ok(fqdn)
}

/// The content of a Pod's /etc/hosts. `node_hosts` is the node's file, for Pods on its network.
pub fn hosts_file(pod: &Pod, ips: &[String], hostname: &str, domain: &str, node_hosts: Option<&str>) -> String {
    let mut out = String::new();
    if let Some(node) = node_hosts {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(node);
    } else {
        out.push_str("# Kubernetes-managed hosts file.\n");
        out.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        out.push_str(
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in ips {
            if domain.is_empty() {
                out.push_str(&format!("{ip}\t{hostname}\n"));
            } else {
                out.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n"));
            }
        }
    }
    push_aliases(&mut out, spec::spec(pod).host_aliases.as_deref().unwrap_or_default());
    out
}

fn push_aliases(out: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    out.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    fn resolved(spec: serde_json::Value) -> DnsConfig {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let host = parse_resolv_conf("# c\nnameserver 192.0.2.53\nsearch corp.example.\noptions timeout:1\n");
        for_pod(&pod(spec), &host, &["10.96.0.10".parse().unwrap()], "cluster.local").0
    }

    #[test]
    fn policies() {
        let cluster = resolved(json!({}));
        assert_eq!(cluster.servers, ["10.96.0.10"]);
        assert_eq!(cluster.searches, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]);
        assert_eq!(cluster.options, ["ndots:5"]);
        for spec in [json!({"hostNetwork": true}), json!({"dnsPolicy": "Default"})] {
            let host = resolved(spec);
            assert_eq!((host.servers[0].as_str(), host.options[0].as_str()), ("192.0.2.53", "timeout:1"));
        }
        let with = resolved(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}));
        assert_eq!(with.servers, ["10.96.0.10"]);
        let own = resolved(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"],
            "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}));
        assert_eq!((own.servers.len(), own.options.join(" ")), (1, "ndots:2 edns0".to_owned()));
        let merged = resolved(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}));
        assert_eq!(merged.options, ["ndots:2"]);
    }

    #[test]
    fn hosts_with_subdomain_and_aliases() {
        let pod = pod(json!({"containers": [], "hostname": "h", "subdomain": "sub",
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["foo", "bar"]}]}));
        let (name, domain) = hostname(&pod, "cluster.local").unwrap();
        assert_eq!((name.as_str(), domain.as_str()), ("h", "sub.ns.svc.cluster.local"));
        let file = hosts_file(&pod, &["10.0.0.1".into()], &name, &domain, None);
        assert!(file.contains("10.0.0.1\th.sub.ns.svc.cluster.local\th\n"));
        assert!(file.ends_with("\n# Entries added by HostAliases.\n192.0.2.9\tfoo\tbar\n"));
    }
}
