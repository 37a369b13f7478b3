//! May they: the attributes of a request, decisions, and the chain of authorizers.

use std::borrow::Cow;
use std::sync::Arc;

use api::Status;

use crate::node::NodeAuthorizer;
use crate::objects::Objects;
use crate::rbac::Rbac;
use crate::user::{GROUP_MASTERS, UserInfo};

/// What is asked of the API, as far as authorization looks at it (upstream's `authorizer.Attributes`).
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// API verb (`get`, `list`, `watch`, `deletecollection`, …), or the lower-case HTTP method for non-resource paths.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources, and for requests across namespaces.
    pub namespace: &'a str,
    /// Empty for list and create. For list, watch and deletecollection with the field selector `metadata.name=X` it is
    /// X.
    pub name: &'a str,
    /// The URL's path; only looked at when `is_resource` is false.
    pub path: &'a str,
    pub is_resource: bool,
    /// The query's `fieldSelector` as it came, for list, watch and deletecollection; empty elsewhere.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// A request for a resource; set the other fields with the struct update syntax.
    pub fn resource(user: &'a UserInfo, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            group,
            version: "*",
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            is_resource: true,
            field_selector: "",
        }
    }

    /// A request for a path that is no resource (`/healthz`).
    pub fn path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self { path, is_resource: false, version: "", ..Self::resource(user, verb, "", "") }
    }
}

/// An authorizer's answer; the texts are its reasons, for the audit log and the refusal's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Arc<str>),
    /// Another authorizer may allow it.
    NoOpinion(String),
    /// No other authorizer is asked.
    Deny(String),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) => reason,
            Self::NoOpinion(reason) | Self::Deny(reason) => reason,
        }
    }
}

/// One way of deciding.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, attributes: &Attributes<'_>, objects: &dyn Objects) -> Decision;
}

/// `system:masters` may do everything (upstream's `superuser` authorizer).
pub struct Masters;

impl Authorizer for Masters {
    fn authorize(&self, attributes: &Attributes<'_>, _: &dyn Objects) -> Decision {
        if attributes.user.in_group(GROUP_MASTERS) {
            Decision::Allow(Arc::from(""))
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// Asks authorizers in turn; the first that allows or denies decides.
pub struct Chain(Vec<Arc<dyn Authorizer>>);

impl Chain {
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(authorizers)
    }
}

impl Authorizer for Chain {
    fn authorize(&self, attributes: &Attributes<'_>, objects: &dyn Objects) -> Decision {
        let mut reasons = String::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes, objects) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => {
                    if !reasons.is_empty() {
                        reasons.push('\n');
                    }
                    reasons.push_str(&reason);
                }
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons)
    }
}

/// The refusal, or `Ok` with the reason of the permission. This is what the request pipeline calls.
pub fn check(
    authorizer: &dyn Authorizer,
    attributes: &Attributes<'_>,
    objects: &dyn Objects,
) -> Result<Arc<str>, Status> {
    match authorizer.authorize(attributes, objects) {
        Decision::Allow(reason) => Ok(reason),
        Decision::NoOpinion(reason) | Decision::Deny(reason) => Err(forbidden(attributes, &reason)),
    }
}

/// The 403 of a refused request, in upstream's words (apiserver `responsewriters.Forbidden`).
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = escaped(&refusal(attributes));
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    Status::forbidden(attributes.group, attributes.resource, attributes.name, &why)
}

/// Upstream keeps its errors from looking like HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `User "x" cannot list resource "pods" in API group "" in the namespace "default"`.
fn refusal(attributes: &Attributes<'_>) -> String {
    let user = &attributes.user.name;
    let verb = attributes.verb;
    if !attributes.is_resource {
        return format!("User {user:?} cannot {verb} path {:?}", attributes.path);
    }
    let resource = if attributes.subresource.is_empty() {
        Cow::Borrowed(attributes.resource)
    } else {
        Cow::Owned(format!("{}/{}", attributes.resource, attributes.subresource))
    };
    let scope = if attributes.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", attributes.namespace)
    };
    format!("User {user:?} cannot {verb} resource {resource:?} in API group {:?} {scope}", attributes.group)
}

/// The authorizers of an API server, in order: `system:masters`, Node, RBAC. The second is the RBAC authorizer in the
/// first, for those who tell it of changes or ask for rules.
pub fn standard(objects: &dyn Objects) -> (Arc<Chain>, Arc<Rbac>) {
    let rbac = Arc::new(Rbac::new(objects));
    let node = Arc::new(NodeAuthorizer::default());
    (Arc::new(Chain::new(vec![Arc::new(Masters), node, rbac.clone()])), rbac)
}
