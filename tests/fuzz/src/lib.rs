//! Fuzzing of everything that reads what strangers send: a target per decoder, inputs made from golden data by
//! mutations
//! that know their shape.
//!
//! Input N of a target under a seed is always the same bytes, so a finding is replayed by target, seed and N alone.
//! Each
//! target runs in a process of its own ([`run::child`]), for an overflow of the stack ends the process. A panic, an
//! abort,
//! an input that takes [`run::HANG`] or [`run::MEMORY`] are findings.

pub mod corpus;
pub mod mutate;
pub mod rng;
pub mod run;
pub mod targets;

pub use targets::{Target, all};
