//! A plugin and the chain of all of them.

use std::sync::Arc;

use api::{Gvr, Status};
use apiserver_auth::Objects;

use crate::request::{Operation, Request};

/// One admission plugin. `admit` may change the object, `validate` may not; all `admit`s run before all `validate`s.
pub trait Plugin: Send + Sync {
    /// Upstream's name of it, `NamespaceLifecycle`.
    fn name(&self) -> &'static str;

    /// Whether the plugin has a say; asked before each call, so it must be cheap.
    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool;

    fn admit(&self, _request: &mut Request<'_>, _objects: &dyn Objects) -> Result<(), Status> {
        Ok(())
    }

    fn validate(&self, _request: &Request<'_>, _objects: &dyn Objects) -> Result<(), Status> {
        Ok(())
    }
}

/// Plugins in order.
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Chain {
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|p| p.name())
    }

    /// Whether any plugin has a say; when none has, the pipeline need not decode for admission's sake.
    pub fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        self.plugins.iter().any(|p| p.handles(operation, gvr, subresource))
    }

    /// The mutating pass. The first refusal ends it.
    pub fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let (operation, gvr, subresource) = (request.operation, request.gvr, request.subresource);
        for plugin in self.plugins.iter().filter(|p| p.handles(operation, gvr, subresource)) {
            plugin.admit(request, objects)?;
        }
        Ok(())
    }

    /// The validating pass, on the object as it will be stored. The first refusal ends it.
    pub fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let (operation, gvr, subresource) = (request.operation, request.gvr, request.subresource);
        for plugin in self.plugins.iter().filter(|p| p.handles(operation, gvr, subresource)) {
            plugin.validate(request, objects)?;
        }
        Ok(())
    }
}
