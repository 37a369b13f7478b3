//! `cox store` beside a real etcd: etcd's own client asks both the same, and our API server runs on either.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apiserver;
mod etcdctl;
mod service;
