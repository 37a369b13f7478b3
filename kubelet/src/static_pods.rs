//! Static Pods: manifests in a directory, followed by inotify, and their mirrors in the API.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::Api;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use nix::sys::inotify::AddWatchFlags;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::inotify::Watch;
use crate::spec;

/// A change of the directory.
pub enum Change {
    Applied(Box<Pod>),
    /// The UID of a Pod whose manifest is gone or has changed.
    Removed(String),
}

/// UIDs of the mirrors in the API, by name.
#[derive(Default)]
pub struct Mirrors {
    uids: Mutex<HashMap<NamespacedName, String>>,
}

fn key(pod: &Pod) -> NamespacedName {
    NamespacedName::new(spec::namespace(pod), spec::name(pod))
}

impl Mirrors {
    /// Notes a mirror; says whether it is one that was not there before.
    pub fn seen(&self, mirror: &Pod, there: bool) -> bool {
        let mut uids = self.uids.lock();
        if there {
            let uid = spec::uid(mirror).to_owned();
            return uids.insert(key(mirror), uid.clone()) != Some(uid);
        }
        uids.remove(&key(mirror));
        false
    }

    /// The UID of a static Pod's mirror.
    pub fn uid_of(&self, pod: &Pod) -> Option<String> {
        self.uids.lock().get(&key(pod)).cloned()
    }
}

/// Follows the directory for as long as somebody listens.
///
/// # Errors
/// The directory cannot be made or watched.
pub async fn follow(dir: PathBuf, node_name: String, changes: mpsc::Sender<Change>) -> anyhow::Result<()> {
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let watch = Watch::new().context("starting inotify")?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    watch.add(&dir, flags).with_context(|| format!("watching {}", dir.display()))?;
    let mut known: BTreeMap<PathBuf, String> = BTreeMap::new();
    loop {
        for change in scan(&dir, &node_name, &mut known) {
            if changes.send(change).await.is_err() {
                return Ok(());
            }
        }
        // What changed is found by reading the directory.
        watch.changed().await.context("waiting for inotify")?;
    }
}

/// Reads the directory and tells what is different from before.
fn scan(dir: &Path, node_name: &str, known: &mut BTreeMap<PathBuf, String>) -> Vec<Change> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()).filter(|p| is_manifest(p)) {
        match read(&path, node_name) {
            Ok(pod) => drop(found.insert(path, pod)),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(path = %path.display(), error, "a static Pod's manifest is no use");
            }
        }
    }
    let mut changes = Vec::new();
    known.retain(|path, uid| {
        let same = found.get(path).is_some_and(|pod| spec::uid(pod) == uid);
        if !same {
            changes.push(Change::Removed(uid.clone()));
        }
        same
    });
    for (path, pod) in found {
        if let Entry::Vacant(new) = known.entry(path) {
            new.insert(spec::uid(&pod).to_owned());
            changes.push(Change::Applied(Box::new(pod)));
        }
    }
    changes
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.is_file() && !name.starts_with('.') && !name.ends_with('~')
}

/// A Pod from a manifest, with what a static one gets: a UID by its content, a name with the node's, annotations.
fn read(path: &Path, node_name: &str) -> anyhow::Result<Pod> {
    let text = fs::read_to_string(path).context("reading it")?;
    // By way of JSON: YAML 1.1 as everywhere else, and no second decoder of Pods in the program.
    let json = if text.trim_start().starts_with('{') {
        text.clone()
    } else {
        api::yaml::parse(text.as_bytes()).context("parsing YAML")?.value.to_string()
    };
    let mut pod: Pod = serde_json::from_str(&json).context("reading a Pod")?;
    anyhow::ensure!(!spec::name(&pod).is_empty(), "it has no metadata.name");
    anyhow::ensure!(!spec::containers(&pod).is_empty(), "it has no containers");
    let mut hasher = Sha256::new();
    hasher.update(node_name.as_bytes());
    hasher.update(path.to_string_lossy().as_bytes());
    hasher.update(text.as_bytes());
    let digest = hasher.finalize();
    let hash: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let uid = pod.metadata.uid.get_or_insert_with(|| hash.clone()).clone();
    pod.metadata.name = Some(format!("{}-{node_name}", spec::name(&pod)));
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(spec::CONFIG_HASH.to_owned(), uid);
    annotations.insert(spec::CONFIG_SOURCE.to_owned(), "file".to_owned());
    annotations.insert(spec::CONFIG_SEEN.to_owned(), jiff::Timestamp::now().to_string());
    defaults(&mut pod, node_name);
    Ok(pod)
}

