//! The built-in admission plugins: pure decisions over one request and the objects that [`apiserver_auth::Objects`]
//! shows, each in a file of its own, in upstream's order.

pub mod plugin;
pub mod request;

pub use plugin::{Chain, Plugin};
pub use request::{Operation, Request};
