//! Progress lines for the person who waits, and the word to the parent when detached.

use std::io::Write as _;
use std::time::Instant;

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

/// Prints lines. Nobody may be reading (the terminal closed, `cox status | head -1`), or the disk be full; what is
/// under way goes on all the same.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "print progress");
    }
}
