//! `config`: reads and changes the kubeconfig.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value, json};

use super::pods::{items, text};
use crate::error::Result;
use crate::flags::Args;
use crate::kubeconfig;
use crate::output::{self, Output, line, tabs};

pub(super) const VIEW_FLAGS: &str = "
      --flatten   With what files hold, in one file
      --minify    Only what the current context needs
      --raw       With secrets
      --merge     Accepted
";

pub(super) const LIST_FLAGS: &str = "
      --no-headers   Without the header line
  -o, --output=      name
";

pub(super) const SET_FLAGS: &str = "
      --current                     Of the current context
      --certificate-authority-data= Accepted
      --embed-certs                 Put the files into the kubeconfig
      --proxy-url=                  A proxy to the server
      --username=                   User for basic authentication
      --password=                   Password for basic authentication
      --exec-command=               A program that gives credentials
      --exec-api-version=           The version of the program's protocol
      --exec-arg=,                  Arguments of the program
      --exec-env=,                  NAME=VALUE in the program's environment
      --exec-interactive-mode=      Never, IfAvailable or Always
      --exec-provide-cluster-info   Tell the program of the cluster
";

pub(super) const PROPERTY_FLAGS: &str = "
      --set-raw-bytes  The value is not base64 where bytes are held
";

/// The kubeconfig as it is written: the first file that exists, else the first.
fn read(args: &Args) -> Result<(PathBuf, Value)> {
    let paths = kubeconfig::paths(args);
    let path = paths.iter().find(|path| path.exists()).or(paths.first()).context("there is no kubeconfig")?.clone();
    if !path.exists() {
        let empty = json!({
            "apiVersion": "v1", "kind": "Config", "clusters": null, "contexts": null, "users": null,
            "current-context": "",
        });
        return Ok((path, empty));
    }
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let document = api::yaml::parse(&bytes).with_context(|| format!("read {}", path.display()))?;
    Ok((path, document.value))
}

/// The entries sorted, what says nothing taken out, and what kubectl always writes put in.
fn tidied(config: &Value) -> Value {
    let mut config = config.clone();
    for (list, field) in [("clusters", "cluster"), ("contexts", "context"), ("users", "user")] {
        let Some(entries) = config.get_mut(list).and_then(Value::as_array_mut) else { continue };
        entries.sort_by(|a, b| text(a, "/name").cmp(text(b, "/name")));
        for entry in entries.iter_mut().filter_map(|entry| entry.get_mut(field)?.as_object_mut()) {
            entry.retain(|_, value| *value != Value::Bool(false) && value.as_str() != Some(""));
            if list == "contexts" {
                entry.entry("cluster").or_insert_with(|| "".into());
                entry.entry("user").or_insert_with(|| "".into());
            }
        }
        if entries.is_empty() {
            config[list] = Value::Null;
        }
    }
    config
}

fn write(path: &PathBuf, config: &Value) -> Result<()> {
    let config = &tidied(config);
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    // Written beside and renamed: a kubeconfig is never half there, and nobody else may read it.
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(api::yaml::to_string(config).as_bytes()).with_context(|| format!("write {}", beside.display()))?;
    file.sync_all()?;
    std::fs::rename(&beside, path).with_context(|| format!("write {}", path.display()))
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    items(config, &format!("/{list}")).find(|item| text(item, "/name") == name)
}

/// The entry of a list, put there when it is missing.
fn entry<'a>(config: &'a mut Value, list: &str, name: &str, field: &str) -> Result<(&'a mut Map<String, Value>, bool)> {
    let map = config.as_object_mut().context("the kubeconfig is no object")?;
    let slot = map.entry(list).or_insert_with(|| json!([]));
    if slot.is_null() {
        *slot = json!([]);
    }
    let all = slot.as_array_mut().with_context(|| format!("{list} is no list"))?;
    let at = all.iter().position(|item| text(item, "/name") == name);
    let is_new = at.is_none();
    if is_new {
        all.push(json!({"name": name, field: {}}));
    }
    let at = at.unwrap_or(all.len() - 1);
    let item =
        all.get_mut(at).and_then(Value::as_object_mut).with_context(|| format!("an entry of {list} is no object"))?;
    Ok((api::object::child_mut(item, field), is_new))
}

