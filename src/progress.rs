//! Progress lines for the person who waits, and the word to the parent when detached.

use std::io::{self, Write as _};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Prints what has been reached and when, relative to the start.
#[derive(Clone, Copy)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn reached(&self, what: &str) {
        say(&format!("{:>7.3}s  {what}", self.start.elapsed().as_secs_f64()));
    }
}

/// Tells what happens. Nobody may be reading (the terminal closed), or the disk be full; what is under way goes on all
/// the same.
pub fn say(text: &str) {
    if let Err(error) = write(text) {
        tracing::debug!(%error, "print progress");
    }
}

/// Prints what was asked for. Who has read enough (`cox status | head -1`) misses nothing by what comes after.
///
/// # Errors
/// It could not be written, as to a file on a full disk.
pub fn print(text: &str) -> Result<()> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("write the answer"),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}
