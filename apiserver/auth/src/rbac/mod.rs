//! RBAC: decisions from roles and bindings.
//!
//! [`Index`] holds roles and bindings parsed, in step with the watch caches. What one user may do is resolved from it
//! once and remembered until any role or binding changes, so that a decision on the hot path is a look-up and a walk
//! over that user's own rules. ClusterRoles that aggregate others hold the aggregated rules themselves: a controller
//! writes them.

pub mod escalation;
pub mod index;
pub mod rule;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::authorize::{Attributes, Authorizer, Decision};
use crate::cache::Cache;
use crate::objects::{Change, Objects};
use crate::user::UserInfo;
use index::{Grants, Index, RoleRef};
pub use rule::Rule;

/// At most this many users' rules are remembered, and for each those of this many namespaces.
const CACHED_USERS: usize = 4096;
const CACHED_NAMESPACES: usize = 512;

/// The RBAC authorizer.
#[derive(Default)]
pub struct Rbac {
    index: RwLock<Index>,
    /// Counts changes of the index.
    generation: AtomicU64,
    users: Users,
}

struct Users(Cache<String, Arc<Resolved>>);

impl Default for Users {
    fn default() -> Self {
        Self(Cache::new(CACHED_USERS))
    }
}

/// What one user may do, as of a generation of the index.
struct Resolved {
    generation: u64,
    groups: Vec<String>,
    cluster: Arc<Grants>,
    namespaces: RwLock<HashMap<String, Arc<Grants>>>,
}

impl Rbac {
    /// An authorizer over the roles and bindings there are; [`Rbac::changed`] must be told of every later change.
    pub fn new(objects: &dyn Objects) -> Self {
        let rbac = Self::default();
        {
            let mut index = rbac.index.write();
            for gvr in index::resources() {
                for object in objects.list(gvr, "") {
                    let (namespace, name) = (api::object::namespace(&object), api::object::name(&object));
                    index.apply(&Change { gvr, namespace, name, object: Some(&*object) });
                }
            }
        }
        rbac
    }

    /// Takes a change of a role or binding in; others are ignored.
    pub fn changed(&self, change: &Change<'_>) {
        let mut index = self.index.write();
        if index.apply(change) {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn resolved(&self, user: &UserInfo) -> Arc<Resolved> {
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(resolved) = self.users.0.get(user.name.as_str())
            && resolved.generation == generation
            && resolved.groups == user.groups
        {
            return resolved;
        }
        let index = self.index.read();
        let resolved = Arc::new(Resolved {
            // Changes take the write lock, so this is the generation of what is read here.
            generation: self.generation.load(Ordering::Acquire),
            groups: user.groups.clone(),
            cluster: Arc::new(index.cluster_grants(user)),
            namespaces: RwLock::default(),
        });
        drop(index);
        self.users.0.insert(user.name.clone(), resolved.clone());
        resolved
    }

    /// What the user may do everywhere, and what in the namespace besides.
    fn grants(&self, user: &UserInfo, namespace: &str) -> (Arc<Grants>, Option<Arc<Grants>>) {
        let resolved = self.resolved(user);
        let cluster = resolved.cluster.clone();
        if namespace.is_empty() {
            return (cluster, None);
        }
        if let Some(grants) = resolved.namespaces.read().get(namespace) {
            return (cluster, Some(grants.clone()));
        }
        let index = self.index.read();
        let grants = Arc::new(index.namespace_grants(user, namespace));
        // Rules read after a change must not be remembered as those of the generation before.
        if self.generation.load(Ordering::Acquire) == resolved.generation {
            let mut namespaces = resolved.namespaces.write();
            if namespaces.len() >= CACHED_NAMESPACES {
                namespaces.clear();
            }
            namespaces.insert(namespace.to_owned(), grants.clone());
        }
        (cluster, Some(grants))
    }

    /// The rules that a user has in a namespace (empty: everywhere), and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (cluster, local) = self.grants(user, namespace);
        let both = [Some(cluster), local];
        let rules = both.iter().flatten().flat_map(|g| g.rules().cloned()).collect();
        (rules, both.iter().flatten().flat_map(|g| g.errors.clone()).collect())
    }

    /// The rules of a role that a binding in `namespace` (empty: a ClusterRoleBinding) names.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[Rule]>, String> {
        self.index.read().rules(role, namespace)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>, _: &dyn Objects) -> Decision {
        let (cluster, local) = self.grants(attributes.user, attributes.namespace);
        for grants in [Some(&cluster), local.as_ref()].into_iter().flatten() {
            for grant in &grants.grants {
                if grant.rules.iter().any(|rule| rule.allows(attributes)) {
                    return Decision::Allow(grant.reason.clone());
                }
            }
        }
        let errors: Vec<&str> = [Some(&cluster), local.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|g| &g.errors)
            .map(String::as_str)
            .collect();
        Decision::NoOpinion(match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }
}

#[cfg(test)]
mod tests;
