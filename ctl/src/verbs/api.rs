//! `api-resources`, `api-versions`, `cluster-info`, `version`: what the server is and serves.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::pods::{items, text};
use crate::error::Result;
use crate::flags::Args;
use crate::output::{self, line, tabs};
use crate::session::{Query, Session};
use crate::target::selectors;

pub(super) const RESOURCES_FLAGS: &str = "
      --api-group=     Only of this group; an empty one is the core group
      --namespaced     Only what is in namespaces, or with false only what is not
      --verbs=,        Only what has all of these verbs
      --categories=,   Only what is in all of these categories
      --sort-by=       name or kind
      --no-headers     Without the header line
      --cached         Accepted
  -o, --output=        wide or name
";

pub(super) const VERSION_FLAGS: &str = "
      --client    Only of this command
  -o, --output=   yaml or json
";

pub(super) async fn resources(args: &Args) -> Result<()> {
    if !args.words.is_empty() {
        let words = args.words.join(" ");
        bail!("unexpected arguments: [{words}]\nSee 'cox api-resources -h' for help and examples");
    }
    if args.get("sort-by").is_some_and(|by| !["name", "kind"].contains(&by)) {
        bail!("--sort-by accepts only name or kind");
    }
    let session = Session::open(args).await?;
    let mut all: Vec<_> = session.discovery().await?.resources.iter().collect();
    let mut seen = std::collections::HashSet::new();
    all.retain(|resource| {
        let has_all = |wanted: &[String], has: &[String]| wanted.iter().all(|word| has.contains(word));
        !resource.verbs.is_empty()
            && args.get("api-group").is_none_or(|group| resource.group == group)
            && (!args.has("namespaced") || resource.is_namespaced == args.on("namespaced"))
            && has_all(args.all("verbs"), &resource.verbs)
            && has_all(args.all("categories"), &resource.categories)
            // Preferred versions stand first.
            && seen.insert((resource.group.clone(), resource.plural.clone()))
    });
    match args.get("sort-by") {
        Some("kind") => all.sort_by(|a, b| a.kind.cmp(&b.kind)),
        Some("name") => all.sort_by(|a, b| a.plural.cmp(&b.plural)),
        _ => all.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural))),
    }
    if args.get("output") == Some("name") {
        return output::put(&all.iter().map(|r| r.full_name() + "\n").collect::<String>());
    }
    let is_wide = args.get("output") == Some("wide");
    let mut table = String::new();
    if !args.on("no-headers") {
        table.push_str("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND");
        table.push_str(if is_wide { "\tVERBS\tCATEGORIES\n" } else { "\n" });
    }
    for resource in all {
        let (short, version) = (resource.short_names.join(","), resource.api_version());
        let (plural, kind) = (&resource.plural, &resource.kind);
        table.push_str(&format!("{plural}\t{short}\t{version}\t{}\t{kind}", resource.is_namespaced));
        if is_wide {
            table.push_str(&format!("\t{}\t{}", resource.verbs.join(","), resource.categories.join(",")));
        }
        table.push('\n');
    }
    output::put(&tabs::TABLE.align(&table))
}

pub(super) async fn versions(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut all: Vec<String> = session.discovery().await?.resources.iter().map(|r| r.api_version()).collect();
    all.sort();
    all.dedup();
    output::put(&all.iter().map(|version| format!("{version}\n")).collect::<String>())
}

pub(super) async fn cluster_info(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let (green, yellow, end) = match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        true => ("\x1b[0;32m", "\x1b[0;33m", "\x1b[0m"),
        false => ("", "", ""),
    };
    let says = |what: &str, address: &str| line(format!("{green}{what}{end} is running at {yellow}{address}{end}"));
    let query = Query::new().with("labelSelector", "kubernetes.io/cluster-service=true");
    let services = session.list("/api/v1/namespaces/kube-system/services", &query).await?;
    says("Kubernetes control plane", &session.server)?;
    for service in items(&services, "/items") {
        let name = text(service, "/metadata/name");
        let address = match text(service, "/status/loadBalancer/ingress/0/ip") {
            "" => {
                let port = items(service, "/spec/ports").next();
                let port_name = port.map(|port| text(port, "/name")).filter(|name| !name.is_empty());
                let port_name = port_name.map(|name| format!(":{name}")).unwrap_or_default();
                format!("{}/api/v1/namespaces/kube-system/services/{name}{port_name}/proxy", session.server)
            }
            ip => format!("http://{ip}"),
        };
        let labels = service.pointer("/metadata/labels");
        let shown = labels.and_then(|l| l.get("kubernetes.io/name")).and_then(Value::as_str).unwrap_or(name);
        says(shown, &address)?;
    }
    line("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.")
}

pub(super) async fn version(args: &Args) -> Result<()> {
    // The API that this command speaks.
    const GIT_VERSION: &str = "v1.36.2+cox1";
    let client = json!({"major": "1", "minor": "36", "gitVersion": GIT_VERSION, "platform": platform()});
    let server = match args.on("client") {
        true => None,
        false => Some(Session::open(args).await?.get("/version").await),
    };
    let failed = match &server {
        Some(Err(_)) => true,
        None | Some(Ok(_)) => false,
    };
    let known = server.as_ref().and_then(|server| server.as_ref().ok());
    let mut all = json!({"clientVersion": client, "kustomizeVersion": "not built in"});
    if let Some(server) = known {
        all["serverVersion"] = server.clone();
    }
    match args.get("output") {
        Some("json") => output::put(&format!("{}\n", serde_json::to_string_pretty(&all).context("write JSON")?))?,
        Some("yaml") => output::put(&api::yaml::to_string(&all))?,
        Some(_) => anyhow::bail!("--output must be 'yaml' or 'json'"),
        None => {
            line(format!("Client Version: {GIT_VERSION}"))?;
            if let Some(server) = known {
                line(format!("Server Version: {}", text(server, "/gitVersion")))?;
            }
        }
    }
    match server {
        Some(Err(error)) if failed => Err(error),
        _ => Ok(()),
    }
}

fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{architecture}", std::env::consts::OS)
}

pub(super) const TOP_FLAGS: &str = "
  -A, --all-namespaces   In all namespaces
      --containers       Each container of the Pods
      --no-headers       Without the header line
      --sort-by=         cpu or memory
      --sum              A line with the sum
      --show-capacity    Of the capacity instead of what is allocatable
      --use-protocol-buffers  Accepted
";

/// What is asked for when the metrics API is not served.
const NO_METRICS: &str = "Metrics API not available";

pub(super) async fn top_node(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let metrics = metrics(&session, args, "/apis/metrics.k8s.io/v1beta1/nodes").await?;
    let nodes = session.list("/api/v1/nodes", &selectors(args)).await?;
    let part = if args.on("show-capacity") { "capacity" } else { "allocatable" };
    let mut table = String::new();
    if !args.on("no-headers") {
        table.push_str("NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%)\t\n");
    }
    for metric in metrics {
        let name = text(&metric, "/metadata/name");
        let node = items(&nodes, "/items").find(|node| text(node, "/metadata/name") == name);
        let share = |resource: &str, used: i64| {
            let whole =
                node.and_then(|n| n.pointer(&format!("/status/{part}/{resource}"))).map_or(0, |v| amount(v, resource));
            if whole == 0 { "<unknown>".to_owned() } else { format!("{}%", i128::from(used) * 100 / i128::from(whole)) }
        };
        let (cpu, memory) = usage(&metric);
        let shown = (share("cpu", cpu), share("memory", memory));
        table.push_str(&format!("{name}\t{cpu}m\t{}\t{}Mi\t{}\t\n", shown.0, memory >> 20, shown.1));
    }
    output::put(&tabs::TABLE.align(&table))
}

pub(super) async fn top_pod(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let path = match args.on("all-namespaces") {
        true => "/apis/metrics.k8s.io/v1beta1/pods".to_owned(),
        false => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", session.namespace),
    };
    let metrics = metrics(&session, args, &path).await?;
    if metrics.is_empty() {
        eprintln!("No resources found in {} namespace.", session.namespace);
        return Ok(());
    }
    let mut table = String::new();
    let with_namespace = args.on("all-namespaces");
    let by_container = args.on("containers");
    if !args.on("no-headers") {
        table.push_str(if with_namespace { "NAMESPACE\t" } else { "" });
        table.push_str(if by_container { "POD\tNAME\t" } else { "NAME\t" });
        table.push_str("CPU(cores)\tMEMORY(bytes)\t\n");
    }
    let mut total = (0, 0);
    for metric in &metrics {
        let prefix = if with_namespace { format!("{}\t", text(metric, "/metadata/namespace")) } else { String::new() };
        let name = text(metric, "/metadata/name");
        let mut sum = (0, 0);
        for container in items(metric, "/containers") {
            let (cpu, memory) = usage(container);
            sum = (sum.0 + cpu, sum.1 + memory);
            if by_container {
                table.push_str(&format!(
                    "{prefix}{name}\t{}\t{cpu}m\t{}Mi\t\n",
                    text(container, "/name"),
                    memory >> 20
                ));
            }
        }
        if !by_container {
            table.push_str(&format!("{prefix}{name}\t{}m\t{}Mi\t\n", sum.0, sum.1 >> 20));
        }
        total = (total.0 + sum.0, total.1 + sum.1);
    }
    if args.on("sum") {
        let empty = if by_container { "\t" } else { "" };
        table.push_str(&format!("{empty}\t________\t________\n{empty}\t{}m\t{}Mi\t\n", total.0, total.1 >> 20));
    }
    output::put(&tabs::TABLE.align(&table))
}

async fn metrics(session: &Session, args: &Args, path: &str) -> Result<Vec<Value>> {
    let is_served = session.discovery().await?.resources.iter().any(|r| r.group == "metrics.k8s.io");
    if !is_served {
        anyhow::bail!("{NO_METRICS}");
    }
    let found = match args.words.first() {
        Some(name) => vec![session.get(&format!("{path}/{name}")).await?],
        None => items(&session.list(path, &selectors(args)).await?, "/items").cloned().collect(),
    };
    let mut found = found;
    match args.get("sort-by") {
        Some("cpu") => found.sort_by_key(|metric| -total(metric).0),
        Some("memory") => found.sort_by_key(|metric| -total(metric).1),
        _ => found.sort_by_key(|m| (text(m, "/metadata/namespace").to_owned(), text(m, "/metadata/name").to_owned())),
    }
    Ok(found)
}

fn total(metric: &Value) -> (i64, i64) {
    let own = usage(metric);
    items(metric, "/containers").map(usage).fold(own, |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Thousandths of cores, and bytes.
fn usage(metric: &Value) -> (i64, i64) {
    let of = |resource: &str| metric.pointer(&format!("/usage/{resource}")).map_or(0, |v| amount(v, resource));
    (of("cpu"), of("memory"))
}

fn amount(value: &Value, resource: &str) -> i64 {
    let quantity = api::quantity::Quantity::from_value(value).unwrap_or_default();
    if resource == "cpu" { quantity.milli_value() } else { quantity.value() }
}