pub(super) async fn view(args: &Args) -> Result<()> {
    let mut config = tidied(&read(args)?.1);
    if args.on("minify") {
        minify(&mut config, args)?;
    }
    if !args.on("raw") && !args.on("flatten") {
        redact(&mut config);
    }
    match Output::of(args)? {
        Output::Table { .. } => output::put(&api::yaml::to_string(&config)),
        Output::Objects(form) => output::put(&form.text(&config, args)?),
    }
}

fn minify(config: &mut Value, args: &Args) -> Result<()> {
    let name = args.get("context").unwrap_or(text(config, "/current-context")).to_owned();
    let context =
        named(config, "contexts", &name).with_context(|| format!("no context exists with the name: {name:?}"))?;
    let (cluster, user) = (text(context, "/context/cluster").to_owned(), text(context, "/context/user").to_owned());
    for (list, keep) in [("contexts", &name), ("clusters", &cluster), ("users", &user)] {
        if let Some(all) = config.get_mut(list).and_then(Value::as_array_mut) {
            all.retain(|item| text(item, "/name") == keep);
        }
    }
    Ok(())
}

/// Hides what must not be seen over a shoulder.
fn redact(config: &mut Value) {
    for cluster in config.get_mut("clusters").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(data) = cluster.pointer_mut("/cluster/certificate-authority-data") {
            *data = "DATA+OMITTED".into();
        }
    }
    for user in config.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten() {
        for (key, hidden) in [
            ("client-certificate-data", "DATA+OMITTED"),
            ("client-key-data", "DATA+OMITTED"),
            ("token", "REDACTED"),
            ("password", "REDACTED"),
        ] {
            if let Some(value) = user.pointer_mut(&format!("/user/{key}")) {
                *value = hidden.into();
            }
        }
    }
}

pub(super) async fn get_contexts(args: &Args) -> Result<()> {
    let (_, config) = read(args)?;
    let current = args.get("context").unwrap_or(text(&config, "/current-context"));
    let mut contexts: Vec<&Value> = items(&config, "/contexts").collect();
    contexts.sort_by_key(|context| text(context, "/name"));
    if let Some(name) = args.words.first() {
        contexts.retain(|context| text(context, "/name") == name);
    }
    let missing = args.words.first().filter(|_| contexts.is_empty());
    if args.get("output") == Some("name") {
        return output::put(&contexts.iter().map(|c| format!("{}\n", text(c, "/name"))).collect::<String>());
    }
    let mut table = if args.on("no-headers") { "" } else { "CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n" }.to_owned();
    for context in contexts {
        let name = text(context, "/name");
        let part = |key: &str| text(context, &format!("/context/{key}")).to_owned();
        let mark = if name == current { "*" } else { "" };
        table.push_str(&format!("{mark}\t{name}\t{}\t{}\t{}\n", part("cluster"), part("user"), part("namespace")));
    }
    output::put(&tabs::TABLE.align(&table))?;
    match missing {
        Some(name) => bail!("context {name} not found"),
        None => Ok(()),
    }
}

pub(super) async fn current_context(args: &Args) -> Result<()> {
    let (_, config) = read(args)?;
    match text(&config, "/current-context") {
        "" => bail!("current-context is not set"),
        name => line(name),
    }
}

pub(super) async fn get_clusters(args: &Args) -> Result<()> {
    names(args, "clusters")
}

pub(super) async fn get_users(args: &Args) -> Result<()> {
    names(args, "users")
}

fn names(args: &Args, list: &str) -> Result<()> {
    let (_, config) = read(args)?;
    let mut names: Vec<&str> = items(&config, &format!("/{list}")).map(|item| text(item, "/name")).collect();
    names.sort_unstable();
    let all: String = names.iter().map(|name| format!("{name}\n")).collect();
    output::put(&format!("NAME\n{all}"))
}

fn only_name(args: &Args) -> Result<&String> {
    match args.words.as_slice() {
        [name] => Ok(name),
        other => bail!("accepts 1 arg(s), received {}", other.len()),
    }
}

pub(super) async fn use_context(args: &Args) -> Result<()> {
    let [name] = args.words.as_slice() else { bail!("Unexpected args: [{}]", args.words.join(" ")) };
    let (path, mut config) = read(args)?;
    named(&config, "contexts", name).with_context(|| format!("no context exists with the name: {name:?}"))?;
    config["current-context"] = name.as_str().into();
    write(&path, &config)?;
    line(format!("Switched to context {name:?}."))
}

