//! The container runtime core, and the trait that the kubelet sees of it (or of containerd, CRI-O).
//!
//! Knows the Container Runtime Interface, nothing of the Kubernetes API.

pub mod cgroup;
pub mod cri;
mod files;
pub mod images;
mod network;
pub mod shim;
mod syscall;
