//! How every component reaches the API: a `kube::Client` over a socket or in process, and what control loops share:
//! informers, a work queue, leader election by Lease, event recording; and what two of them must decide alike.

pub mod backoff;
pub mod beat;
pub mod create;
pub mod events;
pub mod informer;
pub mod leader;
pub mod lean;
pub mod queue;
mod renewing;
pub mod strangers;
pub mod taints;
pub mod tls;
pub mod transport;
pub mod volumes;

pub use backoff::Backoff;
pub use create::Copies;
pub use events::{EventType, Recorder};
pub use informer::{Change, Informer};
pub use lean::Lean;
pub use queue::WorkQueue;
pub use transport::{from_kubeconfig, from_kubeconfig_text, in_process};
