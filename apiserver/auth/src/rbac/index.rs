//! Roles and bindings as they are needed for decisions, kept in step with the objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::{Gvr, Object};
use serde::Deserialize;
use serde_json::Value;

use super::rule::{Rule, nullable};
use crate::objects::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, Change, ROLE_BINDINGS, ROLES};
use crate::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Subject {
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    pub api_group: String,
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Binding {
    pub role_ref: RoleRef,
    #[serde(deserialize_with = "nullable")]
    pub subjects: Vec<Subject>,
}

impl Binding {
    /// Reads a (Cluster)RoleBinding; what has another shape binds nobody.
    pub fn read(object: &Object) -> Self {
        let field = |key: &str| object.get(key).cloned().unwrap_or(Value::Null);
        Self {
            role_ref: serde_json::from_value(field("roleRef")).unwrap_or_default(),
            subjects: serde_json::from_value::<Option<_>>(field("subjects")).ok().flatten().unwrap_or_default(),
        }
    }

    /// The first subject that is the user.
    fn subject(&self, user: &UserInfo, namespace: &str) -> Option<&Subject> {
        self.subjects.iter().find(|s| s.is(user, namespace))
    }
}

impl Subject {
    fn is(&self, user: &UserInfo, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => user.name == self.name,
            "Group" => user.in_group(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                let account = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
                !namespace.is_empty() && account == Some((namespace, self.name.as_str()))
            }
            _ => false,
        }
    }

    /// Upstream's words; it puts a service account's name before its namespace.
    fn describe(&self, binding_namespace: &str) -> String {
        let Self { kind, name, namespace } = self;
        match kind.as_str() {
            "ServiceAccount" if !namespace.is_empty() => format!("{kind} \"{name}/{namespace}\""),
            "ServiceAccount" => format!("{kind} \"{name}/{binding_namespace}\""),
            _ => format!("{kind} {name:?}"),
        }
    }
}

/// Reads the rules of a (Cluster)Role; what has another shape allows nothing.
pub fn read_rules(object: &Object) -> Vec<Rule> {
    let rules = object.get("rules").cloned().unwrap_or(Value::Null);
    serde_json::from_value::<Option<Vec<Rule>>>(rules).ok().flatten().unwrap_or_default()
}

/// The rules that one binding gives to one user.
#[derive(Debug)]
pub struct Grant {
    /// `RBAC: allowed by …`
    pub reason: Arc<str>,
    pub rules: Arc<[Rule]>,
}

/// All rules of one user in one scope.
#[derive(Debug, Default)]
pub struct Grants {
    pub grants: Vec<Grant>,
    /// Roles that bindings name and that do not exist.
    pub errors: Vec<String>,
}

impl Grants {
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.grants.iter().flat_map(|g| g.rules.iter())
    }
}

/// All roles and bindings.
#[derive(Default)]
pub struct Index {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    cluster_bindings: BTreeMap<String, Binding>,
    bindings: BTreeMap<String, BTreeMap<String, Binding>>,
}

/// The resources that the index follows.
pub fn resources() -> [&'static Gvr; 4] {
    [&CLUSTER_ROLES, &ROLES, &CLUSTER_ROLE_BINDINGS, &ROLE_BINDINGS]
}

impl Index {
    /// Takes a change in; `false` when it is of no concern.
    pub fn apply(&mut self, change: &Change<'_>) -> bool {
        let (gvr, namespace, name) = (change.gvr, change.namespace, change.name.to_owned());
        if gvr.group != CLUSTER_ROLES.group {
            return false;
        }
        match (gvr.resource.as_str(), change.object) {
            ("clusterroles", Some(object)) => drop(self.cluster_roles.insert(name, read_rules(object).into())),
            ("clusterroles", None) => drop(self.cluster_roles.remove(&name)),
            ("clusterrolebindings", Some(object)) => drop(self.cluster_bindings.insert(name, Binding::read(object))),
            ("clusterrolebindings", None) => drop(self.cluster_bindings.remove(&name)),
            ("roles", object) => {
                put(self.roles.entry(namespace.to_owned()).or_default(), name, object.map(|o| read_rules(o).into()))
            }
            ("rolebindings", Some(object)) => {
                self.bindings.entry(namespace.to_owned()).or_default().insert(name, Binding::read(object));
            }
            ("rolebindings", None) => {
                if let Some(bindings) = self.bindings.get_mut(namespace) {
                    bindings.remove(&name);
                }
            }
            _ => return false,
        }
        self.roles.retain(|_, roles| !roles.is_empty());
        self.bindings.retain(|_, bindings| !bindings.is_empty());
        true
    }

    /// What the user may do everywhere.
    pub fn cluster_grants(&self, user: &UserInfo) -> Grants {
        let mut grants = Grants::default();
        for (name, binding) in &self.cluster_bindings {
            let described = || format!("ClusterRoleBinding {name:?}");
            self.grant(&mut grants, binding, user, "", described);
        }
        grants
    }

    /// What the user may do in a namespace beyond [`Index::cluster_grants`].
    pub fn namespace_grants(&self, user: &UserInfo, namespace: &str) -> Grants {
        let mut grants = Grants::default();
        for (name, binding) in self.bindings.get(namespace).into_iter().flatten() {
            let described = || format!("RoleBinding \"{name}/{namespace}\"");
            self.grant(&mut grants, binding, user, namespace, described);
        }
        grants
    }

    fn grant(
        &self,
        grants: &mut Grants,
        binding: &Binding,
        user: &UserInfo,
        namespace: &str,
        described: impl Fn() -> String,
    ) {
        let Some(subject) = binding.subject(user, namespace) else { return };
        let RoleRef { kind, name, .. } = &binding.role_ref;
        match self.rules(&binding.role_ref, namespace) {
            Ok(rules) => {
                let subject = subject.describe(namespace);
                let reason = format!("RBAC: allowed by {} of {kind} {name:?} to {subject}", described());
                grants.grants.push(Grant { reason: reason.into(), rules });
            }
            Err(error) if grants.errors.contains(&error) => {}
            Err(error) => grants.errors.push(error),
        }
    }

    /// The rules of a role that a binding in `namespace` (empty: a ClusterRoleBinding) names.
    pub fn rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let (found, kind) = match role.kind.as_str() {
            "ClusterRole" => (self.cluster_roles.get(&role.name), "clusterrole"),
            "Role" => (self.roles.get(namespace).and_then(|roles| roles.get(&role.name)), "role"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        found.cloned().ok_or_else(|| format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name))
    }
}

fn put(map: &mut HashMap<String, Arc<[Rule]>>, name: String, rules: Option<Arc<[Rule]>>) {
    match rules {
        Some(rules) => drop(map.insert(name, rules)),
        None => drop(map.remove(&name)),
    }
}
