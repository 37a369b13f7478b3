//! Generators of what runs and how it is reached: Deployments, Jobs, CronJobs, Services, Ingresses.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::generate::{name, number_or_text};
use super::made;
use crate::error::Result;
use crate::flags::Args;
use crate::session::Session;
use crate::verbs::pods::text;

pub(crate) const RUN_FLAGS: &str = "
      --image=,     The image, or several
  -r, --replicas=   How many Pods
      --port=       The port that the container listens on
      --from=       cronjob/NAME whose template is taken
      --schedule=   When a CronJob runs
      --restart=    OnFailure or Never
";

pub(crate) const SERVICE_FLAGS: &str = "
      --tcp=,           PORT or PORT:TARGETPORT
      --node-port=      The port on each node
      --clusterip=      The address, None for none
      --external-name=  The name that the Service stands for
";

pub(crate) const INGRESS_FLAGS: &str = "
      --rule=+          HOST/PATH=SERVICE:PORT[,tls[=SECRET]]; a path that ends in * is a prefix
      --class=          The class of the Ingress
      --default-backend=  SERVICE:PORT
      --annotation=+    KEY=VALUE
";

/// A container for each image, named after it.
fn containers(args: &Args) -> Result<Vec<Value>> {
    let images = args.all("image");
    let made = images.iter().map(|image| {
        let short = image.rsplit('/').next().unwrap_or(image);
        let short = short.split([':', '@']).next().unwrap_or(short);
        let name = short.to_lowercase().replace(['_', '.'], "-");
        json!({"name": name, "image": image, "resources": {}})
    });
    let mut made: Vec<Value> = made.collect();
    if let (Some(port), Some(first)) = (args.number("port")?, made.first_mut()) {
        first["ports"] = json!([{"containerPort": port}]);
    }
    Ok(made)
}

/// The name, and the command behind `--`.
fn name_and_command(args: &Args) -> Result<(&str, &[String])> {
    let at = args.dash.unwrap_or(args.words.len());
    match args.words.split_at(at) {
        ([name], command) => Ok((name, command)),
        (other, _) => {
            bail!("exactly one NAME is required, got {}\nSee 'cox {} -h' for help and examples", other.len(), args.verb)
        }
    }
}

pub(crate) async fn deployment(args: &Args) -> Result<()> {
    let (name, command) = name_and_command(args)?;
    let mut containers = containers(args)?;
    if containers.is_empty() {
        bail!("required flag(s) \"image\" not set");
    }
    if !command.is_empty() {
        if containers.len() > 1 {
            bail!("cannot specify multiple --image options and command");
        }
        containers[0]["command"] = json!(command);
    }
    let labels = json!({"app": name});
    let spec = json!({
        "replicas": args.number("replicas")?.unwrap_or(1),
        "selector": {"matchLabels": labels},
        "strategy": {},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
    });
    let metadata = json!({"name": name, "labels": labels});
    made(args, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec, "status": {}}))
        .await
}

fn job_spec(args: &Args, name: &str, command: &[String], restart: &str) -> Result<Value> {
    let mut containers = containers(args)?;
    let first = containers.first_mut().context("either --image or --from must be specified")?;
    first["name"] = name.into();
    if !command.is_empty() {
        first["command"] = json!(command);
    }
    Ok(json!({"template": {"metadata": {}, "spec": {"containers": containers, "restartPolicy": restart}}}))
}

pub(crate) async fn job(args: &Args) -> Result<()> {
    let (name, command) = name_and_command(args)?;
    let mut metadata = json!({"name": name});
    let spec = match args.get("from") {
        None => job_spec(args, name, command, "Never")?,
        Some(from) => {
            let session = Session::open(args).await?;
            let (ty, source) = from.split_once('/').with_context(|| format!("--from={from}: expected cronjob/NAME"))?;
            let resource = session.discovery().await?.find(ty)?;
            let cron = session.get(&resource.path_of(&session.namespace, source)).await?;
            let template = cron.pointer("/spec/jobTemplate").context("from must be an existing cronjob")?;
            metadata["annotations"] = template.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
            metadata["annotations"]["cronjob.kubernetes.io/instantiate"] = "manual".into();
            if let Some(labels) = template.pointer("/metadata/labels") {
                metadata["labels"] = labels.clone();
            }
            metadata["ownerReferences"] = json!([{
                "apiVersion": resource.api_version(), "kind": "CronJob", "name": source,
                "uid": text(&cron, "/metadata/uid"), "controller": true,
            }]);
            template.get("spec").cloned().unwrap_or_default()
        }
    };
    made(args, json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec, "status": {}})).await
}

pub(crate) async fn cron_job(args: &Args) -> Result<()> {
    let (name, command) = name_and_command(args)?;
    let spec = json!({
        "schedule": args.required("schedule")?,
        "jobTemplate": {
            "metadata": {"name": name},
            "spec": job_spec(args, name, command, args.get("restart").unwrap_or("OnFailure"))?,
        },
    });
    made(
        args,
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec, "status": {}}),
    )
    .await
}

