//! The kubectl-like verbs, driven by discovery.

use std::ffi::OsString;
use std::process::ExitCode;

/// What `cox --help` says of the verbs.
pub const VERBS_HELP: &str = "Everything else is a verb as kubectl has it: cox get pods, cox apply -f FILE, cox logs POD, …";

/// Runs one verb.
pub fn main(words: Vec<OsString>) -> ExitCode {
    let word = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    eprintln!("error: unknown command {word:?}");
    ExitCode::FAILURE
}
