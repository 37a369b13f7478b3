//! The default policy as a matrix of who may do what, refusals in upstream's words, and escalation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod components;

use api::{Object, Status, object};
use serde_json::{Value, json};

use super::escalation::{Write, check as check_escalation};
use super::*;
use crate::authorize::check;
use crate::objects::Change;
use crate::policy::bootstrap_objects;
use crate::testing::{Cluster, object as parsed};

const GROUP: &str = "rbac.authorization.k8s.io";

fn tell(rbac: &Rbac, object: Option<&Object>, resource: &str, namespace: &str, name: &str) {
    rbac.changed(&Change { gvr: &api::Gvr::new(GROUP, "v1", resource), namespace, name, object });
}

fn add(rbac: &Rbac, value: Value) {
    let object = parsed(value);
    let resource = format!("{}s", object::str_at(&object, &["kind"]).to_lowercase());
    tell(rbac, Some(&object), &resource, object::namespace(&object), object::name(&object));
}

fn with_defaults() -> Rbac {
    let rbac = Rbac::default();
    for object in bootstrap_objects() {
        add(&rbac, Value::Object(object));
    }
    rbac
}

/// `verb group/resource[/sub] [ns/][name]` or `verb /path`.
fn ask(rbac: &Rbac, user: &UserInfo, request: &str) -> Result<String, Status> {
    let words: Vec<&str> = request.split(' ').collect();
    let cluster = Cluster::default();
    if words[1].starts_with('/') {
        return check(rbac, &Attributes::path(user, words[0], words[1]), &cluster).map(|r| r.to_string());
    }
    let mut parts = words[1].split('/');
    let (group, resource) = (parts.next().unwrap(), parts.next().unwrap());
    let (namespace, name) = words.get(2).map_or(("", ""), |w| w.split_once('/').unwrap_or((w, "")));
    let attributes = Attributes {
        subresource: parts.next().unwrap_or(""),
        namespace: if namespace == "-" { "" } else { namespace },
        name,
        ..Attributes::resource(user, words[0], if group == "core" { "" } else { group }, resource)
    };
    check(rbac, &attributes, &cluster).map(|r| r.to_string())
}

#[test]
fn default_policy_matrix() {
    let rbac = with_defaults();
    let admin = UserInfo::new("kubernetes-admin", &["cox:cluster-admins"]);
    let nobody = UserInfo::new("nobody", &[]);
    let anonymous = UserInfo::anonymous();
    let scheduler = UserInfo::new("system:kube-scheduler", &[]);
    let node = UserInfo::node("n1");
    let kubelet_client = UserInfo::new("kube-apiserver-kubelet-client", &[]);
    let joining = UserInfo::new("system:bootstrap:abcdef", &["system:bootstrappers:kubeadm:default-node-token"]);
    let deployments = UserInfo::service_account("kube-system", "deployment-controller", "");
    let dns = UserInfo::service_account("kube-system", "coredns", "");
    let pod = UserInfo::service_account("default", "default", "");
    let table: &[(&UserInfo, &str, bool)] = &[
        (&admin, "delete core/nodes -/n1", true),
        (&admin, "impersonate core/users -/x", true),
        (&admin, "get /metrics", true),
        (&nobody, "get core/pods default/p", false),
        (&nobody, "create authorization.k8s.io/selfsubjectaccessreviews", true),
        (&nobody, "create authentication.k8s.io/selfsubjectreviews", true),
        (&nobody, "create authorization.k8s.io/subjectaccessreviews", false),
        (&nobody, "get /apis", true),
        (&nobody, "get /openapi/v2", true),
        (&nobody, "get /metrics", false),
        (&anonymous, "get /healthz", true),
        (&anonymous, "get /livez", true),
        (&anonymous, "get /readyz", true),
        (&anonymous, "get /readyz/etcd", false),
        (&anonymous, "get /version", true),
        (&anonymous, "get /", false),
        (&anonymous, "get /api", false),
        (&anonymous, "get /openid/v1/jwks", false),
        (&anonymous, "get core/configmaps kube-public/cluster-info", true),
        (&anonymous, "get core/configmaps kube-public/other", false),
        (&anonymous, "list core/configmaps kube-public", false),
        (&anonymous, "get core/configmaps default/cluster-info", false),
        (&scheduler, "create core/pods/binding default/p", true),
        (&scheduler, "list core/pods", true),
        (&scheduler, "update coordination.k8s.io/leases kube-system/kube-scheduler", true),
        (&scheduler, "update coordination.k8s.io/leases default/other", false),
        (&scheduler, "get core/secrets default/s", false),
        (&node, "get core/secrets default/s", false),
        (&node, "watch discovery.k8s.io/endpointslices", true),
        (&node, "create certificates.k8s.io/certificatesigningrequests/selfnodeclient", true),
        (&kubelet_client, "get core/nodes/proxy -/n1", true),
        (&kubelet_client, "get core/pods default/p", false),
        (&joining, "create certificates.k8s.io/certificatesigningrequests", true),
        (&joining, "create certificates.k8s.io/certificatesigningrequests/nodeclient", true),
        (&joining, "create certificates.k8s.io/certificatesigningrequests/selfnodeclient", false),
        (&joining, "list core/secrets kube-system", false),
        (&deployments, "create apps/replicasets default", true),
        (&deployments, "create core/pods default", false),
        (&dns, "list discovery.k8s.io/endpointslices", true),
        (&dns, "list core/secrets", false),
        (&pod, "get /openid/v1/jwks", true),
        (&pod, "list core/pods default", false),
        (&pod, "get /.well-known/openid-configuration", true),
    ];
    for (user, request, allowed) in table {
        assert_eq!(ask(&rbac, user, request).is_ok(), *allowed, "{}: {request}", user.name);
    }
}

