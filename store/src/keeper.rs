//! Keeps copies of the applied state on disk, and the next log segment ready, on a thread of its own: nothing here is
//! on the way of an acknowledgement. When it runs behind, the log is longer and a restart replays more; that is all.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::core::state::State;
use crate::disk::Disk;
use crate::driver::{Beside, Inbox, Submission};
use crate::engine::{Engine, Input};
use crate::kv::Error;
use crate::sled_state::{self, SledState};
use crate::snapshot;
use crate::store::Config;
use crate::wal::recover::io_error;
use crate::wal::segment;

/// A change is in sled after this time at the latest, unless sled is slow.
const SAVE_AFTER: Duration = Duration::from_secs(30);
/// Or when the log has grown by this part of what asks for a snapshot.
const SAVES_PER_SNAPSHOT: u64 = 4;

enum Job {
    Prepare(PathBuf, u64),
    Save { state: Arc<State>, snapshot: bool },
}

/// The engine thread's side: decides when.
pub struct Keeper {
    jobs: Option<SyncSender<Job>>,
    worker: Option<JoinHandle<()>>,
    /// A save is under way.
    busy: Arc<AtomicBool>,
    snapshot_bytes: u64,
    /// When the oldest change that is not saved must be.
    due: Option<Instant>,
    /// The log's length at the last save, at the last snapshot.
    saved_at: u64,
    snapshot_at: u64,
    /// The segment whose successor was ordered.
    ordered: u64,
}

/// The worker's side: does it.
struct Worker {
    disk: Arc<dyn Disk>,
    inbox: Inbox,
    busy: Arc<AtomicBool>,
    snapshots: PathBuf,
    sled_path: PathBuf,
    sled_cache: u64,
    sled: Option<SledState>,
    /// Held until the last write is done.
    _lock: File,
}

impl Keeper {
    /// The newest state on disk; the log continues it.
    pub fn open(config: &Config, disk: Arc<dyn Disk>, inbox: Inbox, lock: File) -> Result<(Keeper, State), Error> {
        let snapshots = snapshot::prepare(&*disk, &config.dir.join("snapshots"))?;
        let sled_path = sled_state::path(&config.dir);
        let (sled, state) = load(&*disk, &snapshots, &sled_path, config.sled_cache_bytes)?;
        let busy = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            disk,
            inbox,
            busy: busy.clone(),
            snapshots,
            sled_path,
            sled_cache: config.sled_cache_bytes,
            sled,
            _lock: lock,
        };
        let (jobs, queue) = sync_channel(4);
        let worker = std::thread::Builder::new().name("store-keeper".into()).spawn(move || worker.run(&queue));
        let worker = worker.map_err(io_error("start the store's keeper"))?;
        let keeper = Keeper {
            jobs: Some(jobs),
            worker: Some(worker),
            busy,
            snapshot_bytes: config.snapshot_bytes,
            due: None,
            saved_at: 0,
            snapshot_at: 0,
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

    fn save(&mut self, engine: &Engine) {
        let written = engine.log().written();
        let snapshot = written - self.snapshot_at >= self.snapshot_bytes;
        self.busy.store(true, Ordering::Release);
        if self.order(Job::Save { state: Arc::new(engine.state().clone()), snapshot }) {
            self.saved_at = written;
            self.snapshot_at = if snapshot { written } else { self.snapshot_at };
        } else {
            self.busy.store(false, Ordering::Release);
        }
        self.due = None;
    }
}

impl Beside for Keeper {
    fn after_turn(&mut self, engine: &Engine, changed: bool, now: Instant) -> Option<Instant> {
        if let Some((segment, path, bytes)) = engine.log().wants_next()
            && segment != self.ordered
            && self.order(Job::Prepare(path, bytes))
        {
            self.ordered = segment;
        }
        if changed {
            self.due.get_or_insert(now + SAVE_AFTER);
        }
        let due = self.due?;
        if self.busy.load(Ordering::Acquire) {
            // Its end is an input, after which this is called again.
            return None;
        }
        if now < due && engine.log().written() - self.saved_at < self.snapshot_bytes / SAVES_PER_SNAPSHOT {
            return Some(due);
        }
        self.save(engine);
        None
    }

    fn finish(&mut self, state: Arc<State>) {
        if let Some(jobs) = &self.jobs
            && self.due.is_some()
            && jobs.send(Job::Save { state, snapshot: false }).is_err()
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

/// Whichever of sled's copy and the newest snapshot is newer. Damage is said; it is an error only when nothing is left.
fn load(
    disk: &dyn Disk,
    snapshots: &std::path::Path,
    sled_path: &std::path::Path,
    cache: u64,
) -> Result<(Option<SledState>, State), Error> {
    let newest = snapshot::list(disk, snapshots)?.last().copied().unwrap_or(0);
    if sled_path.exists() {
        match SledState::open(sled_path, cache) {
            Ok((sled, state)) if state.applied_index >= newest && state.applied_index > 0 => {
                return Ok((Some(sled), state));
            }
            Ok((sled, state)) => {
                tracing::debug!(index = state.applied_index, newest, "store: sled's copy is older than the snapshot");
                return Ok((Some(sled), snapshot::newest(disk, snapshots)?.unwrap_or_default()));
            }
            Err(error) => {
                tracing::warn!(%error, "store: sled's copy is thrown away and rebuilt from the snapshot and the log");
                if let Err(error) = SledState::discard(sled_path) {
                    tracing::warn!(%error, "store: sled's copy stays");
                }
            }
        }
    }
    Ok((None, snapshot::newest(disk, snapshots)?.unwrap_or_default()))
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
                Job::Save { state, snapshot } => {
                    let released = if snapshot { self.snapshot(&state) } else { None };
                    self.save(&state);
                    self.busy.store(false, Ordering::Release);
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
            Ok(index) => Some(index),
            Err(error) => {
                tracing::warn!(%error, "store: no snapshot; the log stays longer");
                None
            }
        }
    }

    fn save(&mut self, state: &State) {
        if self.sled.is_none() {
            match SledState::open(&self.sled_path, self.sled_cache) {
                Ok((sled, _)) => self.sled = Some(sled),
                Err(error) => self.give_up_sled(&error),
            }
        }
        if let Some(sled) = &mut self.sled
            && let Err(error) = sled.save(state)
        {
            self.give_up_sled(&error);
        }
    }

    /// The next save begins with an empty database.
    fn give_up_sled(&mut self, error: &sled_state::Fault) {
        tracing::warn!(%error, "store: sled's copy is thrown away; the next start replays the log from a snapshot");
        self.sled = None;
        if let Err(error) = SledState::discard(&self.sled_path) {
            tracing::warn!(%error, "store: sled's copy stays");
        }
    }
}
