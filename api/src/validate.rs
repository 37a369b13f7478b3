//! Validation that all kinds share: object metadata, labels, selectors.

pub mod labels;
pub mod meta;
