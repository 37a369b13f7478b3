//! `set env`: environment variables of containers, one by one or from a ConfigMap or Secret.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use api::quantity::Quantity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{containers_mut, is_like, name_of, split};
use crate::error::Result;
use crate::flags::Args;
use crate::output;
use crate::session::Session;
use crate::target;
use crate::verbs::change::pod_spec_path;

pub(crate) const FLAGS: &str = "
  -c, --containers=  Which containers, * in the middle of a name stands for anything
  -e, --env=+        KEY=VALUE to set
      --from=        configmap/NAME or secret/NAME whose keys are set
      --keys=,       Only these keys of --from
      --prefix=      Stands before each name of --from
      --list         Show what is set
      --overwrite    Change what is set already (default true)
      --resolve      With --list: show values instead of where they come from
";

/// One change of an environment.
enum Change {
    Set(Value),
    Remove(String),
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let is_change = |word: &str| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let (objects, words) = split(&args.words, is_change);
    let mut changes = Vec::new();
    for word in words.iter().chain(args.all("env")) {
        match word.split_once('=') {
            Some((name, value)) => changes.push(Change::Set(json!({"name": name, "value": value}))),
            None => changes.push(Change::Remove(word.trim_end_matches('-').to_owned())),
        }
    }
    if let Some(from) = args.get("from") {
        changes.extend(of_source(args, from).await?);
    }
    if args.on("list") {
        return list(args, &objects).await;
    }
    let pattern = args.get("containers").unwrap_or("*");
    super::each_spec(args, &objects, "env updated", |spec| {
        for container in containers_mut(spec).filter(|c| is_like(pattern, name_of(c))) {
            let members = container.as_object_mut().context("a container is an object")?;
            let env = members.entry("env").or_insert_with(|| json!([]));
            let env = env.as_array_mut().context("env is a list")?;
            for change in &changes {
                apply(env, change, args.on_unless_off("overwrite"))?;
            }
            if env.is_empty() {
                members.remove("env");
            }
        }
        Ok(())
    })
    .await
}

fn apply(env: &mut Vec<Value>, change: &Change, overwrites: bool) -> Result<()> {
    match change {
        Change::Remove(name) => env.retain(|variable| name_of(variable) != name),
        Change::Set(new) => match env.iter_mut().find(|variable| name_of(variable) == name_of(new)) {
            Some(old) if !overwrites && old != new => {
                bail!("'{}' already has a value, and --overwrite is false", name_of(new))
            }
            Some(old) => *old = new.clone(),
            None => env.push(new.clone()),
        },
    }
    Ok(())
}

/// A variable for each key of a ConfigMap or Secret.
async fn of_source(args: &Args, from: &str) -> Result<Vec<Change>> {
    let session = Session::open(args).await?;
    let (ty, name) =
        from.split_once('/').with_context(|| format!("--from={from}: expected configmap/NAME or secret/NAME"))?;
    let resource = session.discovery().await?.find(ty)?.clone();
    let field = match resource.kind.as_str() {
        "ConfigMap" => "configMapKeyRef",
        "Secret" => "secretKeyRef",
        other => bail!("unsupported resource specified in --from: {other}"),
    };
    let object = session.get(&resource.path_of(&session.namespace, name)).await?;
    let keys = args.all("keys");
    let prefix = args.get("prefix").unwrap_or_default();
    let data = object.get("data").and_then(Value::as_object).into_iter().flatten();
    let wanted = data.filter(|(key, _)| keys.is_empty() || keys.contains(key));
    Ok(wanted
        .map(|(key, _)| {
            let variable = key.to_uppercase().replace(['-', '.'], "_");
            if variable != *key {
                eprintln!("Warning: key {key} transferred to {variable}");
            }
            Change::Set(json!({
                "name": format!("{prefix}{variable}"), "valueFrom": {field: {"name": name, "key": key}},
            }))
        })
        .collect())
}

