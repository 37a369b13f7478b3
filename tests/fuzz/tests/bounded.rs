//! Every target for a bounded number of inputs, as CI runs them: findings are failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use fuzz::run::{Bounds, parent};

/// The same inputs each time; `cargo xtask fuzz` goes on from there with others.
const SEED: u64 = 1;

#[test]
fn no_decoder_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_fuzz"));
    let mut findings = Vec::new();
    for target in fuzz::all() {
        let bounds = Bounds { seed: SEED, first: 0, inputs: target.inputs, time: Duration::from_secs(10) };
        let report = parent(program, target.name, bounds, scratch.path()).unwrap();
        eprintln!("{}: {} inputs of seed {SEED}", target.name, report.inputs);
        findings.extend(report.finding);
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn a_finding_is_told_with_what_replays_it() {
    let scratch = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_fuzz"));
    for (target, said) in [("self-panic", "panicked: found"), ("self-overflow", "signal"), ("self-memory", "signal")] {
        let bounds = Bounds { seed: SEED, first: 0, inputs: 100, time: Duration::from_secs(10) };
        let finding = parent(program, target, bounds, scratch.path()).unwrap().finding.unwrap();
        assert!(finding.contains(said) && finding.contains("input 0:"), "{finding}");
    }
}
