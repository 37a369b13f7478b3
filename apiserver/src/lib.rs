//! The API server: one request pipeline over the resource table, a watch cache, HTTP.
//!
//! [`Server::start`] fills the caches from a store and creates what every cluster has; [`Server::serve`] answers on a
//! socket, [`Server::in_process`] answers components in the same process. Nothing outside this crate writes to the
//! store.

mod allocate;
mod bootstrap;
mod cache;
mod compact;
mod config;
mod convert;
mod http;
mod leases;
mod metrics;
mod nonresource;
mod pipeline;
mod proxy;
mod quirks;
mod resource_metrics;
mod rows;
mod server;
mod standing;
mod storage;
mod subresources;
pub mod untrusted;
mod yaml;

pub use config::{Config, Limits, Network, Settings};
pub use http::Body;
pub use server::{InProcess, Server, StartError};
