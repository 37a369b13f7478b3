//! `fuzz [--target T] [--seconds N] [--inputs N] [--seed S] [--input N]`: runs targets, each in a process of its own,
//! and
//! says what was found. With `--input` one input is run in this process and its panic shown.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use fuzz::run::{self, Bounds, Counting};

#[global_allocator]
static COUNTING: Counting = Counting;

struct Words(Vec<String>);

impl Words {
    fn text(&self, flag: &str) -> Option<&str> {
        let at = self.0.iter().position(|word| word == flag)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn number(&self, flag: &str) -> Result<Option<u64>> {
        self.text(flag).map(|text| text.parse().with_context(|| format!("{flag} {text}"))).transpose()
    }
}

fn main() -> ExitCode {
    match run_all(&Words(std::env::args().skip(1).collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(words: &Words) -> Result<()> {
    let fresh = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seed = words.number("--seed")?.unwrap_or(fresh);
    let time = match (words.number("--millis")?, words.number("--seconds")?) {
        (Some(millis), _) => Duration::from_millis(millis),
        (None, seconds) => Duration::from_secs(seconds.unwrap_or(20)),
    };
    let first = words.number("--first")?.unwrap_or(0);
    let bounds = Bounds { seed, first, inputs: words.number("--inputs")?.unwrap_or(u64::MAX), time };
    if let Some(target) = words.text("--child") {
        let progress = words.text("--progress").context("--progress is missing")?;
        return run::child(target, bounds, Path::new(progress)).map(drop);
    }
    if let Some(number) = words.number("--input")? {
        return again(words.text("--target").context("--input needs --target")?, seed, number);
    }
    let scratch = tempfile::tempdir().context("make a directory")?;
    let program: PathBuf = std::env::current_exe().context("find this program")?;
    println!("seed {seed}");
    let mut findings = 0;
    for target in fuzz::all().iter().filter(|target| words.text("--target").is_none_or(|name| name == target.name)) {
        let report = run::parent(&program, target.name, bounds, scratch.path())?;
        println!(
            "{:<16} {:>9} inputs  {}",
            target.name,
            report.inputs,
            report.finding.as_deref().unwrap_or("nothing found")
        );
        findings += usize::from(report.finding.is_some());
    }
    if findings > 0 { bail!("{findings} findings") } else { Ok(()) }
}

/// Runs one input here, so that its panic or overflow is seen.
fn again(target: &str, seed: u64, number: u64) -> Result<()> {
    let target = fuzz::targets::find(target).with_context(|| format!("no target {target}"))?;
    let bytes = run::input(&target, &(target.corpus)(), seed, number);
    println!("{} bytes: {:?}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]));
    (target.run)(&bytes);
    Ok(())
}
