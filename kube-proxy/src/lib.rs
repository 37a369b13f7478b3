//! The node's network: Services as an nftables ruleset, routes to other nodes' Pods, and the cluster's DNS.
//!
//! [`run`] keeps the kernel as the API says until its token is cancelled. What it wrote stays when it ends, however it
//! ends: connections and new requests go on while the process is away, and the next start takes over what is there.
//! [`cleanup`] removes everything of a cluster. [`dns`] is a separate component with its own identity.
//!
//! Plans are pure: [`plan`] turns one Service and its endpoints into chains, map elements and sets; [`ruleset`] merges
//! the Services' plans and says what differs; [`apply`] alone talks to nf_tables, [`conntrack`] to connection tracking.

mod apply;
mod cleanup;
mod config;
mod conntrack;
pub mod dns;
mod health;
mod index;
pub mod model;
pub mod net;
pub mod node;
pub mod plan;
mod proxy;
pub mod ruleset;
mod watch;

pub use cleanup::cleanup;
pub use config::Config;
pub use proxy::run;
