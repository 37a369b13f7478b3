//! Pure: who owns whom, as the watches tell, and which objects must be looked at after each change.
//!
//! For each object only its key and its owners are kept. An owner that no watch has shown is no node: whether it exists
//! is asked of the API when one of its dependents is looked at.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::discovery::ApiResource;
use sha2::{Digest as _, Sha256};

/// A UID as a number: half the size of its text, and no allocation.
pub type Uid = u128;

/// The number of a UID. UIDs made by the API server are UUIDs; references may hold anything.
pub fn uid(text: &str) -> Uid {
    if let Ok(uuid) = uuid::Uuid::parse_str(text) {
        return uuid.as_u128();
    }
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(16).fold(0, |number, byte| (number << 8) | Uid::from(*byte))
}

/// A kind of objects.
#[derive(Debug)]
pub struct Resource {
    pub api: ApiResource,
    pub namespaced: bool,
}

/// One owner reference. The version is left out: the same object is seen through all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    pub group: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    /// `blockOwnerDeletion`: the owner's foreground deletion waits for this object.
    pub blocks: bool,
}

/// An object as a watch shows it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub uid: Uid,
    pub resource: Arc<Resource>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub owners: Vec<Owner>,
    pub deleting: bool,
    /// Has the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// Has the finalizer `orphan`.
    pub orphan: bool,
}

/// What a worker shall do about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Delete it if its owners are gone; go on with its own foreground deletion.
    Delete(Uid),
    /// Take its references off its dependents, then its finalizer.
    Orphan(Uid),
}

/// What is remembered of an object.
#[derive(Clone, Debug)]
pub struct Node {
    pub resource: Arc<Resource>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub owners: Box<[Owner]>,
    pub deleting: bool,
    /// Its foreground deletion waits for its dependents.
    pub waiting: bool,
    pub orphaning: bool,
}

/// What the graph knows of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Solid,
    /// It is there, waiting for its dependents to be deleted.
    Waiting,
    /// No watch has shown such an object.
    Unseen,
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    /// Of each owner, seen or not, the objects that refer to it.
    dependents: HashMap<Uid, HashSet<Uid>>,
}

impl Graph {
    /// Takes in an object that was added or changed.
    pub fn observe(&mut self, seen: Seen) -> Vec<Task> {
        let mut tasks = Vec::new();
        let old = self.nodes.get(&seen.uid);
        let (waited, orphaned) = old.map_or((false, false), |node| (node.waiting, node.orphaning));
        let owners_changed = old.is_none_or(|node| *node.owners != *seen.owners);
        let before: Vec<Owner> = old.filter(|_| owners_changed).map(|node| node.owners.to_vec()).unwrap_or_default();
        let node = Node {
            resource: seen.resource,
            namespace: seen.namespace,
            name: seen.name,
            owners: seen.owners.into(),
            deleting: seen.deleting,
            waiting: waited || (seen.deleting && seen.foreground),
            orphaning: seen.deleting && seen.orphan,
        };
        let starts_waiting = node.waiting && !waited;
        let starts_orphaning = node.orphaning && !orphaned;
        if owners_changed {
            self.relate(seen.uid, &before, &node, &mut tasks);
        }
        self.nodes.insert(seen.uid, node);
        if starts_waiting {
            tasks.extend(self.dependents(seen.uid).into_iter().map(Task::Delete));
            tasks.push(Task::Delete(seen.uid));
        }
        if starts_orphaning {
            tasks.push(Task::Orphan(seen.uid));
        }
        tasks
    }

    /// Moves an object from its former owners to its present ones.
    fn relate(&mut self, uid: Uid, before: &[Owner], node: &Node, tasks: &mut Vec<Task>) {
        for old in before {
            let kept = node.owners.iter().find(|owner| owner.uid == old.uid);
            if kept.is_none() {
                self.unlink(old.uid, uid);
            }
            if kept.is_none_or(|owner| old.blocks && !owner.blocks) && self.is_waiting(old.uid) {
                tasks.push(Task::Delete(old.uid));
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid).or_default().insert(uid);
        }
        if node.owners.iter().any(|owner| self.known(&node.namespace, owner) != Known::Solid) {
            tasks.push(Task::Delete(uid));
        }
    }

    fn unlink(&mut self, owner: Uid, dependent: Uid) {
        if let Some(all) = self.dependents.get_mut(&owner) {
            all.remove(&dependent);
            if all.is_empty() {
                self.dependents.remove(&owner);
            }
        }
    }

    fn is_waiting(&self, uid: Uid) -> bool {
        self.nodes.get(&uid).is_some_and(|node| node.waiting)
    }

    /// Takes in that an object is gone.
    pub fn remove(&mut self, uid: Uid) -> Vec<Task> {
        let mut tasks: Vec<_> = self.dependents(uid).into_iter().map(Task::Delete).collect();
        if let Some(node) = self.nodes.remove(&uid) {
            for owner in &node.owners {
                self.unlink(owner.uid, uid);
                if self.is_waiting(owner.uid) {
                    tasks.push(Task::Delete(owner.uid));
                }
            }
        }
        tasks
    }

    /// Takes in a full list of a resource: what is not in it is gone.
    pub fn retain(&mut self, resource: &ApiResource, listed: &HashSet<Uid>) -> Vec<Task> {
        let of_it =
            |node: &Node| node.resource.api.group == resource.group && node.resource.api.plural == resource.plural;
        let gone = self.nodes.iter().filter(|(uid, node)| of_it(node) && !listed.contains(uid)).map(|(uid, _)| *uid);
        let gone: Vec<_> = gone.collect();
        gone.into_iter().flat_map(|uid| self.remove(uid)).collect()
    }

    pub fn node(&self, uid: Uid) -> Option<&Node> {
        self.nodes.get(&uid)
    }

    /// The objects that refer to an owner.
    pub fn dependents(&self, owner: Uid) -> Vec<Uid> {
        self.dependents.get(&owner).into_iter().flatten().copied().collect()
    }

    /// The dependents that an owner's foreground deletion waits for, and whether each waits for its own dependents.
    pub fn blocking(&self, owner: Uid) -> Vec<(Uid, bool)> {
        let blocks = |node: &Node| node.owners.iter().any(|reference| reference.uid == owner && reference.blocks);
        let nodes = self.dependents(owner).into_iter().filter_map(|uid| Some((uid, self.nodes.get(&uid)?)));
        nodes.filter(|(_, node)| blocks(node)).map(|(uid, node)| (uid, node.waiting)).collect()
    }

    /// What is known of an owner that an object in `namespace` refers to. The whole reference must fit.
    pub fn known(&self, namespace: &str, owner: &Owner) -> Known {
        let Some(node) = self.nodes.get(&owner.uid) else { return Known::Unseen };
        let api = &node.resource.api;
        let fits = *api.group == *owner.group
            && *api.kind == *owner.kind
            && node.name == owner.name
            && (!node.resource.namespaced || &*node.namespace == namespace);
        match (fits, node.waiting) {
            (false, _) => Known::Unseen,
            (true, true) => Known::Waiting,
            (true, false) => Known::Solid,
        }
    }

    /// Whether an object needs no look: it waits for nothing itself and all its owners are there.
    pub fn is_settled(&self, node: &Node) -> bool {
        !node.waiting && node.owners.iter().all(|owner| self.known(&node.namespace, owner) == Known::Solid)
    }
}
