//! A Pod on its node: plan, worker, status, start and stop.

mod conditions;
mod end;
pub mod manager;
mod node_end;
mod phase;
pub mod plan;
mod plan_init;
mod publish;
pub mod registry;
mod run;
mod sandbox;
mod start;
pub mod status;
pub mod stop;
mod termination;
pub mod worker;

#[cfg(test)]
mod plan_tests;
