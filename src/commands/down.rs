//! `cox down`: stops the process; with `--pods` the containers too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::require_root;
use crate::cli::DownArgs;
use crate::layout::Layout;
use crate::netns;
use crate::node;
use crate::progress::say;

/// How long a stopping process may take before it is ended the hard way.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn run(args: &DownArgs) -> Result<()> {
    require_root("down")?;
    let layout = Layout::at(&args.dir.data_dir)?;
    netns::enter(&layout)?;
    match layout.running() {
        Some(pid) => {
            end(&layout, pid)?;
            say(&format!("stopped process {pid}"));
        }
        None => say(&format!("no cluster runs from {}", layout.dir().display())),
    }
    if args.pods {
        let stopped = node::stop_pods(&layout)?;
        say(&format!("stopped {stopped} Pods"));
    }
    Ok(())
}

/// Tells the process to end and waits until it let go of the data directory.
pub fn end(layout: &Layout, pid: i32) -> Result<()> {
    signal(pid, Signal::SIGTERM)?;
    let asked = Instant::now();
    let mut killed = false;
    while layout.is_taken() {
        if asked.elapsed() > PATIENCE && !killed {
            signal(pid, Signal::SIGKILL)?;
            killed = true;
        }
        if asked.elapsed() > 2 * PATIENCE {
            bail!("process {pid} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("send {signal} to process {pid}")),
    }
}