async fn list(args: &Args, objects: &[String]) -> Result<()> {
    let session = Session::open(args).await?;
    let mut sources = args.on("resolve").then(|| Sources { session: &session, read: BTreeMap::new() });
    for target in target::targets(&session, args, objects).await? {
        let mut object = target.get(&session).await?;
        let whole = object.clone();
        let spec = object.pointer_mut(pod_spec_path(&target.resource)).context("the object has no pod template")?;
        // Why values could not be found, and of which variables.
        let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in containers_mut(spec) {
            output::line(format!("# {} {}, container {}", target.resource.kind, target.name, name_of(container)))?;
            for variable in container.get("env").and_then(Value::as_array).into_iter().flatten() {
                let name = name_of(variable);
                let Some(source) = variable.get("valueFrom").filter(|source| !source.is_null()) else {
                    output::line(format!("{name}={}", text(variable, "value")))?;
                    continue;
                };
                if let Some(sources) = &mut sources {
                    match sources.value(source, &whole, container).await {
                        Ok(value) => {
                            output::line(format!("{name}={value}"))?;
                            continue;
                        }
                        Err(error) => unknown.entry(error.to_string()).or_default().push(name.to_owned()),
                    }
                }
                output::line(format!("# {name} from {}", described(source)))?;
            }
        }
        let line =
            |(why, names): (String, Vec<String>)| format!("error retrieving reference for {}: {why}", names.join(", "));
        let mut lines: Vec<String> = unknown.into_iter().map(line).collect();
        lines.sort();
        lines.iter().for_each(|line| eprintln!("{line}"));
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Where a variable's value comes from, in words.
fn described(source: &Value) -> String {
    let of = |kind: &str| source.get(kind).filter(|reference| !reference.is_null());
    if let Some(reference) = of("configMapKeyRef") {
        return format!("configmap {}, key {}", text(reference, "name"), text(reference, "key"));
    }
    if let Some(reference) = of("secretKeyRef") {
        return format!("secret {}, key {}", text(reference, "name"), text(reference, "key"));
    }
    if let Some(reference) = of("fieldRef") {
        return format!("field path {}", text(reference, "fieldPath"));
    }
    if let Some(reference) = of("resourceFieldRef") {
        let container = text(reference, "containerName");
        let slash = if container.is_empty() { "" } else { "/" };
        return format!("resource field {container}{slash}{}", text(reference, "resource"));
    }
    "invalid valueFrom".to_owned()
}

/// The ConfigMaps and Secrets that variables come from, each read once.
struct Sources<'a> {
    session: &'a Session,
    read: BTreeMap<String, Value>,
}

impl Sources<'_> {
    /// The value that a variable would have in a Pod of now.
    async fn value(&mut self, source: &Value, object: &Value, container: &Value) -> Result<String> {
        let of = |kind: &str| source.get(kind).filter(|reference| !reference.is_null());
        if let Some(reference) = of("secretKeyRef") {
            let (name, key) = (text(reference, "name"), text(reference, "key"));
            let secret = self.read("secrets", name).await?;
            let value = secret.pointer("/data").and_then(|data| data.get(key)).and_then(Value::as_str);
            let value = value.with_context(|| format!("key {key} not found in secret {name}"))?;
            let bytes = STANDARD.decode(value).with_context(|| format!("decode key {key} of secret {name}"))?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if let Some(reference) = of("configMapKeyRef") {
            let (name, key) = (text(reference, "name"), text(reference, "key"));
            let map = self.read("configmaps", name).await?;
            let value = map.pointer("/data").and_then(|data| data.get(key)).and_then(Value::as_str);
            return Ok(value.with_context(|| format!("key {key} not found in config map {name}"))?.to_owned());
        }
        if let Some(reference) = of("fieldRef") {
            return field(object, text(reference, "fieldPath"));
        }
        if let Some(reference) = of("resourceFieldRef") {
            return resource(container, reference);
        }
        bail!("invalid valueFrom")
    }

    async fn read(&mut self, plural: &str, name: &str) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{}/{plural}/{name}", self.session.namespace);
        if let Some(object) = self.read.get(&path) {
            return Ok(object.clone());
        }
        let object = self.session.get(&path).await?;
        self.read.insert(path, object.clone());
        Ok(object)
    }
}

/// A field of an object's metadata, as the downward API gives it.
fn field(object: &Value, path: &str) -> Result<String> {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" => {
            Ok(text(metadata, path.trim_start_matches("metadata.")).to_owned())
        }
        "metadata.labels" | "metadata.annotations" => {
            let map = metadata.get(path.trim_start_matches("metadata.")).and_then(Value::as_object);
            let line = |(key, value): (&String, &Value)| format!("{key}={:?}", value.as_str().unwrap_or_default());
            let mut lines: Vec<String> = map.into_iter().flatten().map(line).collect();
            lines.sort();
            Ok(lines.join("\n"))
        }
        other => bail!("unsupported fieldPath: {other}"),
    }
}

/// A container's own request or limit, rounded up to whole divisors.
fn resource(container: &Value, reference: &Value) -> Result<String> {
    let name = text(reference, "resource");
    let amount = || -> Option<&str> {
        let (kind, resource) = name.split_once('.')?;
        match kind {
            "limits" | "requests" => container.get("resources")?.get(kind)?.get(resource)?.as_str().or(Some("0")),
            _ => None,
        }
    };
    let known = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    if !known.contains(&name) && !name.ends_with(".ephemeral-storage") {
        bail!("unsupported container resource : {name}");
    }
    let quantity = |text: &str| Quantity::parse(text).with_context(|| format!("invalid quantity {text:?} of {name}"));
    let divisor = reference.get("divisor").and_then(Value::as_str).filter(|text| *text != "0").unwrap_or("1");
    let (amount, divisor) = (quantity(amount().unwrap_or("0"))?.milli_value(), quantity(divisor)?.milli_value());
    Ok(if divisor == 0 { amount } else { (amount + divisor - 1) / divisor }.to_string())
}
