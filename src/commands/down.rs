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
    let began = Instant::now();
    match layout.running() {
        Some(pid) => {
            if args.pods {
                end_pods(&layout, pid, Duration::from_secs(args.timeout))?;
            }
            end(&layout, pid)?;
            say(&format!("stopped process {pid}"));
        }
        None => say(&format!("no cluster runs from {}", layout.dir().display())),
    }
    if args.pods {
        let left = Duration::from_secs(args.timeout).saturating_sub(began.elapsed());
        let stopped = node::stop_pods(&layout, left)?;
        say(&format!("stopped {stopped} Pods"));
    }
    Ok(())
}

/// Has the process end its Pods and then itself, as long as `patience`.
fn end_pods(layout: &Layout, pid: i32, patience: Duration) -> Result<()> {
    let seconds = patience.as_secs();
    say(&format!("ending the Pods: preStop hooks run, and each has its grace period, but {seconds} s at most"));
    // A process that is just starting dies of it; its Pods are then ended by what their containers were made with.
    signal(pid, Signal::SIGUSR1)?;
    let asked = Instant::now();
    while layout.is_taken() {
        if asked.elapsed() > patience {
            say(&format!("not all Pods ended in {seconds} s; those that are left are killed"));
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
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
