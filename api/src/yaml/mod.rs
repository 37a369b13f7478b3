//! YAML as kubectl and the API server read and write it: YAML 1.1 in, the form of `sigs.k8s.io/yaml` out.
//!
//! The only place that knows YAML. `0644` is octal, `yes` and `on` are booleans, `<<` merges; what would read as
//! another type is quoted on the way out.

mod plain;
mod read;
mod write;

pub use read::{Document, Error, parse, parse_all};
pub use write::{to_string, write};

#[cfg(test)]
mod tests;
