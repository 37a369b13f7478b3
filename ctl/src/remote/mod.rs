//! Connections into Pods: a command's streams over a WebSocket, ports over SPDY.

pub(crate) mod command;
pub(crate) mod spdy;
pub(crate) mod terminal;
