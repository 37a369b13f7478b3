//! Asking server and kubeconfig for what a word may become.

use serde_json::Value;

use crate::error::Result;
use crate::flags::Args;
use crate::kubeconfig;
use crate::session::{Query, Session};
use crate::verbs::pods;

use super::plan::Wanted;
use super::word::Entry;
use super::{Candidate, Then};

/// Names are all that is asked for.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

const WITH_PODS: [&str; 8] =
    ["daemonsets", "deployments", "pods", "jobs", "replicasets", "replicationcontrollers", "services", "statefulsets"];

/// What there is; `last` is what is being written.
pub(super) async fn look(args: &Args, wanted: &Wanted, last: &str) -> Result<(Vec<Candidate>, Then)> {
    if let Wanted::Configured(entry) = wanted {
        return Ok((plain(configured(args, *entry)?), Then::Done));
    }
    let session = Session::open(args).await?;
    let session = &session;
    let (texts, then) = match wanted {
        Wanted::Known(candidates, then) => return Ok((candidates.clone(), *then)),
        Wanted::Types { before, behind } => {
            let then = if behind.is_empty() { Then::Done } else { Then::GoOn };
            (types(session).await?.into_iter().map(|ty| format!("{before}{ty}{behind}")).collect(), then)
        }
        Wanted::Names { types, before, but } => {
            let all = names(session, types, &session.namespace).await?;
            let all = all.into_iter().map(|name| format!("{before}{name}"));
            (all.filter(|name| !but.contains(name)).collect(), Then::Done)
        }
        Wanted::PodsAndTypes => pods_and_types(session, last).await?,
        Wanted::Containers(pod) => (containers(session, pod).await?, Then::Done),
        Wanted::Ports(of) => (ports(session, of, last).await?, Then::Done),
        Wanted::Remote => (remote(session, last).await?, Then::GoOnOrFiles),
        Wanted::Configured(_) => unreachable!("answered above, without a server"),
    };
    Ok((plain(texts), then))
}

fn plain(texts: Vec<String>) -> Vec<Candidate> {
    texts.into_iter().map(Candidate::plain).collect()
}

fn configured(args: &Args, entry: Entry) -> Result<Vec<String>> {
    let config = kubeconfig::load(args)?;
    let mut names: Vec<String> = match entry {
        Entry::Context => config.contexts.into_iter().map(|context| context.name).collect(),
        Entry::Cluster => config.clusters.into_iter().map(|cluster| cluster.name).collect(),
        Entry::User => config.auth_infos.into_iter().map(|user| user.name).collect(),
    };
    names.sort();
    Ok(names)
}

/// Types that can be got, those of the core first.
async fn types(session: &Session) -> Result<Vec<String>> {
    let discovery = session.discovery().await?;
    let gettable = discovery.resources.iter().filter(|resource| resource.verbs.iter().any(|verb| verb == "get"));
    let mut all: Vec<(&str, String)> =
        gettable.map(|resource| (resource.group.as_str(), resource.full_name())).collect();
    all.sort();
    all.dedup();
    Ok(all.into_iter().map(|(_, name)| name).collect())
}

/// Names of all objects of these types (`pods,services`).
async fn names(session: &Session, types: &str, namespace: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for ty in types.split(',') {
        let resource = session.discovery().await?.find(ty)?;
        let path = resource.path(namespace);
        let list = session.list_as(&path, &Query::new(), METADATA, "items").await?;
        all.extend(pods::items(&list, "/items").map(|item| pods::text(item, "/metadata/name").to_owned()));
    }
    Ok(all)
}

async fn pods_and_types(session: &Session, last: &str) -> Result<(Vec<String>, Then)> {
    let mut all = names(session, "pods", &session.namespace).await?;
    all.retain(|name| name.starts_with(last));
    let then = if all.is_empty() { Then::GoOn } else { Then::Done };
    all.extend(WITH_PODS.map(|ty| format!("{ty}/")));
    Ok((all, then))
}

/// The Pod that a word means, `web` or `deployment/web`.
async fn pod(session: &Session, word: &str) -> Result<Value> {
    let target = pods::pod_or_owner(session, word).await?;
    let found = pods::pods_of(session, &target).await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

async fn containers(session: &Session, word: &str) -> Result<Vec<String>> {
    let pod = pod(session, word).await?;
    let all = pods::items(&pod, "/spec/initContainers").chain(pods::items(&pod, "/spec/containers"));
    Ok(all.map(|container| pods::text(container, "/name").to_owned()).collect())
}

/// `LOCAL:REMOTE`, with the local port that is written, or else the same.
async fn ports(session: &Session, word: &str, last: &str) -> Result<Vec<String>> {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
    let remote: Vec<u64> = match word.split_once('/') {
        Some(("service" | "services" | "svc", name)) => {
            let path = session.discovery().await?.find("services")?.path_of(&session.namespace, name);
            let service = session.get(&path).await?;
            pods::items(&service, "/spec/ports").filter_map(|port| number(port, "port")).collect()
        }
        _ => {
            let pod = pod(session, word).await?;
            let all = pods::items(&pod, "/spec/containers").flat_map(|container| pods::items(container, "/ports"));
            all.filter_map(|port| number(port, "containerPort")).collect()
        }
    };
    let local = last.split(':').next().unwrap_or_default();
    Ok(remote
        .into_iter()
        .map(|port| if local.is_empty() { format!("{port}:{port}") } else { format!("{local}:{port}") })
        .collect())
}

/// `POD:`, `NAMESPACE/` and `NAMESPACE/POD:`; a path is the shell's.
async fn remote(session: &Session, last: &str) -> Result<Vec<String>> {
    if last.starts_with(['/', '.', '~']) || last.contains(':') {
        return Ok(Vec::new());
    }
    if let Some((namespace, _)) = last.split_once('/') {
        let all = names(session, "pods", namespace).await?;
        return Ok(all.into_iter().map(|name| format!("{namespace}/{name}:")).collect());
    }
    let mut all: Vec<String> =
        names(session, "namespaces", "").await?.into_iter().map(|name| format!("{name}/")).collect();
    all.extend(names(session, "pods", &session.namespace).await?.into_iter().map(|name| format!("{name}:")));
    if last.is_empty() {
        all.extend(["./".to_owned(), "/".to_owned()]);
    }
    Ok(all)
}
