//! The node's own object: registration, status, lease.

pub mod admission;
mod lease;
pub mod machine;
pub mod pressure;
mod register;
mod status;
pub mod sysctl;
pub mod weight;

use std::sync::Arc;

use crate::agent::Agent;

/// Registers the node and keeps its status and lease until the task is dropped.
pub async fn run(agent: Arc<Agent>) {
    tokio::join!(register::run(&agent), lease::run(&agent), register::follow(&agent));
}
