//! Runs targets: each in a process of its own, input by input, with bounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::mutate::mutate;
use crate::rng::Rng;
use crate::targets::{self, Target};

/// An input that takes longer hangs. Generous, for the machine may be busy.
pub const HANG: Duration = Duration::from_secs(60);

/// What one input may hold of memory more than there was before it, in bytes.
pub const MEMORY: usize = 512 << 20;

/// The stack of what runs an input: that of the servers' threads.
const STACK: usize = 2 << 20;

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub seed: u64,
    /// First input, for replays.
    pub first: u64,
    pub inputs: u64,
    /// No input is begun after this.
    pub time: Duration,
}

/// Counts what is allocated. The program that runs targets installs it.
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static ALLOWED: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is passed to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > ALLOWED.load(Ordering::Relaxed) {
            // Unwinding out of an allocator is not allowed; the parent process tells which input it was.
            std::process::abort();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Input `number` of a target.
pub fn input(target: &Target, corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng::of_input(seed, target.name, number);
    // First the corpus as it is.
    if let Some(base) = usize::try_from(number).ok().and_then(|at| corpus.get(at)) {
        return base.clone();
    }
    let base = rng.pick(corpus).cloned().unwrap_or_default();
    let other = rng.pick(corpus).cloned().unwrap_or_default();
    mutate(target.shape, &base, &other, &mut rng)
}

/// Runs a target in this process and writes the number of each input to `progress` before it is run.
///
/// # Errors
/// The target is unknown, progress cannot be written, or an input is a finding.
pub fn child(name: &str, bounds: Bounds, progress: &Path) -> Result<u64> {
    let target = targets::find(name).with_context(|| format!("no target {name}"))?;
    let progress = File::options().write(true).create(true).truncate(false).open(progress).context("open progress")?;
    let run = move || all_inputs(&target, bounds, &progress);
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(run).context("start a thread")?;
    thread.join().unwrap_or_else(|_| bail!("the thread panicked outside of an input"))
}

static RUNNING: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicBool = AtomicBool::new(false);

fn all_inputs(target: &Target, bounds: Bounds, progress: &File) -> Result<u64> {
    let corpus = (target.corpus)();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::spawn(watch);
    let begun = Instant::now();
    let mut done = 0;
    for number in bounds.first..bounds.first.saturating_add(bounds.inputs) {
        if begun.elapsed() > bounds.time {
            break;
        }
        progress.write_at(&number.to_le_bytes(), 0).context("write progress")?;
        let bytes = input(target, &corpus, bounds.seed, number);
        RUNNING.store(number + 1, Ordering::SeqCst);
        ALLOWED.store(HELD.load(Ordering::Relaxed).saturating_add(MEMORY), Ordering::Relaxed);
        let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
        ALLOWED.store(usize::MAX, Ordering::Relaxed);
        if let Err(panic) = ran {
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            bail!("panicked: {text}");
        }
        done += 1;
    }
    ENDED.store(true, Ordering::SeqCst);
    Ok(done)
}

/// Ends the process when one input runs too long.
fn watch() {
    let mut last = (0, Instant::now());
    while !ENDED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(200));
        let running = RUNNING.load(Ordering::SeqCst);
        if running != last.0 {
            last = (running, Instant::now());
        } else if running > 0 && last.1.elapsed() > HANG {
            eprintln!("an input ran for {HANG:?}");
            std::process::abort();
        }
    }
}

/// What came of a target's run.
#[derive(Debug)]
pub struct Report {
    pub inputs: u64,
    /// What was found, and how to see it again.
    pub finding: Option<String>,
}

/// Runs a target in a child: `program` is the fuzz program.
///
/// # Errors
/// The child cannot be run.
pub fn parent(program: &Path, target: &str, bounds: Bounds, scratch: &Path) -> Result<Report> {
    let progress = scratch.join(format!("{target}.progress"));
    std::fs::write(&progress, [0; 8]).context("write progress")?;
    let mut child = Command::new(program)
        .args(["--child", target, "--seed", &bounds.seed.to_string(), "--first", &bounds.first.to_string()])
        .args(["--inputs", &bounds.inputs.to_string(), "--millis", &bounds.time.as_millis().to_string()])
        .arg("--progress")
        .arg(&progress)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let mut said = String::new();
    // What it says is a few lines: neither pipe fills while the other is read.
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut said).context("read what the child says")?;
    }
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut said).context("read what the child says")?;
    }
    let status = child.wait().context("wait for the child")?;
    let bytes = std::fs::read(&progress).context("read progress")?;
    let number = bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let inputs = number + 1 - bounds.first.min(number + 1);
    if status.success() {
        return Ok(Report { inputs, finding: None });
    }
    let finding = format!(
        "target {target}, seed {}, input {number}: {status}: {}\n  again: cargo xtask fuzz --target {target} --seed {} --input {number}",
        bounds.seed,
        said.trim(),
        bounds.seed
    );
    Ok(Report { inputs, finding: Some(finding) })
}