pub(crate) async fn service(args: &Args) -> Result<()> {
    let [kind, name] = args.words.as_slice() else {
        bail!(
            "create service clusterip|nodeport|loadbalancer|externalname NAME\nSee 'cox create service -h' for help \
             and examples"
        );
    };
    let ty = match kind.to_lowercase().as_str() {
        "clusterip" => "ClusterIP",
        "nodeport" => "NodePort",
        "loadbalancer" => "LoadBalancer",
        "externalname" => "ExternalName",
        _ => bail!("unknown command {:?}\nSee 'cox create service -h' for help and examples", args.words.join(" ")),
    };
    let mut ports = Vec::new();
    for tcp in args.all("tcp") {
        let (port, target) = tcp.split_once(':').unwrap_or((tcp, tcp));
        let number: i64 = port.parse().with_context(|| format!("invalid port {port:?}"))?;
        let mut made = json!({
            "name": tcp.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": number_or_text(target),
        });
        if let Some(port) = args.number("node-port")?.filter(|port| *port > 0) {
            made["nodePort"] = port.into();
        }
        ports.push(made);
    }
    let mut spec = json!({"type": ty, "selector": {"app": name}});
    if let Some(ip) = args.get("clusterip") {
        spec["clusterIP"] = ip.into();
    }
    if ty == "ExternalName" {
        spec["externalName"] = args.required("external-name")?.into();
    } else if ports.is_empty() && args.get("clusterip") != Some("None") {
        bail!("at least one tcp port specifier must be provided");
    }
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    let metadata = json!({"name": name, "labels": {"app": name}});
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}},
    });
    made(args, object).await
}

/// `SERVICE:PORT`
fn backend(text: &str) -> Result<Value> {
    let (service, port) = text.split_once(':').with_context(|| format!("backend {text:?} is no SERVICE:PORT"))?;
    let port = match number_or_text(port) {
        Value::String(name) => json!({"name": name}),
        number => json!({"number": number}),
    };
    Ok(json!({"service": {"name": service, "port": port}}))
}

pub(crate) async fn ingress(args: &Args) -> Result<()> {
    let mut spec = json!({});
    if let Some(class) = args.get("class") {
        spec["ingressClassName"] = class.into();
    }
    if let Some(default) = args.get("default-backend") {
        spec["defaultBackend"] = backend(default)?;
    }
    let (mut rules, mut tls): (Vec<Value>, Vec<Value>) = Default::default();
    for rule in args.all("rule") {
        add_rule(rule, &mut rules, &mut tls)?;
    }
    if rules.is_empty() && !args.has("default-backend") {
        bail!(
            "not enough information provided: every ingress has to either specify a default-backend (which catches \
             all traffic) or a list of rules (which catch specific paths)"
        );
    }
    for (field, list) in [("rules", rules), ("tls", tls)] {
        if !list.is_empty() {
            spec[field] = list.into();
        }
    }
    let mut metadata = json!({"name": name(args)?});
    let annotations: Map<String, Value> = args
        .all("annotation")
        .iter()
        .filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.into())))
        .collect();
    if !annotations.is_empty() {
        metadata["annotations"] = annotations.into();
    }
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec,
        "status": {"loadBalancer": {}},
    });
    made(args, object).await
}

fn add_rule(rule: &str, rules: &mut Vec<Value>, tls: &mut Vec<Value>) -> Result<()> {
    let wrong = || format!("rule {rule} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]");
    let (place, rest) = rule.split_once('=').with_context(wrong)?;
    let (to, secret) = match rest.split_once(",tls") {
        Some((to, secret)) => (to, Some(secret.trim_start_matches('='))),
        None => (rest, None),
    };
    let (host, path) = place.split_once('/').with_context(wrong)?;
    let (path, ty) = match path.strip_suffix('*') {
        Some(prefix) => (prefix, "Prefix"),
        None => (path, "Exact"),
    };
    let path = json!({"path": format!("/{path}"), "pathType": ty, "backend": backend(to)?});
    match rules.iter_mut().find(|rule| text(rule, "/host") == host) {
        Some(same) => {
            if let Some(paths) = same.pointer_mut("/http/paths").and_then(Value::as_array_mut) {
                paths.push(path);
            }
        }
        None if host.is_empty() => rules.push(json!({"http": {"paths": [path]}})),
        None => rules.push(json!({"host": host, "http": {"paths": [path]}})),
    }
    if let Some(secret) = secret {
        let mut entry = json!({});
        if !host.is_empty() {
            entry["hosts"] = json!([host]);
        }
        if !secret.is_empty() {
            entry["secretName"] = secret.into();
        }
        tls.push(entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rules_of_one_host_are_one() {
        let (mut rules, mut tls) = (Vec::new(), Vec::new());
        add_rule("a.b/x*=web:80,tls=s", &mut rules, &mut tls).unwrap();
        add_rule("a.b/y=web:http", &mut rules, &mut tls).unwrap();
        let backend = |port: Value| json!({"service": {"name": "web", "port": port}});
        let expected = json!([{"host": "a.b", "http": {"paths": [
            {"path": "/x", "pathType": "Prefix", "backend": backend(json!({"number": 80}))},
            {"path": "/y", "pathType": "Exact", "backend": backend(json!({"name": "http"}))},
        ]}}]);
        assert_eq!(Value::from(rules), expected);
        assert_eq!(Value::from(tls), json!([{"hosts": ["a.b"], "secretName": "s"}]));
        assert!(add_rule("nothing", &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
