//! The container runtime core, and the trait that the kubelet sees of it (or of containerd, CRI-O).
//!
//! Knows the Container Runtime Interface, nothing of the Kubernetes API.

pub mod cgroup;
mod config;
mod connection;
mod core;
pub mod cri;
pub mod faults;
mod files;
pub mod images;
mod network;
mod reset;
mod seccomp;
pub mod shim;
mod spec;
mod state;
mod syscall;
mod sysctl;

pub use config::Config;
pub use core::Core;
pub use reset::reset;
