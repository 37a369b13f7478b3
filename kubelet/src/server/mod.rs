//! The kubelet's HTTPS server: logs, exec, attach, port-forward, Pods, statistics, health.

mod auth;
mod exec;
mod identity;
mod listener;
mod logs;
mod metrics;
mod portforward;
mod remote;
mod route;
mod spdy;
mod stats;
mod tls;
mod upgrade;
mod websocket;

pub(crate) use listener::{Limits, Server};
pub(crate) use spdy::read_all as read_spdy;
pub(crate) use websocket::read_one as read_channel;

#[cfg(test)]
mod tests;
