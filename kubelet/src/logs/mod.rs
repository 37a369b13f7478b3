//! Container logs in CRI's format: reading, following, rotating.

pub mod entry;
pub mod follow;
pub mod options;
pub mod rotate;
