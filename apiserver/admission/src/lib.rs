//! The built-in admission plugins: pure decisions over one request and the objects that [`apiserver_auth::Objects`]
//! shows, each in a file of its own, in upstream's order.

pub mod certificates;
pub mod default_class;
pub mod default_toleration_seconds;
pub mod limit_ranger;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod plugin;
pub mod pod_topology_labels;
pub mod priority;
pub mod rbac_escalation;
mod read;
pub mod request;
pub mod runtime_class;
pub mod service_account;
mod standard;
pub mod storage;
pub mod taint_nodes;

pub use plugin::{Chain, Plugin};
pub use request::{Operation, Request};
pub use standard::standard;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
