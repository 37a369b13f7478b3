//! The node agent: it runs the Pods that are bound to its node and reports on them, in upstream kubelet's behaviour.
//!
//! Decisions are pure (`pod::plan`, `pod::status`, `env`, `dns`, `qos`, …); one task for each Pod carries them out,
//! woken by events alone. It speaks to the API by a `kube::Client` and to containers by the trait
//! `kubelet_runtime::cri::Runtime`.

mod agent;
mod backoff;
mod cgroup;
mod config;
mod dns;
mod downward;
mod env;
mod events;
mod expand;
mod hooks;
mod images;
mod inotify;
mod labels;
mod logs;
mod node;
mod objects;
mod pod;
mod probe;
mod qos;
mod quantity;
mod run;
mod security;
mod server;
mod services;
mod shutdown;
mod spec;
mod static_pods;
mod time;
pub mod untrusted;
mod volumes;

#[cfg(test)]
mod testing;

pub use config::{Config, ServingCertificate};
pub use run::run;
pub use shutdown::{Shutdown, stop_pods};
pub use volumes::shared::share_mounts;

/// What an API error says, without the client's decoration: the server's message where there is one.
fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(inner) = source {
                let more = inner.to_string();
                if !text.contains(&more) {
                    text.push_str(": ");
                    text.push_str(&more);
                }
                source = inner.source();
            }
            text
        }
    }
}
