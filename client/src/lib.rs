//! How every component reaches the API: a `kube::Client` over a socket or in process, and what control loops share:
//! informers, a work queue, leader election by Lease, event recording; and what two of them must decide alike.

pub mod backoff;
pub mod beat;
pub mod create;
pub mod events;
pub mod informer;
pub mod json;
pub mod leader;
pub mod lean;
pub mod queue;
mod renewing;
pub mod request;
pub mod resource;
pub mod sparse;
pub mod strangers;
pub mod taints;
pub mod task;
pub mod tls;
pub mod transport;
pub mod volumes;
pub mod watch;

pub use backoff::Backoff;
pub use create::Copies;
pub use events::{EventType, Recorder};
pub use informer::{Change, Informer};
pub use json::{FromJson, ToJson};
pub use lean::Lean;
pub use queue::WorkQueue;
pub use resource::Api;
pub use task::spawn;
pub use transport::{from_kubeconfig, from_kubeconfig_text, in_process};
pub use watch::Watch;
