//! Generators of what others are configured by: namespaces, ConfigMaps, Secrets, accounts, quotas, budgets, priorities.

use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::made;
use crate::error::Result;
use crate::flags::Args;
use crate::hash;

pub(crate) const DATA_FLAGS: &str = "
      --from-literal=+   KEY=VALUE
      --from-file=+      FILE, KEY=FILE, or a directory
      --from-env-file=+  A file of KEY=VALUE lines
      --append-hash      End the name with a hash of the content
      --type=            The type of the Secret
      --cert=            File of the certificate (tls)
      --key=             File of the key (tls)
      --docker-server=   Address of the registry (docker-registry)
      --docker-username= User of the registry
      --docker-password= Password of the registry
      --docker-email=    Mail address for the registry
";

pub(crate) const QUOTA_FLAGS: &str = "
      --hard=           RESOURCE=AMOUNT,…
      --scopes=         SCOPE,…
      --selector=       Labels of the Pods that a budget is about
      --min-available=  How many Pods there must be, a number or a percentage
      --max-unavailable=  How many Pods may be away, a number or a percentage
      --value=          The value of a priority
      --description=    What a priority is for
      --global-default  Pods without a priority get this one
      --preemption-policy=  PreemptLowerPriority or Never
";

pub(super) fn name(args: &Args) -> Result<&str> {
    match args.words.as_slice() {
        [name] => Ok(name),
        words => {
            bail!("exactly one NAME is required, got {}\nSee 'cox {} -h' for help and examples", words.len(), args.verb)
        }
    }
}

pub(crate) async fn namespace(args: &Args) -> Result<()> {
    made(
        args,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name(args)?}, "spec": {}, "status": {}}),
    )
    .await
}

pub(crate) async fn service_account(args: &Args) -> Result<()> {
    made(args, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name(args)?}})).await
}

/// Keys and their bytes.
type Data = Vec<(String, Vec<u8>)>;

/// What the --from-… flags say.
fn data(args: &Args) -> Result<Data> {
    let mut data = Data::new();
    for file in args.all("from-file") {
        let (key, path) = match file.split_once('=') {
            Some((key, path)) => (Some(key.to_owned()), path),
            None => (None, file.as_str()),
        };
        let path = Path::new(path);
        let doing = || format!("error reading {}", path.display());
        if !path.exists() {
            bail!("error reading {}: no such file or directory", path.display());
        }
        if path.is_dir() {
            for entry in std::fs::read_dir(path).with_context(doing)? {
                let entry = entry.with_context(doing)?.path();
                if entry.is_file() {
                    data.push((file_name(&entry), std::fs::read(&entry).with_context(doing)?));
                }
            }
            continue;
        }
        data.push((key.unwrap_or_else(|| file_name(path)), std::fs::read(path).with_context(doing)?));
    }
    for literal in args.all("from-literal") {
        let wrong = || format!("invalid literal source {literal}, expected key=value");
        let (key, value) = literal.split_once('=').with_context(wrong)?;
        let value = value.trim_matches(|c| c == '"' || c == '\'');
        data.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    for file in args.all("from-env-file") {
        let text = std::fs::read_to_string(file).with_context(|| format!("error reading {file}"))?;
        for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                // A name alone takes its value from the environment.
                None => (line, std::env::var(line).unwrap_or_default()),
            };
            data.push((key.to_owned(), value.into_bytes()));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for (key, _) in &data {
        if let Some(why) = api::names::config_map_key(key).first() {
            bail!("{key:?} is not valid key name: {why}");
        }
        if !seen.insert(key) {
            bail!(
                "cannot add key {key:?}, another key by that name already exists in Data for ConfigMap {:?}",
                name(args)?
            );
        }
    }
    Ok(data)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) async fn config_map(args: &Args) -> Result<()> {
    let (mut plain, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in data(args)? {
        match String::from_utf8(bytes) {
            Ok(text) => plain.insert(key, text.into()),
            Err(error) => binary.insert(key, STANDARD.encode(error.into_bytes()).into()),
        };
    }
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(args)?}});
    for (field, map) in [("data", plain), ("binaryData", binary)] {
        if !map.is_empty() {
            object[field] = map.into();
        }
    }
    made(args, hashed(args, object)).await
}

/// With a hash of its content at the end of its name, if that is asked for.
fn hashed(args: &Args, mut object: Value) -> Value {
    if args.on("append-hash") {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        object["metadata"]["name"] = format!("{name}-{}", hash::of(&object)).into();
    }
    object
}

