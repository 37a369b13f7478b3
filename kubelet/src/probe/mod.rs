//! Probes: what they ask, how often, and what their results mean for a container.

pub mod exec;
pub mod grpc;
pub mod http;
pub mod tcp;
pub mod worker;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What one run of a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A success to be talked about: a redirect to another host.
    Warning(String),
    Failure(String),
    /// It could not be run.
    Error(String),
}

/// A port by number, or by the name that the container gives it.
///
/// # Errors
/// The container has no such port, or the number is none.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
                named.map(|p| p.container_port).ok_or_else(|| format!("couldn't find port: {name:?} in container"))?
            }
        },
    };
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or_else(|| format!("invalid port number: {number}"))
}
