//! `describe`: all of an object that helps a person to understand it, in kubectl's layout, its events last.

mod cluster;
mod generic;
mod network;
mod node;
mod parts;
mod pod;
mod policy;
mod storage;
mod text;
mod volumes;
mod workload;

use anyhow::bail;
use serde_json::Value;

use crate::error::{Exit, Result, has_reason, say};
use crate::flags::Args;
use crate::output;
use crate::session::{Query, Session};
use crate::target::{self, Target, with_type};
use crate::verbs::pods::{items, text as text_of};

use text::Text;

pub(super) const FLAGS: &str = "
      --show-events   Show the events too (default true for one object that is named exactly)
      --chunk-size=   Accepted
";

pub(super) use pod::template_text;

/// What a describer has to work with.
struct Subject<'a> {
    session: &'a Session,
    object: &'a Value,
    namespace: &'a str,
    name: &'a str,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let Found { targets, by_prefix } = found(&session, args).await?;
    let with_events = if args.has("show-events") { args.on("show-events") } else { targets.len() == 1 && !by_prefix };
    if targets.is_empty() {
        match args.on("all-namespaces") {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {} namespace.", session.namespace),
        }
        return Ok(());
    }
    let mut failures = Vec::new();
    let mut has_printed = false;
    for target in &targets {
        match one(&session, target, with_events).await {
            Ok(text) => {
                let (before, after) = match by_prefix {
                    true => ("", "\n"),
                    false => (if has_printed { "\n\n" } else { "" }, ""),
                };
                output::put(&format!("{before}{text}{after}"))?;
                has_printed = true;
            }
            Err(error) => failures.push(error),
        }
    }
    match failures.pop() {
        None => Ok(()),
        Some(only) if failures.is_empty() => Err(only),
        Some(last) => {
            failures.iter().chain([&last]).for_each(say);
            Err(Exit(1).into())
        }
    }
}

/// What is described.
struct Found {
    targets: Vec<Target>,
    /// Whether objects are there only because their names begin as said.
    by_prefix: bool,
}

/// The objects that are named; all of a type when only the type is; all whose name begins so when none is named so.
async fn found(session: &Session, args: &Args) -> Result<Found> {
    if args.words.is_empty() && args.all("filename").is_empty() {
        bail!(
            "You must specify the type of resource to describe. Use \"cox api-resources\" for a complete list of \
             supported resources."
        );
    }
    if !args.all("filename").is_empty() {
        return Ok(Found { targets: target::targets(session, args, &args.words).await?, by_prefix: false });
    }
    let namespace = if args.on("all-namespaces") { "" } else { session.namespace.as_str() };
    let (mut targets, mut by_prefix) = (Vec::new(), false);
    for target::Named { resource, names } in target::named(session, &args.words).await? {
        let path = resource.path(namespace);
        if names.is_empty() {
            let items = list(session, &path, target::selectors(args)).await?;
            targets.extend(items.into_iter().map(|item| Target::of(&resource, with_type(&resource, item))));
        }
        for name in names {
            match session.get(&format!("{path}/{name}")).await {
                Ok(object) => targets.push(Target::of(&resource, object)),
                Err(error) if has_reason(&error, "NotFound") => {
                    let mut items = list(session, &path, Query::new()).await?;
                    items.retain(|item| name_of(item).starts_with(&name));
                    if items.is_empty() {
                        return Err(error);
                    }
                    by_prefix = true;
                    targets.extend(items.into_iter().map(|item| Target::of(&resource, with_type(&resource, item))));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Found { targets, by_prefix })
}

async fn one(session: &Session, target: &Target, with_events: bool) -> Result<String> {
    let object = match &target.object {
        Some(object) if target.source.is_none() => object.clone(),
        _ => target.get(session).await?,
    };
    let subject = Subject { session, object: &object, namespace: &target.namespace, name: &target.name };
    let mut out = Text::default();
    let has_events = describe(&mut out, &subject, target).await?;
    let events = match has_events && with_events {
        true => parts::events(session, &object, &mut out).await,
        false => String::new(),
    };
    Ok(out.aligned() + &events)
}

/// Writes an object; whether its events follow.
async fn describe(out: &mut Text, subject: &Subject<'_>, target: &Target) -> Result<bool> {
    let object = subject.object;
    match (target.resource.group.as_str(), target.resource.kind.as_str()) {
        ("", "Pod") => pod::pod(out, object),
        ("", "Node") => node::node(out, subject).await,
        ("", "Service") => network::service(out, subject).await,
        ("", "Namespace") => {
            cluster::namespace(out, subject).await?;
            return Ok(false);
        }
        ("", "ConfigMap") => cluster::config_map(out, object),
        ("", "Secret") => {
            cluster::secret(out, object);
            return Ok(false);
        }
        ("", "ServiceAccount") => cluster::service_account(out, object),
        ("", "PersistentVolume") => storage::volume(out, object),
        ("", "PersistentVolumeClaim") => storage::claim(out, subject).await?,
        ("networking.k8s.io", "Ingress") => network::ingress(out, subject).await,
        ("apps", "Deployment") => workload::deployment(out, subject).await?,
        ("apps", "ReplicaSet") => workload::replica_set(out, subject).await?,
        ("apps", "DaemonSet") => workload::daemon_set(out, subject).await?,
        ("apps", "StatefulSet") => workload::stateful_set(out, subject).await?,
        ("", "Endpoints") => policy::endpoints(out, object),
        ("discovery.k8s.io", "EndpointSlice") => policy::endpoint_slice(out, object),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class(out, object),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget(out, object),
        ("", "ResourceQuota") => {
            policy::quota(out, object);
            return Ok(false);
        }
        ("batch", "CronJob") => policy::cron_job(out, object),
        ("batch", "Job") => workload::job(out, object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            cluster::role(out, object);
            return Ok(false);
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            cluster::binding(out, object);
            return Ok(false);
        }
        _ => generic::object(out, object),
    }
    Ok(true)
}

/// The objects of a list, or nothing when they may not be read.
async fn list(session: &Session, path: &str, query: Query) -> Result<Vec<Value>> {
    match session.list(path, &query).await {
        Ok(list) => Ok(items(&list, "/items").cloned().collect()),
        Err(error) if has_reason(&error, "Forbidden") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn name_of(object: &Value) -> &str {
    text_of(object, "/metadata/name")
}
