//! Fuzzing: builds the program of `tests/fuzz` and runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs the fuzz program with the given words.
pub fn run(root: &Path, words: &[&str]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "fuzz", "--bin", "fuzz", "--"]).args(words).current_dir(root);
    let status = command.status().context("run cargo to build and run the fuzz targets")?;
    if status.success() { Ok(()) } else { bail!("fuzzing: {status}") }
}
