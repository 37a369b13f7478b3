//! What a plugin sees of a request: upstream's `admission.Attributes`.

use api::{Gvk, Gvr, Object, Status};
use apiserver_auth::UserInfo;

/// What the request does to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// Exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// The name in `AdmissionReview` and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One request on its way through admission. Plugins change `object` in `admit` only.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub operation: Operation,
    pub gvr: &'a Gvr,
    /// Kind of `object`; for subresources that take another kind (`Binding`, `Eviction`, `Scale`), that kind.
    pub gvk: &'a Gvk,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty on create when the name is still to be generated.
    pub name: &'a str,
    /// The new object; `None` on delete and connect.
    pub object: Option<Object>,
    /// The stored object; `None` on create.
    pub old: Option<&'a Object>,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions, PatchOptions, DeleteOptions, or the connect's options.
    pub options: &'a Object,
    /// For the response's `Warning` headers.
    pub warnings: Vec<String>,
}

impl Request<'_> {
    /// Whether this is the main resource of a group and plural, in any version.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.gvr.group == group && self.gvr.resource == resource
    }

    /// The name for messages: that of the request, else of the object, else its `generateName`.
    pub fn shown_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.to_owned();
        }
        let Some(object) = &self.object else { return String::new() };
        match (api::object::name(object), api::object::meta_str(object, "generateName")) {
            ("", "") => "Unknown".to_owned(),
            ("", prefix) => prefix.to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    /// Upstream's `admission.NewForbidden`: `pods "x" is forbidden: why`.
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.gvr.group, &self.gvr.resource, &self.shown_name(), why)
    }
}
