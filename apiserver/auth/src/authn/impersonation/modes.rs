//! The ways of being allowed to impersonate, and what each demands.

use std::collections::BTreeMap;

use api::{Status, names};

use super::Wanted;
use crate::authorize::{Attributes, Authorizer, check, forbidden};
use crate::objects::Objects;
use crate::user::{
    GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_UNAUTHENTICATED, NODE_PREFIX, SERVICE_ACCOUNT_PREFIX,
    USER_ANONYMOUS, UserInfo,
};

const GROUP: &str = "authentication.k8s.io";
const NODE_NAME_KEY: &str = "authentication.kubernetes.io/node-name";
/// From so many groups or extra values on, the right to all of them is looked for first.
const MANY: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A service account as the node that its Pod runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Users that are neither nodes nor service accounts.
    UserInfo,
    /// The verb `impersonate`, for whatever is done then.
    Legacy,
}

/// A node's user name.
fn node(user: &str) -> Option<&str> {
    user.strip_prefix(NODE_PREFIX).filter(|name| names::dns1123_subdomain(name).is_empty())
}

/// Namespace and name of a service account's user name.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    let valid = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
}

impl Mode {
    pub const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    /// As it stands in the verbs `impersonate:MODE` and `impersonate-on:MODE:VERB`.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::AssociatedNode => Some("associated-node"),
            Self::ArbitraryNode => Some("arbitrary-node"),
            Self::ServiceAccount => Some("serviceaccount"),
            Self::UserInfo => Some("user-info"),
            Self::Legacy => None,
        }
    }

    pub fn applies(self, wanted: &Wanted, user: &UserInfo) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let is_account = account(&wanted.user).is_some();
        match (self, node(&wanted.user)) {
            (Self::AssociatedNode, Some(node)) => {
                let own = user.extra.get(NODE_NAME_KEY).map(Vec::as_slice);
                only_name && account(&user.name).is_some() && own == Some(&[node.to_owned()])
            }
            (Self::ArbitraryNode, found) => only_name && found.is_some(),
            (Self::ServiceAccount, _) => only_name && is_account,
            (Self::UserInfo, found) => found.is_none() && !is_account,
            (Self::Legacy, _) => true,
            (Self::AssociatedNode, None) => false,
        }
    }

    /// The user to act as, when the mode's rights are granted.
    pub fn check(
        self,
        request: &Attributes<'_>,
        wanted: &Wanted,
        authorizer: &dyn Authorizer,
        objects: &dyn Objects,
    ) -> Result<UserInfo, Status> {
        let mut verb = "impersonate".to_owned();
        if let Some(name) = self.name() {
            let on = format!("impersonate-on:{name}:{}", request.verb);
            check(authorizer, &Attributes { verb: &on, ..*request }, objects)?;
            verb = format!("impersonate:{name}");
        }
        let rights = Rights { mode: self, verb: &verb, user: request.user, authorizer, objects };
        let mut groups = rights.name(&wanted.user, &wanted.groups)?;
        if !wanted.uid.is_empty() {
            rights.has(rights.of(GROUP, "uids", &wanted.uid))?;
        }
        rights.groups(&wanted.groups)?;
        rights.extra(&wanted.extra)?;
        add_standing_group(&wanted.user, &mut groups);
        Ok(UserInfo { name: wanted.user.clone(), uid: wanted.uid.clone(), groups, extra: wanted.extra.clone() })
    }
}

/// The rights that one mode asks for.
struct Rights<'a> {
    mode: Mode,
    verb: &'a str,
    user: &'a UserInfo,
    authorizer: &'a dyn Authorizer,
    objects: &'a dyn Objects,
}

impl<'a> Rights<'a> {
    fn of(&self, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let version = if group.is_empty() { "" } else { "v1" };
        Attributes { version, name, ..Attributes::resource(self.user, self.verb, group, resource) }
    }

    fn has(&self, attributes: Attributes<'_>) -> Result<(), Status> {
        check(self.authorizer, &attributes, self.objects).map(drop)
    }