/// What the API server would have filled in, as far as the kubelet reads it.
fn defaults(pod: &mut Pod, node_name: &str) {
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.enable_service_links.get_or_insert(true);
    let any = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations.get_or_insert_with(Vec::new).push(any);
    pod.status = Some(PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() });
}

/// Shows a static Pod in the API, owned by the node. Waits for nothing: the watch tells when it is there.
pub fn create_mirror(agent: &Arc<Agent>, pod: &Pod) {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    let annotations = mirror.metadata.annotations.get_or_insert_with(BTreeMap::new);
    let hash = annotations.get(spec::CONFIG_HASH).cloned().unwrap_or_default();
    annotations.insert(spec::CONFIG_MIRROR.to_owned(), hash);
    let agent = agent.clone();
    client::spawn(async move {
        let mut node = agent.node.subscribe();
        // Without its node it would be taken for a leftover; the sender lives as long as the agent.
        let Ok(node) = node.wait_for(Option::is_some).await.map(|n| n.clone()) else { return };
        mirror.metadata.owner_references = node.as_ref().map(|node| {
            vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.metadata.name.clone().unwrap_or_default(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]
        });
        let api: Api<Pod> = Api::namespaced(agent.client.clone(), spec::namespace(&mirror));
        match api.create(&PostParams::default(), &mirror).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::warn!(pod = %key(&mirror), error = %crate::text(&error), "making a mirror Pod failed");
            }
        }
    });
}

/// Takes a mirror out of the API at once.
pub fn delete_mirror(agent: &Arc<Agent>, mirror: &Pod) {
    let (agent, name, uid) = (agent.clone(), key(mirror), mirror.metadata.uid.clone());
    client::spawn(async move {
        let api: Api<Pod> = Api::namespaced(agent.client.clone(), &name.namespace);
        let params =
            DeleteParams::default().grace_period(0).preconditions(Preconditions { uid, resource_version: None });
        match api.delete(&name.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => tracing::warn!(pod = %name, error = %crate::text(&error), "deleting a mirror Pod failed"),
        }
    });
}

/// Takes the mirror of a static Pod out of the API.
pub fn delete_mirror_of(agent: &Arc<Agent>, pod: &Pod) {
    let Some(uid) = agent.mirrors.uid_of(pod) else { return };
    let mut mirror = pod.clone();
    mirror.metadata.uid = Some(uid);
    delete_mirror(agent, &mirror);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: c, image: x}]\n";

    #[test]
    fn files_come_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = BTreeMap::new();
        let path = dir.path().join("web.yaml");
        fs::write(&path, MANIFEST).unwrap();
        fs::write(dir.path().join(".hidden"), "x").unwrap();
        let first = scan(dir.path(), "n1", &mut known);
        let [Change::Applied(pod)] = &first[..] else { panic!("one Pod") };
        assert_eq!((spec::name(pod), spec::namespace(pod)), ("web-n1", "default"));
        assert!(spec::is_static(pod));
        assert!(scan(dir.path(), "n1", &mut known).is_empty());
        fs::write(&path, MANIFEST.replace("image: x", "image: z")).unwrap();
        let second = scan(dir.path(), "n1", &mut known);
        assert!(matches!(&second[..], [Change::Removed(uid), Change::Applied(_)] if uid == spec::uid(pod)));
        fs::remove_file(&path).unwrap();
        assert!(matches!(&scan(dir.path(), "n1", &mut known)[..], [Change::Removed(_)]));
    }
}