#[test]
fn says_why_in_upstreams_words() {
    let rbac = with_defaults();
    let who = UserInfo::new("x", &[]);
    let table = [
        (
            "list core/pods default",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#,
        ),
        (
            "get apps/deployments default/d",
            "deployments.apps \"d\" is forbidden: User \"x\" cannot get resource \"deployments\" in API group \
             \"apps\" in the namespace \"default\"",
        ),
        (
            "create core/pods/exec default/p",
            "pods \"p\" is forbidden: User \"x\" cannot create resource \"pods/exec\" in API group \"\" in the \
             namespace \"default\"",
        ),
        (
            "list core/nodes",
            r#"nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope"#,
        ),
        ("get /metrics", r#"forbidden: User "x" cannot get path "/metrics""#),
    ];
    for (request, message) in table {
        let status = ask(&rbac, &who, request).unwrap_err();
        assert_eq!((status.message.as_str(), status.code), (message, 403));
    }
    let allowed = ask(&rbac, &who, "get /apis").unwrap();
    let because = "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to \
                   Group \"system:authenticated\"";
    assert_eq!(allowed, because);

    add(
        &rbac,
        json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "default"},
        "roleRef": {"kind": "Role", "name": "gone"}, "subjects": [{"kind": "User", "name": "x"}]}),
    );
    let status = ask(&rbac, &who, "list core/pods default").unwrap_err();
    assert!(
        status.message.ends_with(r#": RBAC: role.rbac.authorization.k8s.io "gone" not found"#),
        "{}",
        status.message
    );
}

#[test]
fn follows_changes_at_once() {
    let rbac = Rbac::default();
    let user = UserInfo::service_account("default", "robot", "");
    let request = "get core/pods/log default/p";
    assert!(ask(&rbac, &user, request).is_err());
    add(
        &rbac,
        json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "default"},
        "roleRef": {"kind": "Role", "name": "logs"}, "subjects": [{"kind": "ServiceAccount", "name": "robot"}]}),
    );
    assert!(ask(&rbac, &user, request).is_err(), "the role is missing");
    add(
        &rbac,
        json!({"kind": "Role", "metadata": {"name": "logs", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["*/log"], "resourceNames": ["p"], "verbs": ["*"]}]}),
    );
    let because = r#"RBAC: allowed by RoleBinding "b/default" of Role "logs" to ServiceAccount "robot/default""#;
    assert_eq!(ask(&rbac, &user, request).unwrap(), because);
    for refused in ["get core/pods/log other/p", "get core/pods default/p", "get core/pods/log default/q"] {
        assert!(ask(&rbac, &user, refused).is_err(), "{refused}");
    }
    tell(&rbac, None, "rolebindings", "default", "b");
    assert!(ask(&rbac, &user, request).is_err());
}

#[test]
fn view_edit_and_admin_are_what_people_expect() {
    let rbac = with_defaults();
    let user = UserInfo::new("u", &[]);
    // What each of the three may do in the namespace that it is bound in.
    let table = [
        ("get core/pods ns/p", [true, true, true]),
        ("list apps/deployments ns", [true, true, true]),
        ("get core/secrets ns/s", [false, true, true]),
        ("create apps/deployments ns", [false, true, true]),
        ("create core/pods/exec ns/p", [false, true, true]),
        ("create rbac.authorization.k8s.io/rolebindings ns", [false, false, true]),
        ("create authorization.k8s.io/localsubjectaccessreviews ns", [false, false, true]),
        ("get core/nodes -/n", [false, false, false]),
        ("get core/pods other/p", [false, false, false]),
    ];
    for (role, index) in [("view", 0), ("edit", 1), ("admin", 2)] {
        add(
            &rbac,
            json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": "u"}]}),
        );
        for (request, allowed) in &table {
            assert_eq!(ask(&rbac, &user, request).is_ok(), allowed[index], "{role}: {request}");
        }
    }
}