pub(crate) async fn secret(args: &Args) -> Result<()> {
    let [kind, name] = args.words.as_slice() else {
        bail!("create secret generic|tls|docker-registry NAME\nSee 'cox create secret -h' for help and examples");
    };
    let read = |flag: &str| -> Result<Vec<u8>> {
        let path = args.required(flag)?;
        if !Path::new(path).exists() {
            bail!("Cannot read file {path}, open {path}: no such file or directory");
        }
        std::fs::read(path).with_context(|| format!("Cannot read file {path}"))
    };
    let (ty, data): (Option<&str>, Data) = match kind.as_str() {
        "generic" => (args.get("type"), data(args)?),
        "tls" => {
            let data = vec![("tls.crt".to_owned(), read("cert")?), ("tls.key".to_owned(), read("key")?)];
            (Some("kubernetes.io/tls"), data)
        }
        "docker-registry" => {
            let data = match args.all("from-file") {
                [] => vec![(".dockerconfigjson".to_owned(), docker_config(args)?)],
                _ => data(args)?,
            };
            (Some("kubernetes.io/dockerconfigjson"), data)
        }
        _ => bail!("unknown command {:?}\nSee 'cox create secret -h' for help and examples", args.words.join(" ")),
    };
    let data: Map<String, Value> = data.into_iter().map(|(key, bytes)| (key, STANDARD.encode(bytes).into())).collect();
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    if !data.is_empty() {
        object["data"] = data.into();
    }
    if let Some(ty) = ty {
        object["type"] = ty.into();
    }
    made(args, hashed(args, object)).await
}

fn docker_config(args: &Args) -> Result<Vec<u8>> {
    let server = args.get("docker-server").unwrap_or("https://index.docker.io/v1/");
    let (Some(user), Some(password)) = (args.get("docker-username"), args.get("docker-password")) else {
        bail!(
            "either --from-file or the combination of --docker-username, --docker-password and --docker-server is \
             required"
        );
    };
    // In kubectl's order: the bytes are the Secret's.
    let mut entry = format!("\"username\":{},\"password\":{}", json!(user), json!(password));
    if let Some(email) = args.get("docker-email") {
        entry.push_str(&format!(",\"email\":{}", json!(email)));
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    Ok(format!("{{\"auths\":{{{}:{{{entry},\"auth\":\"{auth}\"}}}}}}", json!(server)).into_bytes())
}

pub(crate) async fn quota(args: &Args) -> Result<()> {
    let mut spec = json!({});
    let mut hard = Map::new();
    for part in args.get("hard").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
        let wrong = || format!("Invalid argument syntax {part}, expected <resource>=<value>");
        let (resource, amount) = part.split_once('=').with_context(wrong)?;
        let (resource, amount) = (resource.to_owned(), amount.to_owned());
        api::quantity::Quantity::parse(&amount)
            .with_context(|| format!("invalid quantity {amount:?} of {resource}"))?;
        hard.insert(resource, amount.into());
    }
    if !hard.is_empty() {
        spec["hard"] = hard.into();
    }
    if let Some(scopes) = args.get("scopes") {
        spec["scopes"] = json!(scopes.split(',').collect::<Vec<_>>());
    }
    let metadata = json!({"name": name(args)?});
    let object = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec, "status": {},
    });
    made(args, object).await
}

pub(super) fn number_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

pub(crate) async fn disruption_budget(args: &Args) -> Result<()> {
    let selector = args.get("selector").context("a selector must be specified")?;
    let labels: Map<String, Value> =
        super::super::change::pairs(selector)?.into_iter().map(|(key, value)| (key, value.into())).collect();
    let mut spec = json!({"selector": {"matchLabels": labels}});
    match (args.get("min-available"), args.get("max-unavailable")) {
        (Some(_), Some(_)) => bail!("min-available and max-unavailable cannot be both specified"),
        (Some(count), None) => spec["minAvailable"] = number_or_text(count),
        (None, Some(count)) => spec["maxUnavailable"] = number_or_text(count),
        (None, None) => bail!("one of min-available or max-unavailable must be specified"),
    }
    let metadata = json!({"name": name(args)?});
    made(args, json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}))
        .await
}

pub(crate) async fn priority_class(args: &Args) -> Result<()> {
    let mut object = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name(args)?},
        "value": args.number("value")?.unwrap_or(0),
        "preemptionPolicy": args.get("preemption-policy").unwrap_or("PreemptLowerPriority"),
    });
    if args.on("global-default") {
        object["globalDefault"] = true.into();
    }
    if let Some(description) = args.get("description") {
        object["description"] = description.into();
    }
    made(args, object).await
}
