//! Who makes a request: upstream's `user.Info`, and the names with a meaning of their own.

use std::collections::BTreeMap;

/// Every request that proved who makes it.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Every request that proved nothing.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Not subject to authorization: the way back in when the RBAC policy is broken.
pub const GROUP_MASTERS: &str = "system:masters";
pub const GROUP_NODES: &str = "system:nodes";
pub const GROUP_BOOTSTRAPPERS: &str = "system:bootstrappers";
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
pub const USER_ANONYMOUS: &str = "system:anonymous";
pub const USER_APISERVER: &str = "system:apiserver";
pub const NODE_PREFIX: &str = "system:node:";
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
pub const BOOTSTRAP_PREFIX: &str = "system:bootstrap:";

/// The identity of a request (`authentication.k8s.io/v1 UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserInfo {
    pub name: String,
    /// Empty when the authenticator knows none.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user known by name and groups, with `system:authenticated` added.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        if !groups.iter().any(|g| g == GROUP_AUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// Who a request without credentials is.
    pub fn anonymous() -> Self {
        Self { name: USER_ANONYMOUS.to_owned(), groups: vec![GROUP_UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The identity of a node's kubelet.
    pub fn node(node: &str) -> Self {
        Self::new(&format!("{NODE_PREFIX}{node}"), &[GROUP_NODES])
    }

    /// The identity of a service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let of_namespace = format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}");
        let name = format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}");
        Self { uid: uid.to_owned(), ..Self::new(&name, &[GROUP_SERVICE_ACCOUNTS, &of_namespace]) }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    pub fn is_anonymous(&self) -> bool {
        self.in_group(GROUP_UNAUTHENTICATED)
    }

    /// The node whose kubelet this is (upstream's `nodeidentifier`): user `system:node:NAME` in group `system:nodes`.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX)?;
        self.in_group(GROUP_NODES).then_some(name)
    }

    /// Namespace and name when this is a service account.
    pub fn service_account_name(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }
}
