//! What tests of whole Pods run against: a runtime and an API in memory.

pub mod api;
pub mod life;
pub mod runtime;
mod shutdown;