pub(super) async fn set_context(args: &Args) -> Result<()> {
    let (path, mut config) = read(args)?;
    let name = match args.on("current") {
        true => text(&config, "/current-context").to_owned(),
        false if args.words.is_empty() => bail!("you must specify a non-empty context name or --current"),
        false => only_name(args)?.clone(),
    };
    let (context, is_new) = entry(&mut config, "contexts", &name, "context")?;
    for key in ["cluster", "user", "namespace"] {
        if let Some(value) = args.get(key) {
            context.insert(key.to_owned(), value.into());
        }
    }
    write(&path, &config)?;
    line(format!("Context {name:?} {}.", if is_new { "created" } else { "modified" }))
}

pub(super) async fn set_cluster(args: &Args) -> Result<()> {
    let name = only_name(args)?;
    let (path, mut config) = read(args)?;
    let (cluster, _) = entry(&mut config, "clusters", name, "cluster")?;
    for (flag, key) in [("server", "server"), ("tls-server-name", "tls-server-name"), ("proxy-url", "proxy-url")] {
        if let Some(value) = args.get(flag) {
            cluster.insert(key.to_owned(), value.into());
        }
    }
    if args.has("insecure-skip-tls-verify") {
        cluster.insert("insecure-skip-tls-verify".to_owned(), args.on("insecure-skip-tls-verify").into());
    }
    file(args, cluster, "certificate-authority")?;
    write(&path, &config)?;
    line(format!("Cluster {name:?} set."))
}

pub(super) async fn set_credentials(args: &Args) -> Result<()> {
    let name = only_name(args)?;
    let (path, mut config) = read(args)?;
    let (user, _) = entry(&mut config, "users", name, "user")?;
    for key in ["token", "username", "password"] {
        if let Some(value) = args.get(key) {
            user.insert(key.to_owned(), value.into());
        }
    }
    file(args, user, "client-certificate")?;
    file(args, user, "client-key")?;
    exec(args, user)?;
    write(&path, &config)?;
    line(format!("User {name:?} set."))
}

/// The program that gives credentials.
fn exec(args: &Args, user: &mut Map<String, Value>) -> Result<()> {
    if !["exec-command", "exec-api-version", "exec-arg", "exec-env"].iter().any(|flag| args.has(flag)) {
        return Ok(());
    }
    let exec = api::object::child_mut(user, "exec");
    for (flag, key) in
        [("exec-command", "command"), ("exec-api-version", "apiVersion"), ("exec-interactive-mode", "interactiveMode")]
    {
        if let Some(value) = args.get(flag) {
            exec.insert(key.to_owned(), value.into());
        }
    }
    if args.has("exec-arg") {
        exec.insert("args".to_owned(), json!(args.all("exec-arg")));
    }
    for pair in args.all("exec-env") {
        let (name, value) = pair.split_once('=').with_context(|| format!("--exec-env {pair:?} is no NAME=VALUE"))?;
        let env = exec.entry("env").or_insert_with(|| json!([]));
        let env = env.as_array_mut().context("env is no list")?;
        env.retain(|variable| text(variable, "/name") != name);
        env.push(json!({"name": name, "value": value}));
    }
    exec.entry("env").or_insert(Value::Null);
    exec.entry("args").or_insert(Value::Null);
    exec.insert("provideClusterInfo".to_owned(), args.on("exec-provide-cluster-info").into());
    Ok(())
}

/// A file's path, or with --embed-certs what it holds.
fn file(args: &Args, into: &mut Map<String, Value>, key: &str) -> Result<()> {
    use base64::Engine as _;
    let Some(path) = args.get(key) else { return Ok(()) };
    if args.on("embed-certs") {
        let bytes = std::fs::read(path).with_context(|| format!("read {path}"))?;
        into.remove(key);
        into.insert(format!("{key}-data"), base64::engine::general_purpose::STANDARD.encode(bytes).into());
    } else {
        into.remove(&format!("{key}-data"));
        into.insert(key.to_owned(), path.into());
    }
    Ok(())
}

pub(super) async fn delete_context(args: &Args) -> Result<()> {
    delete(args, "contexts", "context")
}

pub(super) async fn delete_cluster(args: &Args) -> Result<()> {
    delete(args, "clusters", "cluster")
}

pub(super) async fn delete_user(args: &Args) -> Result<()> {
    delete(args, "users", "user")
}

