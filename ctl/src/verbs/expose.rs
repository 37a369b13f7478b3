//! `expose`: a Service for what runs.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::change::{for_each, pairs, pod_spec_path};
use super::create::one as create;
use super::pods::{items, text};
use crate::Target;
use crate::error::Result;
use crate::flags::Args;
use crate::output::Told;
use crate::session::Session;

pub(super) const FLAGS: &str = "
      --port=              The Service's port
      --target-port=       The containers' port, a number or a name
      --protocol=          TCP, UDP or SCTP
      --name=              The Service's name
      --type=              ClusterIP, NodePort, LoadBalancer or ExternalName
      --selector=          Labels of the Pods, instead of the object's own selector
  -l, --labels=            Labels of the Service
      --cluster-ip=        The Service's address, None for none
      --external-ip=       An address that the Service also has
      --load-balancer-ip=  The address to ask of the load balancer
      --session-affinity=  None or ClientIP
      --overrides=         JSON that is merged into the Service
      --override-type=     Accepted
      --save-config        Remember the object in its annotation, for apply
      --field-manager=     Name of the owner of the fields
      --all                Accepted
";

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let resource = session.discovery().await?.find("services")?.clone();
    for_each(&session, args, &args.words, async |target| {
        let object = target.get(&session).await?;
        let service = service(args, target, &object)?;
        let name = text(&service, "/metadata/name").to_owned();
        let made = Target {
            resource: resource.clone(),
            namespace: target.namespace.clone(),
            name,
            object: Some(service),
            source: None,
        };
        create(&session, args, &mut told, &made, "exposed").await
    })
    .await
}

/// The Service of an object.
fn service(args: &Args, target: &Target, object: &Value) -> Result<Value> {
    let name = match args.get("name") {
        Some(name) => name.to_owned(),
        None => target.name.chars().take(63).collect(),
    };
    let selector = match args.get("selector") {
        Some(text) => pairs(text)?.into_iter().map(|(key, value)| (key, value.into())).collect(),
        None => selector(target, object)?,
    };
    let labels = match args.get("labels") {
        Some(text) => pairs(text)?.into_iter().map(|(key, value)| (key, value.into())).collect(),
        None => object.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default(),
    };
    let ports = ports(args, target, object)?;
    let mut spec = json!({"selector": selector});
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    } else if args.get("cluster-ip") != Some("None") {
        bail!("couldn't find port via --port flag or introspection\nSee 'cox expose -h' for help and examples");
    }
    for (flag, field) in [
        ("type", "type"),
        ("cluster-ip", "clusterIP"),
        ("load-balancer-ip", "loadBalancerIP"),
        ("session-affinity", "sessionAffinity"),
    ] {
        if let Some(value) = args.get(flag) {
            spec[field] = value.into();
        }
    }
    if let Some(ip) = args.get("external-ip") {
        spec["externalIPs"] = json!([ip]);
    }
    let mut metadata = json!({"name": name});
    if !labels.is_empty() {
        metadata["labels"] = labels.into();
    }
    let status = json!({"loadBalancer": {}});
    overridden(
        args,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status}),
    )
}

/// The object with --overrides merged in.
pub(super) fn overridden(args: &Args, object: Value) -> Result<Value> {
    let Some(text) = args.get("overrides") else { return Ok(object) };
    let patch: Value = serde_json::from_str(text).context("invalid JSON in --overrides")?;
    Ok(api::patch::merge::apply(object, &patch))
}

fn selector(target: &Target, object: &Value) -> Result<Map<String, Value>> {
    let none = || format!("cannot expose a {}: it has no selector", target.resource.kind);
    let found = match target.resource.kind.as_str() {
        "Pod" => object.pointer("/metadata/labels"),
        "Service" | "ReplicationController" => object.pointer("/spec/selector"),
        "Deployment" | "ReplicaSet" => {
            let has_expressions = items(object, "/spec/selector/matchExpressions").next().is_some();
            if has_expressions {
                bail!("couldn't convert expressions - \"matchExpressions\" to map-based selector format");
            }
            object.pointer("/spec/selector/matchLabels")
        }
        _ if target.resource.group.is_empty() => bail!("cannot expose a {}", target.resource.kind),
        _ => bail!("cannot expose a {}.{}", target.resource.kind, target.resource.group),
    };
    found.and_then(Value::as_object).filter(|map| !map.is_empty()).cloned().with_context(none)
}

fn ports(args: &Args, target: &Target, object: &Value) -> Result<Vec<Value>> {
    // Each port that is found, with its protocol.
    let mut found: Vec<(i64, String)> = Vec::new();
    if let Some(port) = args.get("port") {
        for port in port.split(',') {
            let wrong = || format!("strconv.Atoi: parsing {port:?}: invalid syntax");
            found.push((port.parse().ok().with_context(wrong)?, "TCP".to_owned()));
        }
    } else if target.resource.is("", "Service") {
        for port in items(object, "/spec/ports") {
            found.push((port["port"].as_i64().unwrap_or(0), protocol(port)));
        }
    } else {
        for container in items(object, &format!("{}/containers", pod_spec_path(&target.resource))) {
            for port in items(container, "/ports") {
                found.push((port["containerPort"].as_i64().unwrap_or(0), protocol(port)));
            }
        }
    }
    let is_single = found.len() == 1;
    let made = found.into_iter().enumerate().map(|(at, (port, protocol))| {
        let target_port = match args.get("target-port") {
            Some(text) => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
            None => port.into(),
        };
        let protocol = args.get("protocol").map_or(protocol, str::to_uppercase);
        let mut made = json!({"port": port, "protocol": protocol, "targetPort": target_port});
        if !is_single {
            made["name"] = format!("port-{}", at + 1).into();
        }
        made
    });
    Ok(made.collect())
}

fn protocol(port: &Value) -> String {
    port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned()
}
