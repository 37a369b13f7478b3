//! `set env`: environment variables of containers, one by one or from a ConfigMap or Secret.

use anyhow::{Context as _, bail};
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
    for target in target::targets(&session, args, objects).await? {
        let mut object = target.get(&session).await?;
        let spec = object.pointer_mut(pod_spec_path(&target.resource)).context("the object has no pod template")?;
        for container in containers_mut(spec) {
            output::line(format!("# {} {}, container {}", target.resource.kind, target.name, name_of(container)))?;
            for variable in container.get("env").and_then(Value::as_array).into_iter().flatten() {
                let name = name_of(variable);
                let source = |kind: &str| variable.pointer(&format!("/valueFrom/{kind}"));
                let text =
                    |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                output::line(match (source("configMapKeyRef"), source("secretKeyRef"), source("fieldRef")) {
                    (Some(r), ..) => format!("# {name} from configmap {}, key {}", text(r, "name"), text(r, "key")),
                    (_, Some(r), _) => format!("# {name} from secret {}, key {}", text(r, "name"), text(r, "key")),
                    (.., Some(r)) => format!("# {name} from field path {}", text(r, "fieldPath")),
                    _ => format!("{name}={}", text(variable, "value")),
                })?;
            }
        }
    }
    Ok(())
}