fn delete(args: &Args, list: &str, word: &str) -> Result<()> {
    let name = only_name(args)?;
    let (path, mut config) = read(args)?;
    let missing = || anyhow!("cannot delete {word} {name}, not in {}", path.display());
    named(&config, list, name).ok_or_else(missing)?;
    if let Some(all) = config.get_mut(list).and_then(Value::as_array_mut) {
        all.retain(|item| text(item, "/name") != name);
    }
    write(&path, &config)?;
    if list == "contexts" && text(&config, "/current-context") == name {
        eprintln!(
            "warning: this removed your active context, use \"cox config use-context\" to select a different one"
        );
    }
    line(format!("deleted {word} {name} from {}", path.display()))
}

pub(super) async fn rename_context(args: &Args) -> Result<()> {
    let [old, new] = args.words.as_slice() else { bail!("accepts 2 arg(s), received {}", args.words.len()) };
    let (path, mut config) = read(args)?;
    if named(&config, "contexts", new).is_some() {
        bail!("cannot rename the context {old:?}, the context {new:?} already exists in {}", path.display());
    }
    let all = config.get_mut("contexts").and_then(Value::as_array_mut);
    let found = all.into_iter().flatten().find(|item| text(item, "/name") == old);
    let found = found.with_context(|| format!("cannot rename the context {old:?}, it's not in {}", path.display()))?;
    found["name"] = new.as_str().into();
    if text(&config, "/current-context") == old {
        config["current-context"] = new.as_str().into();
    }
    write(&path, &config)?;
    line(format!("Context {old:?} renamed to {new:?}."))
}

pub(super) async fn unset(args: &Args) -> Result<()> {
    let name = only_name(args)?;
    let (path, mut config) = read(args)?;
    match name.split('.').collect::<Vec<_>>().as_slice() {
        ["current-context"] => config["current-context"] = "".into(),
        [list @ ("contexts" | "clusters" | "users"), name] => {
            if let Some(all) = config.get_mut(*list).and_then(Value::as_array_mut) {
                all.retain(|item| text(item, "/name") != *name);
            }
        }
        [list @ ("contexts" | "clusters" | "users"), entry_name, rest @ ..] => {
            let field = list.trim_end_matches('s');
            let (entry, _) = entry(&mut config, list, entry_name, field)?;
            entry.remove(&rest.join("."));
        }
        _ => bail!("unable to parse {name} after [] at api.Config"),
    }
    write(&path, &config)?;
    line(format!("Property {name:?} unset."))
}

/// What entries may have.
const FIELDS: [(&str, &[&str]); 3] = [
    (
        "clusters",
        &[
            "server",
            "tls-server-name",
            "insecure-skip-tls-verify",
            "certificate-authority",
            "certificate-authority-data",
            "proxy-url",
            "disable-compression",
        ],
    ),
    ("contexts", &["cluster", "user", "namespace"]),
    (
        "users",
        &[
            "token",
            "tokenFile",
            "username",
            "password",
            "client-certificate",
            "client-certificate-data",
            "client-key",
            "client-key-data",
            "as",
            "as-uid",
        ],
    ),
];

/// Members of entries that hold bytes.
const BYTES: [&str; 3] = ["certificate-authority-data", "client-certificate-data", "client-key-data"];

pub(super) async fn set(args: &Args) -> Result<()> {
    use base64::Engine as _;
    let [name, value] = args.words.as_slice() else { bail!("Unexpected args: [{}]", args.words.join(" ")) };
    let (path, mut config) = read(args)?;
    match name.split('.').collect::<Vec<_>>().as_slice() {
        ["current-context"] => config["current-context"] = value.as_str().into(),
        [list @ ("contexts" | "clusters" | "users"), rest @ ..] if rest.len() > 1 => {
            let known = FIELDS.iter().find(|(name, _)| name == list).map_or(&[][..], |(_, fields)| fields);
            if !known.contains(&rest[rest.len() - 1]) {
                bail!("unable to parse {name}: {list} have no {:?}", rest[rest.len() - 1]);
            }
            let (entry_name, field) = (rest[..rest.len() - 1].join("."), rest[rest.len() - 1]);
            let (entry, _) = entry(&mut config, list, &entry_name, list.trim_end_matches('s'))?;
            let value = match value.as_str() {
                "true" | "false" => (value == "true").into(),
                raw if BYTES.contains(&field) && args.on("set-raw-bytes") => {
                    base64::engine::general_purpose::STANDARD.encode(raw).into()
                }
                other => Value::from(other),
            };
            entry.insert(field.to_owned(), value);
        }
        _ => bail!("unable to parse {name} after [] at api.Config"),
    }
    write(&path, &config)?;
    line(format!("Property {name:?} set."))
}