#[test]
fn same_name_with_other_groups_has_other_rights() {
    let rbac = with_defaults();
    let with = UserInfo::new("u", &["cox:cluster-admins"]);
    let without = UserInfo::new("u", &[]);
    for _ in 0..2 {
        assert!(ask(&rbac, &with, "list core/secrets").is_ok());
        assert!(ask(&rbac, &without, "list core/secrets").is_err());
    }
}

#[test]
fn a_user_without_bindings_gets_nothing() {
    let rbac = with_defaults();
    let user = UserInfo { name: "stranger".to_owned(), ..UserInfo::default() };
    for object in bootstrap_objects() {
        for rule in index::read_rules(&object).iter().flat_map(Rule::breakdown) {
            let first = |list: &[String], other: &str| {
                let text = list.first().map_or(other, String::as_str);
                if text == "*" { other.to_owned() } else { text.to_owned() }
            };
            let (verb, path) = (first(&rule.verbs, "get"), first(&rule.non_resource_urls, "/x"));
            let request = if rule.resources.is_empty() {
                format!("{verb} {path}")
            } else {
                let resource = first(&rule.resources, "pods");
                let group = first(&rule.api_groups, "apps");
                format!("{verb} {group}/{resource} kube-system/{}", first(&rule.resource_names, "x"))
            };
            assert!(ask(&rbac, &user, &request).is_err(), "{request}");
        }
    }
}

fn escalate(rbac: &Rbac, user: &UserInfo, value: Value, old: Option<Value>) -> Result<(), Status> {
    let object = parsed(value);
    let old = old.map(parsed);
    let resource = format!("{}s", object::str_at(&object, &["kind"]).to_lowercase());
    let write = Write {
        user,
        resource: &resource,
        namespace: object::namespace(&object),
        name: old.as_ref().map_or("", |_| object::name(&object)),
        object: &object,
        old: old.as_ref(),
    };
    check_escalation(&write, rbac, rbac, &Cluster::default())
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let rbac = with_defaults();
    add(
        &rbac,
        json!({"kind": "ClusterRole", "metadata": {"name": "granter"}, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {"apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]},
        ]}),
    );
    add(
        &rbac,
        json!({"kind": "ClusterRoleBinding", "metadata": {"name": "granter"},
        "roleRef": {"kind": "ClusterRole", "name": "granter"}, "subjects": [{"kind": "User", "name": "u"}]}),
    );
    let user = UserInfo::new("u", &[]);
    let role = |verbs: &[&str], finalizers: &[&str]| {
        json!({"kind": "ClusterRole", "metadata": {"name": "r", "finalizers": finalizers},
            "rules": [{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": verbs},
                {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]})
    };
    let held = json!({"kind": "ClusterRole", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"], "verbs": ["get"]}]});
    assert_eq!(escalate(&rbac, &user, held, None), Ok(()));

    let status = escalate(&rbac, &user, role(&["get", "list", "delete"], &[]), None).unwrap_err();
    let message = "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"u\" \
        (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
        {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
        {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"delete\"]}\n\
        {NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}";
    assert_eq!(status.message, message);
    let collected = escalate(&rbac, &user, role(&["get"], &[]), Some(role(&["get"], &["a"])));
    assert_eq!(collected, Ok(()), "only finalizers change");

    let bind = |kind: &str, role: &str| {
        json!({"kind": kind, "metadata": {"name": "b", "namespace": if kind == "RoleBinding" { "default" } else { "" }},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}})
    };
    assert_eq!(escalate(&rbac, &user, bind("ClusterRoleBinding", "view"), None), Ok(()), "has the verb bind");
    assert_eq!(escalate(&rbac, &user, bind("RoleBinding", "granter"), None), Ok(()), "has all of it");
    assert_eq!(escalate(&rbac, &user, bind("RoleBinding", "cluster-admin"), None).unwrap_err().code, 403);
    assert_eq!(escalate(&rbac, &user, bind("RoleBinding", "none"), None).unwrap_err().code, 404);
    let aggregate = json!({"kind": "ClusterRole", "metadata": {"name": "r"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let status = escalate(&rbac, &user, aggregate.clone(), None).unwrap_err();
    assert!(status.message.ends_with("must have cluster-admin privileges to use the aggregationRule"));
    let admin = UserInfo::new("a", &["cox:cluster-admins"]);
    assert_eq!(escalate(&rbac, &admin, aggregate, None), Ok(()));
}

#[test]
fn a_decision_is_fast() {
    let rbac = with_defaults();
    let user = UserInfo::new("system:kube-controller-manager", &[]);
    let cluster = Cluster::default();
    let attributes = Attributes { namespace: "default", ..Attributes::resource(&user, "watch", "apps", "deployments") };
    let start = std::time::Instant::now();
    let rounds = 10_000;
    for _ in 0..rounds {
        std::hint::black_box(rbac.authorize(&attributes, &cluster));
    }
    // Printed, not asserted: timed tests are flaky.
    eprintln!("one decision: {:?}", start.elapsed() / rounds);
}
