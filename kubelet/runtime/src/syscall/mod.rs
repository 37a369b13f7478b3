//! The kernel, as far as the runtime core needs it beyond the standard library: namespaces, mounts, netlink, passing
//! descriptors, processes. Nothing else in this crate makes raw system calls.

pub mod bpf;
pub mod fs;
pub mod mount;
pub mod netlink;
pub mod pipe;
pub mod process;
pub mod socket;
pub mod terminal;
pub mod watched;
