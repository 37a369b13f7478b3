//! Nobody grants by a role or binding what they do not have themselves (upstream's `policybased` storage), unless they
//! have the verbs `escalate` or `bind`, or belong to `system:masters`.

use api::{Object, Status, object};
use serde_json::Value;

use super::Rbac;
use super::index::{Binding, read_rules};
use super::rule::{Rule, compacted, uncovered};
use crate::authorize::{Attributes, Authorizer};
use crate::objects::Objects;
use crate::quoted;
use crate::user::{GROUP_MASTERS, UserInfo};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A write of a role or binding.
pub struct Write<'a> {
    pub user: &'a UserInfo,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`.
    pub resource: &'a str,
    /// Empty for cluster-scoped ones.
    pub namespace: &'a str,
    /// Name in the request's path; empty on create.
    pub name: &'a str,
    pub object: &'a Object,
    pub old: Option<&'a Object>,
}

/// Refuses a write that would grant more than the writer has.
pub fn check(write: &Write<'_>, rbac: &Rbac, authorizer: &dyn Authorizer, objects: &dyn Objects) -> Result<(), Status> {
    if write.user.in_group(GROUP_MASTERS) || write.old.is_some_and(|old| only_collected(write.object, old)) {
        return Ok(());
    }
    match write.resource {
        "roles" | "clusterroles" => check_role(write, rbac, authorizer, objects),
        "rolebindings" | "clusterrolebindings" => check_binding(write, rbac, authorizer, objects),
        _ => Ok(()),
    }
}

fn check_role(
    write: &Write<'_>,
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<(), Status> {
    let attributes = Attributes {
        namespace: write.namespace,
        name: write.name,
        ..Attributes::resource(write.user, "escalate", GROUP, write.resource)
    };
    if authorizer.authorize(&attributes, objects).is_allowed() {
        return Ok(());
    }
    let name = object::name(write.object);
    confirm(write, rbac, &read_rules(write.object))?;
    if write.resource == "clusterroles" && (aggregates(write.object) || write.old.is_some_and(aggregates)) {
        confirm(write, rbac, &everything()).map_err(|_| {
            Status::forbidden(
                GROUP,
                write.resource,
                name,
                "must have cluster-admin privileges to use the aggregationRule",
            )
        })?;
    }
    Ok(())
}

fn check_binding(
    write: &Write<'_>,
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<(), Status> {
    let role = Binding::read(write.object).role_ref;
    let resource = match role.kind.as_str() {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        // Validation refuses it.
        _ => return Ok(()),
    };
    let attributes = Attributes {
        namespace: write.namespace,
        name: &role.name,
        ..Attributes::resource(write.user, "bind", &role.api_group, resource)
    };
    if authorizer.authorize(&attributes, objects).is_allowed() {
        return Ok(());
    }
    let rules = rbac
        .role_rules(&role, write.namespace)
        // Upstream's answer names the binding's resource with the role's name.
        .map_err(|_| Status::not_found(GROUP, write.resource, &role.name))?;
    confirm(write, rbac, &rules)
}

/// Whether the writer has all of `rules` where the write takes place.
fn confirm(write: &Write<'_>, rbac: &Rbac, rules: &[Rule]) -> Result<(), Status> {
    let (held, errors) = rbac.rules_for(write.user, write.namespace);
    let missing = uncovered(&held.iter().collect::<Vec<_>>(), rules);
    if missing.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<String> = compacted(missing).iter().map(Rule::compact).collect();
    missing.sort();
    missing.dedup();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        write.user.name,
        quoted(&write.user.groups),
        missing.join("\n")
    );
    if !errors.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
    }
    Err(Status::forbidden(GROUP, write.resource, object::name(write.object), &why))
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

fn aggregates(role: &Object) -> bool {
    let selectors = object::at(role, &["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
    selectors.is_some_and(|s| !s.is_empty())
}

/// Whether the write changes only what the garbage collector needs to change: owner references and finalizers.
fn only_collected(new: &Object, old: &Object) -> bool {
    let rest = |object: &Object| {
        let mut object = object.clone();
        let metadata = object::metadata_mut(&mut object);
        for key in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "selfLink"] {
            metadata.remove(key);
        }
        object
    };
    rest(new) == rest(old)
}
