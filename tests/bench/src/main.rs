//! `cargo xtask bench`: what the cluster reaches, beside what Kubernetes reaches.
//!
//! Each row of the table (`rows`) loads a cluster of ours, made in a network namespace without a way out; with
//! `--against KUBECONFIG` it loads that cluster in turn. Without another cluster the ratio is to the published figures
//! of the reference (see `rows::Row::reference`).

mod http;
mod load;
mod process;
mod report;
mod rows;
mod side;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask bench [ROW...] [--against KUBECONFIG] [--seconds N]

  ROW                   a row or the beginning of its name; all without one
  --against KUBECONFIG  load that cluster in turn, and print the measured ratio
  --seconds N           how long each load lasts (default 5)
  --cox FILE            the program to measure (default: the release build)";

/// What the command line asks for.
struct Wishes {
    rows: Vec<String>,
    against: Option<String>,
    seconds: u64,
    cox: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let wishes = parse(std::env::args().skip(1))?;
    let chosen = rows::chosen(&wishes.rows)?;
    let time = Duration::from_secs(wishes.seconds);
    let ours = side::ours(&wishes.cox, &chosen, time);
    let theirs = wishes.against.as_ref().map(|kubeconfig| side::theirs(Path::new(kubeconfig), &chosen, time));
    report::print(&chosen, &ours, theirs.as_ref());
    if ours.failed.is_empty() {
        return Ok(());
    }
    bail!("{} rows failed", ours.failed.len())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Wishes> {
    let mut wishes = Wishes { rows: Vec::new(), against: None, seconds: 5, cox: beside()? };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--against" => wishes.against = Some(value()?),
            "--cox" => wishes.cox = value()?.into(),
            "--seconds" => wishes.seconds = value()?.parse().context("--seconds")?,
            flag if flag.starts_with('-') => bail!("unknown option {flag}\n{USAGE}"),
            _ => wishes.rows.push(word),
        }
    }
    Ok(wishes)
}

/// The `cox` that was built together with this program.
fn beside() -> Result<PathBuf> {
    let here = std::env::current_exe().context("find this program")?;
    Ok(here.with_file_name("cox"))
}
