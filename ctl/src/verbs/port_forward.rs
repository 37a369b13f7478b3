//! `port-forward`: local ports that lead to a Pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::net::TcpListener;

use super::change::pod_spec_path;
use super::pods::{self, items, text};
use crate::error::{Result, say};
use crate::flags::Args;
use crate::output::line;
use crate::remote::spdy;
use crate::session::{Query, Session};

pub(super) const FLAGS: &str = "
      --address=,   Addresses to listen on: localhost, or IP addresses
      --pod-running-timeout=  Accepted
";

/// `LOCAL:REMOTE`; a local port of 0 is any.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    local: u16,
    remote: u16,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let Some((word, specs)) = args.words.split_first().filter(|(_, specs)| !specs.is_empty()) else {
        bail!(
            "TYPE/NAME and list of ports are required for port-forward\nSee 'cox port-forward -h' for help and examples"
        );
    };
    let session = Session::open(args).await?;
    let target = pods::pod_or_owner(&session, word).await?;
    let object = target.get(&session).await?;
    let found = pods::pods_of(&session, &target).await?;
    let pod = found.first().context("there is a pod")?;
    if text(pod, "/status/phase") != "Running" {
        bail!("unable to forward port because pod is not running. Current status={}", text(pod, "/status/phase"));
    }
    let service = target.resource.is("", "Service").then_some(&object);
    let pairs: Vec<Pair> = specs.iter().map(|spec| pair(spec, service, pod)).collect::<Result<_>>()?;
    let listeners = listen(args, &pairs).await?;
    let path =
        format!("{}/{}/portforward", pods::pods_path(text(pod, "/metadata/namespace")), text(pod, "/metadata/name"));
    let serving = listeners.into_iter().map(|(listener, port)| serve(&session, &path, listener, port));
    let stopped = tokio::signal::ctrl_c();
    tokio::select! {
        done = futures::future::try_join_all(serving) => done.map(drop),
        _ = stopped => Ok(()),
    }
}

async fn serve(session: &Session, path: &str, listener: TcpListener, port: u16) -> Result<()> {
    let mut open = futures::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (local, _) = accepted.context("accept a connection")?;
                line(format!("Handling connection for {}", listener.local_addr()?.port()))?;
                open.push(async move {
                    let uri = Query::new().with("ports", port.to_string()).on(path);
                    let remote = spdy::connect(session, &uri).await?;
                    spdy::forward(remote, local, port).await
                });
            }
            Some(ended) = futures::StreamExt::next(&mut open), if !open.is_empty() => {
                if let Err(error) = ended {
                    say(&error.context(format!("an error occurred forwarding {}", listener.local_addr()?.port())));
                }
            }
        }
    }
}

async fn listen(args: &Args, pairs: &[Pair]) -> Result<Vec<(TcpListener, u16)>> {
    let given = args.all("address");
    let mut addresses: Vec<(IpAddr, bool)> = Vec::new();
    for address in given {
        match address.as_str() {
            "localhost" => addresses.extend([(Ipv4Addr::LOCALHOST.into(), true), (Ipv6Addr::LOCALHOST.into(), false)]),
            ip => addresses.push((ip.parse().with_context(|| format!("invalid address {ip:?}"))?, true)),
        }
    }
    if given.is_empty() {
        addresses = vec![(Ipv4Addr::LOCALHOST.into(), true), (Ipv6Addr::LOCALHOST.into(), false)];
    }
    let mut listeners = Vec::new();
    for pair in pairs {
        let mut local = pair.local;
        for (address, is_needed) in &addresses {
            let listener = match TcpListener::bind((*address, local)).await {
                Ok(listener) => listener,
                // A machine without IPv6 has the other one.
                Err(_) if !is_needed => continue,
                Err(error) => {
                    let what = format!("unable to listen on port {}: listen on {address}", pair.local);
                    return Err(anyhow::Error::from(error).context(what));
                }
            };
            let bound = listener.local_addr()?;
            local = bound.port();
            line(format!("Forwarding from {bound} -> {}", pair.remote))?;
            listeners.push((listener, pair.remote));
        }
    }
    Ok(listeners)
}

/// Reads `8080`, `8080:80`, `:80`, `8080:http`; the remote port of a Service is resolved to its Pod's.
fn pair(spec: &str, service: Option<&Value>, pod: &Value) -> Result<Pair> {
    let (local, remote) = spec.split_once(':').unwrap_or((spec, spec));
    let remote_port = match service {
        Some(service) => service_port(service, remote, pod)?,
        None => number_or_name(remote, pod)?,
    };
    let wrong = || format!("error parsing local port {local:?}: invalid port");
    let local = match local {
        "" => 0,
        text if text == remote => match text.parse() {
            Ok(port) => port,
            // By name: the same number here.
            Err(_) => remote_port,
        },
        text => text.parse().with_context(wrong)?,
    };
    Ok(Pair { local, remote: remote_port })
}

fn number_or_name(word: &str, pod: &Value) -> Result<u16> {
    if let Ok(number) = word.parse::<u16>() {
        if number == 0 {
            bail!("remote port must be > 0");
        }
        return Ok(number);
    }
    let spec = pod_spec_path(&pods::pod_resource());
    let containers = items(pod, &format!("{spec}/containers")).flat_map(|container| items(container, "/ports"));
    let port = containers.into_iter().find(|port| text(port, "/name") == word);
    let number = port.and_then(|port| port["containerPort"].as_u64()).and_then(|port| u16::try_from(port).ok());
    number.with_context(|| format!("Pod '{}' does not have a named port '{word}'", text(pod, "/metadata/name")))
}

fn service_port(service: &Value, word: &str, pod: &Value) -> Result<u16> {
    let name = text(service, "/metadata/name");
    let port = items(service, "/spec/ports").find(|port| {
        text(port, "/name") == word || port["port"].as_u64().is_some_and(|number| number.to_string() == word)
    });
    let port = port.with_context(|| format!("Service {name} does not have a service port {word}"))?;
    if text(service, "/spec/clusterIP") == "None" {
        return number_or_name(&port["port"].to_string(), pod);
    }
    match &port["targetPort"] {
        Value::String(named) => number_or_name(named, pod),
        Value::Number(number) => number_or_name(&number.to_string(), pod),
        _ => number_or_name(&port["port"].to_string(), pod),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn ports_lead_to_the_pod() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        });
        let service = json!({
            "metadata": {"name": "s"},
            "spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 9000}]},
        });
        for (spec, of_service, local, remote) in [
            ("8080", false, 8080, 8080),
            ("1:2", false, 1, 2),
            (":2", false, 0, 2),
            ("http", false, 8080, 8080),
            ("9:http", false, 9, 8080),
            ("80", true, 80, 8080),
            ("1:web", true, 1, 8080),
            ("1:81", true, 1, 9000),
        ] {
            let made = pair(spec, of_service.then_some(&service), &pod).unwrap();
            assert_eq!(made, Pair { local, remote }, "{spec}");
        }
        assert!(pair("x:80", None, &pod).is_err());
        assert!(pair("80", Some(&json!({"metadata": {"name": "s"}})), &pod).is_err());
    }
}
