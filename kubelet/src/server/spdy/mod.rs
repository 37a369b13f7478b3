//! SPDY/3.1 as Kubernetes uses it: multiplexed byte streams for exec, attach and port-forward. Flow control windows are
//! not kept, as clients of Kubernetes keep none.

pub(super) mod command;
mod frame;
mod headers;
pub(super) mod session;
