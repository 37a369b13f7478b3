//! One request through one plugin, for tests.

use std::sync::Arc;

use api::{Gvk, Gvr, Object, Status};
use apiserver_auth::testing::{Cluster, object};
use apiserver_auth::{Attributes, Authorizer, Decision, Objects, UserInfo};
use serde_json::Value;

use crate::{Operation, Plugin, Request};

/// A request to be asked about; fields not given are those of a plain create by nobody special.
pub struct Ask {
    pub operation: Operation,
    /// `[group/]resource[/subresource]`
    pub target: &'static str,
    pub namespace: &'static str,
    pub name: &'static str,
    pub object: Option<Value>,
    pub old: Option<Value>,
    pub user: UserInfo,
}

impl Ask {
    pub fn create(target: &'static str, object: Value) -> Self {
        Self {
            operation: Operation::Create,
            target,
            namespace: "ns",
            name: "",
            object: Some(object),
            old: None,
            user: UserInfo::new("u", &[]),
        }
    }

    pub fn update(target: &'static str, object: Value, old: Value) -> Self {
        Self { operation: Operation::Update, old: Some(old), name: "x", ..Self::create(target, object) }
    }

    pub fn delete(target: &'static str, name: &'static str, old: Value) -> Self {
        Self { operation: Operation::Delete, name, object: None, old: Some(old), ..Self::create(target, Value::Null) }
    }

    pub fn by(self, user: UserInfo) -> Self {
        Self { user, ..self }
    }

    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

/// Runs both passes, if the plugin handles the request; the object as it left them.
pub fn run(plugin: &dyn Plugin, ask: Ask, cluster: &Cluster) -> Result<Value, Status> {
    let (group, rest) = match ask.target.split_once('/') {
        Some((group, rest)) if group.contains('.') || group == "policy" => (group, rest),
        _ => ("", ask.target),
    };
    let (resource, subresource) = rest.split_once('/').unwrap_or((rest, ""));
    let (gvr, gvk) = (Gvr::new(group, "v1", resource), Gvk::new(group, "v1", ""));
    let old = ask.old.map(object);
    let options = Object::new();
    let mut request = Request {
        operation: ask.operation,
        gvr: &gvr,
        gvk: &gvk,
        subresource,
        namespace: ask.namespace,
        name: ask.name,
        object: ask.object.map(object),
        old: old.as_ref(),
        user: &ask.user,
        dry_run: false,
        options: &options,
        warnings: Vec::new(),
    };
    if plugin.handles(ask.operation, &gvr, subresource) {
        plugin.admit(&mut request, cluster)?;
        plugin.validate(&request, cluster)?;
    }
    Ok(request.object.map_or(Value::Null, Value::Object))
}

/// The message of a refusal; empty when it went through.
pub fn refusal(plugin: &dyn Plugin, ask: Ask, cluster: &Cluster) -> String {
    run(plugin, ask, cluster).err().map(|s| s.message).unwrap_or_default()
}

/// Allows what it lists: `verb resource name`.
pub fn may(list: &'static [&'static str]) -> Arc<dyn Authorizer> {
    struct May(&'static [&'static str]);
    impl Authorizer for May {
        fn authorize(&self, a: &Attributes<'_>, _: &dyn Objects) -> Decision {
            let wanted = format!("{} {} {}", a.verb, a.resource, a.name);
            if self.0.contains(&wanted.as_str()) {
                Decision::Allow("test".into())
            } else {
                Decision::NoOpinion(String::new())
            }
        }
    }
    Arc::new(May(list))
}