    fn is_constrained(&self) -> bool {
        self.mode != Mode::Legacy
    }

    /// The API group of users and groups.
    fn group(&self) -> &'static str {
        if self.is_constrained() { GROUP } else { "" }
    }

    /// The groups that go with the name.
    fn name(&self, name: &'a str, groups: &[String]) -> Result<Vec<String>, Status> {
        if let Some(node) = node(name).filter(|_| self.is_constrained()) {
            // The right is to the account's own node, whichever that is.
            let name = if self.mode == Mode::AssociatedNode { "*" } else { node };
            self.has(self.of(GROUP, "nodes", name))?;
            return Ok(vec![GROUP_NODES.to_owned()]);
        }
        let Some((namespace, account)) = account(name) else {
            self.has(self.of(self.group(), "users", name))?;
            return Ok(groups.to_vec());
        };
        self.has(Attributes { namespace, ..self.of(self.group(), "serviceaccounts", account) })?;
        if !groups.is_empty() {
            return Ok(groups.to_vec());
        }
        let mut fixed = UserInfo::service_account(namespace, account, "").groups;
        fixed.retain(|group| group != GROUP_AUTHENTICATED);
        Ok(fixed)
    }

    fn groups(&self, groups: &'a [String]) -> Result<(), Status> {
        if self.is_constrained() {
            let refused = |name, why| Err(forbidden(&self.of(GROUP, "groups", name), why));
            if groups.iter().any(String::is_empty) {
                return refused("", "impersonating the empty string group is not allowed");
            }
            if groups.iter().any(|group| group == GROUP_MASTERS) {
                return refused(GROUP_MASTERS, "impersonating the system:masters group is not allowed");
            }
            if groups.len() >= MANY && self.has(self.of(GROUP, "groups", "*")).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.has(self.of(self.group(), "groups", group)))
    }

    fn extra(&self, extra: &'a BTreeMap<String, Vec<String>>) -> Result<(), Status> {
        let of = |key: &'a str, value: &'a str| Attributes { subresource: key, ..self.of(GROUP, "userextras", value) };
        if self.is_constrained() {
            if let Some(why) = extra.iter().find_map(|(key, values)| extra_fault(key, values)) {
                return Err(forbidden(&of("", ""), &why));
            }
            let count: usize = extra.values().map(Vec::len).sum();
            if count >= MANY && self.has(of("*", "*")).is_ok() {
                return Ok(());
            }
        }
        let each = extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        each.into_iter().try_for_each(|(key, value)| self.has(of(key, value)))
    }
}

/// What the constrained modes do not take as extra.
fn extra_fault(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    if let Some(why) = path_fault(key) {
        return Some(format!("impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {why}"));
    }
    if key.chars().any(char::is_uppercase) {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".to_owned());
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

/// Why a key is no path with a domain before it (`acme.io/foo`): the value at fault and the reason.
fn path_fault(key: &str) -> Option<String> {
    let parts = key.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
    let Some((host, path)) = parts else {
        return Some(format!("{key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"));
    };
    if let Some(why) = names::dns1123_subdomain(host).first() {
        return Some(format!("{host:?}: {why}"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if path.chars().all(plain) {
        return None;
    }
    let pattern = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    Some(format!("{path:?}: Invalid path (regex used for validation is '{pattern}')"))
}

/// The group that says whether the user is known, unless the request says so itself.
fn add_standing_group(user: &str, groups: &mut Vec<String>) {
    let has = |group: &str| groups.iter().any(|g| g == group);
    if user == USER_ANONYMOUS {
        if !has(GROUP_UNAUTHENTICATED) {
            groups.push(GROUP_UNAUTHENTICATED.to_owned());
        }
    } else if !has(GROUP_AUTHENTICATED) && !has(GROUP_UNAUTHENTICATED) {
        groups.push(GROUP_AUTHENTICATED.to_owned());
    }
}
