//! Keeps copies of the applied state on disk, and the next log segment ready, on a thread of its own: nothing here is
//! on the way of an acknowledgement. When it runs behind, the log is longer and a restart replays more; that is all.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::core::state::State;
use crate::disk::Disk;
use crate::driver::{Beside, Inbox, Submission};
use crate::engine::{Engine, Input};
use crate::kv::Error;
use crate::sled_state;
use crate::snapshot;
use crate::store::Config;
use crate::wal::recover::io_error;
use crate::wal::segment;

/// An orderly end takes a snapshot when the log has grown by this part of what asks for one otherwise: the next start
/// then has little to replay.
const LAST_PART: u64 = 32;

enum Job {
    Prepare(PathBuf, u64),
    Save(Arc<State>),
}

/// The engine thread's side: decides when.
pub struct Keeper {
    jobs: Option<SyncSender<Job>>,
    worker: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    snapshot_bytes: u64,
    /// The log's length at the last snapshot, and now.
    snapshot_at: u64,
    written: u64,
    /// The segment whose successor was ordered.
    ordered: u64,
}

#[derive(Default)]
struct Shared {
    /// A save is under way.
    busy: AtomicBool,
    /// The store is closing: only what a quick next start needs is done.
    closing: AtomicBool,
    /// Length of the newest snapshot in bytes: it is not written again before the log has grown by as much.
    snapshot_length: AtomicU64,
}

/// The worker's side: does it.
struct Worker {
    disk: Arc<dyn Disk>,
    inbox: Inbox,
    shared: Arc<Shared>,
    snapshots: PathBuf,
    sled_path: PathBuf,
    sled_cache: u64,
    /// Whether sled has what the last snapshot has. The log reaches back to the one before, so every other will do.
    copied: bool,
    /// Held until the last write is done.
    _lock: File,
}

impl Keeper {
    /// The newest state on disk; the log continues it.
    pub fn open(config: &Config, disk: Arc<dyn Disk>, inbox: Inbox, lock: File) -> Result<(Keeper, State), Error> {
        let snapshots = snapshot::prepare(&*disk, &config.dir.join("snapshots"))?;
        let sled_path = sled_state::path(&config.dir);
        let sled_cache = config.sled_cache_bytes;
        let state = match snapshot::newest(&*disk, &snapshots) {
            Ok(Some(state)) => state,
            Ok(None) => from_sled(&sled_path, sled_cache).unwrap_or_default(),
            // Every snapshot is damaged: without sled's copy that is the end.
            Err(error) => {
                let state = from_sled(&sled_path, sled_cache).ok_or(error)?;
                snapshot::set_aside(&*disk, &snapshots, &snapshot::list(&*disk, &snapshots)?)?;
                state
            }
        };
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            disk,
            inbox,
            shared: shared.clone(),
            snapshots,
            sled_path,
            sled_cache,
            copied: false,
            _lock: lock,
        };
        let (jobs, queue) = sync_channel(4);
        let worker = std::thread::Builder::new().name("store-keeper".into()).spawn(move || worker.run(&queue));
        let worker = worker.map_err(io_error("start the store's keeper"))?;
        let keeper = Keeper {
            jobs: Some(jobs),
            worker: Some(worker),
            shared,
            snapshot_bytes: config.snapshot_bytes,
            snapshot_at: 0,
            written: 0,
            ordered: 0,
        };
        Ok((keeper, state))
    }

    fn order(&self, job: Job) -> bool {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !sent {
            tracing::warn!("store: its keeper does not keep up");
        }
        sent
    }

    /// Bytes by which the log must grow before the next snapshot.
    fn threshold(&self) -> u64 {
        self.snapshot_bytes.max(self.shared.snapshot_length.load(Ordering::Relaxed))
    }
}

impl Beside for Keeper {
    fn after_turn(&mut self, engine: &Engine) {
        if let Some((segment, path, bytes)) = engine.log().wants_next()
            && segment != self.ordered
            && self.order(Job::Prepare(path, bytes))
        {
            self.ordered = segment;
        }
        self.written = engine.log().written();
        let due = self.written - self.snapshot_at >= self.threshold() || engine.wants_save();
        if !due || self.shared.busy.load(Ordering::Acquire) {
            // The end of a save is an input, after which this is called again.
            return;
        }
        self.shared.busy.store(true, Ordering::Release);
        if self.order(Job::Save(Arc::new(engine.state().clone()))) {
            self.snapshot_at = self.written;
        } else {
            self.shared.busy.store(false, Ordering::Release);
        }
    }

    fn finish(&mut self, state: Arc<State>) {
        self.shared.closing.store(true, Ordering::Relaxed);
        if self.written - self.snapshot_at >= self.threshold() / LAST_PART
            && let Some(jobs) = &self.jobs
            && jobs.send(Job::Save(state)).is_err()
        {
            tracing::warn!("store: its keeper is gone; the next start replays the log");
        }
    }
}

impl Drop for Keeper {
    /// Waits for what was ordered, and for the lock to be given back.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::warn!("store: its keeper panicked; the next start replays the log");
        }
    }
}

/// sled's copy, when it is whole. Damage is said.
fn from_sled(path: &std::path::Path, cache_bytes: u64) -> Option<State> {
    match sled_state::load(path, cache_bytes) {
        Ok(state) => {
            let index = state.as_ref().map(|state| state.applied_index);
            tracing::info!(index, "store: there is no snapshot; asked sled's copy");
            state
        }
        Err(error) => {
            tracing::warn!(%error, "store: sled's copy is not used");
            None
        }
    }
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            let input = match job {
                Job::Prepare(path, bytes) => match segment::prepare(&*self.disk, &path, bytes) {
                    Ok(_) => Input::NextIsPrepared(path),
                    Err(error) => {
                        tracing::warn!(%error, path = %path.display(), "log: next segment is not prepared");
                        continue;
                    }
                },
                Job::Save(state) => {
                    let released = self.snapshot(&state);
                    self.copied = !self.copied && self.copy_to_sled(&state);
                    drop(state);
                    self.shared.busy.store(false, Ordering::Release);
                    Input::Saved { released }
                }
            };
            // Refused when the store is closing: nobody needs to know any more.
            drop(self.inbox.submit(Submission { id: 0, input, waiter: None }));
        }
    }

    /// Returns the index up to which the log is no longer needed.
    fn snapshot(&self, state: &State) -> Option<u64> {
        match snapshot::save(&*self.disk, &self.snapshots, state) {
            Ok(saved) => {
                self.shared.snapshot_length.store(saved.bytes, Ordering::Relaxed);
                Some(saved.released)
            }
            Err(error) => {
                tracing::warn!(%error, "store: no snapshot; the log stays longer");
                None
            }
        }
    }

    /// What cannot be brought up to date is thrown away; the next save makes it anew.
    fn copy_to_sled(&self, state: &State) -> bool {
        let closing = &self.shared.closing;
        if closing.load(Ordering::Relaxed) {
            return false;
        }
        if let Err(error) = sled_state::save(&self.sled_path, self.sled_cache, state, closing) {
            tracing::warn!(%error, "store: sled's copy is thrown away");
            if let Err(error) = sled_state::discard(&self.sled_path) {
                tracing::warn!(%error, "store: sled's copy stays");
            }
            return false;
        }
        true
    }
}
