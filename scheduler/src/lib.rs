//! The scheduler: a pure `decide(snapshot, pod)` made of plugins, and a thin loop that binds.

mod binder;
mod cache;
mod claims;
mod decide;
mod findings;
mod labels;
mod model;
mod plugins;
mod preempt;
mod queue;
mod run;

pub use run::{Config, run};
