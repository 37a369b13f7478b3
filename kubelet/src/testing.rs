//! The fake runtime.
