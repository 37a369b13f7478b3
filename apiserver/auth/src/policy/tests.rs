//! The embedded policy, and its reconciliation as a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use api::object;
use serde_json::json;

use super::reconcile::{Action, plan};
use super::*;

fn find(kind: &str, name: &str) -> Object {
    let all = bootstrap_objects();
    let found = all.into_iter().find(|o| object::str_at(o, &["kind"]) == kind && object::name(o) == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn reads_every_line() {
    let objects = bootstrap_objects();
    assert!(objects.len() > 140, "{}", objects.len());
    let mut seen = std::collections::BTreeSet::new();
    for object in &objects {
        let key = (object::str_at(object, &["kind"]), object::namespace(object), object::name(object));
        assert!(seen.insert(key), "{key:?} twice");
    }
    // Each binding's role exists.
    for object in objects.iter().filter(|o| o.contains_key("roleRef")) {
        let kind = object::str_at(object, &["roleRef", "kind"]);
        let namespace = if kind == "Role" { object::namespace(object) } else { "" };
        assert!(seen.contains(&(kind, namespace, object::str_at(object, &["roleRef", "name"]))), "{object:?}");
    }
}

#[test]
fn objects_look_as_upstreams() {
    let expected = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {
            "name": "system:aggregate-to-admin",
            "labels": {
                "kubernetes.io/bootstrapping": "rbac-defaults",
                "rbac.authorization.k8s.io/aggregate-to-admin": "true",
            },
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "rules": [
            {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]},
            {
                "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "roles"],
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            },
        ],
    });
    assert_eq!(Value::Object(find("ClusterRole", "system:aggregate-to-admin")), expected);
    let admin = find("ClusterRole", "admin");
    assert_eq!(
        admin["aggregationRule"],
        json!({"clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}}]})
    );
    let scheduler = find("RoleBinding", "system::leader-locking-kube-scheduler");
    assert_eq!(object::namespace(&scheduler), "kube-system");
    assert_eq!(
        scheduler["subjects"],
        json!([
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-scheduler"},
            {"kind": "ServiceAccount", "name": "kube-scheduler", "namespace": "kube-system"},
        ])
    );
}

#[test]
fn node_rules_are_those_of_the_role() {
    assert_eq!(node_rules(), crate::rbac::index::read_rules(&find("ClusterRole", "system:node")));
    assert!(node_rules().len() > 20);
}

#[test]
fn reconciles_only_what_is_missing() {
    let role = find("ClusterRole", "system:basic-user");
    let binding = find("ClusterRoleBinding", "system:basic-user");
    assert_eq!(plan(&role, None), Action::Create(role.clone()));
    assert_eq!(plan(&role, Some(&role)), Action::Nothing);
    assert_eq!(plan(&binding, Some(&binding)), Action::Nothing);

    let mut fewer = role.clone();
    fewer["rules"] = json!([{"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]}]);
    object::metadata_mut(&mut fewer).remove("labels");
    let Action::Update(mended) = plan(&role, Some(&fewer)) else { panic!("must be mended") };
    assert_eq!(mended["rules"][0]["apiGroups"], json!(["x"]), "what people added stays");
    assert_eq!(plan(&role, Some(&mended)), Action::Nothing, "mended once");

    let mut wider = role.clone();
    wider["rules"] = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    assert_eq!(plan(&role, Some(&wider)), Action::Nothing, "covers what is expected");

    fewer["metadata"]["annotations"] = json!({AUTOUPDATE: "false"});
    assert_eq!(plan(&role, Some(&fewer)), Action::Nothing, "protected");

    let mut other = binding.clone();
    other["roleRef"]["name"] = json!("view");
    assert_eq!(plan(&binding, Some(&other)), Action::Recreate(binding.clone()));
    let mut nobody = binding.clone();
    nobody.remove("subjects");
    let Action::Update(mended) = plan(&binding, Some(&nobody)) else { panic!("must be mended") };
    assert_eq!(mended["subjects"], binding["subjects"]);

    let admin = find("ClusterRole", "admin");
    let mut filled = admin.clone();
    filled["rules"] = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    assert_eq!(plan(&admin, Some(&filled)), Action::Nothing, "the aggregated rules are the controller's");
}
