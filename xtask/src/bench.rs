//! Builds `cox` and the benchmarks for release, and runs the benchmarks.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs the benchmarks with the words of the command line.
pub fn run(root: &Path, words: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "--package", "coxswain", "--package", "bench"]).current_dir(root);
    let built = cargo.status().context("run cargo build")?;
    ensure!(built.success(), "cargo build: {built}");
    let program = root.join("target/release/bench");
    let done = Command::new(&program).args(words).status().with_context(|| format!("run {}", program.display()))?;
    ensure!(done.success(), "the benchmarks: {done}");
    Ok(())
}
