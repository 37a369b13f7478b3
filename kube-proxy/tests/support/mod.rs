//! What the tests with real traffic share: an API in memory, network namespaces, and servers in them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod api;
pub mod net;
