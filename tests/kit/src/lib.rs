//! What end-to-end tests and demonstrations are made of: images put together from files, network namespaces without a
//! way out, clusters that run in them, the real kubectl.

pub mod cluster;
pub mod disk;
pub mod hello;
pub mod image;
pub mod images;
pub mod kernel;
pub mod kubectl;
pub mod load;
pub mod machines;
pub mod net;
pub mod registry;
pub mod script;
pub mod sctp;
pub mod tools;

pub use cluster::Cluster;
pub use image::Image;
pub use kubectl::Kubectl;
pub use load::Load;
pub use machines::Machines;
pub use net::Network;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `look` until it has an answer. The limit is generous: it ends a test that would hang, it measures nothing.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut last = String::new();
    loop {
        match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => last = format!("; last: {error:#}"),
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain for {what}{last}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
