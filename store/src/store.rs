//! The embedded store: opens a data directory and answers [`Kv`].

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use raft::eraftpb::ConfState;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::check;
use crate::command::{self, Command};
use crate::core::apply::Applied;
use crate::core::lease::{MAX_TTL, MIN_TTL};
use crate::core::state::State;
use crate::disk::{Disk, RealDisk};
use crate::driver::{Driver, Inbox, Submission};
use crate::engine::{Engine, Input, Output};
use crate::keeper::Keeper;
use crate::kv::{
    Error, Kv, LeaseInfo, Op, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchRequest, WatchStream,
};
use crate::wal::recover::{Opening, io_error};
use crate::wal::{Identity, Options};

/// Kibibytes of requests under way at most.
const UNDER_WAY: u32 = 64 << 10;

/// How a store is opened. Defaults are etcd's where it has them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory, made with mode 0700 if it is not there.
    pub dir: PathBuf,
    /// Length of a log segment in bytes.
    pub segment_bytes: u64,
    /// A snapshot is taken when the log has grown by this many bytes since the last.
    pub snapshot_bytes: u64,
    /// A larger request is refused, in bytes of its encoding.
    pub max_request_bytes: usize,
    /// More comparisons or operations than this in a transaction are refused.
    pub max_txn_ops: usize,
    /// sled's cache in bytes; reads never come from it.
    pub sled_cache_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dir: PathBuf::from("/var/lib/cox/store"),
            segment_bytes: 8 << 20,
            snapshot_bytes: 32 << 20,
            max_request_bytes: 1536 << 10,
            max_txn_ops: 128,
            sled_cache_bytes: 1 << 20,
        }
    }
}

/// What a store holds, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub revision: i64,
    /// Reads below it are refused.
    pub compact_revision: i64,
    /// Living keys.
    pub keys: usize,
    /// Changes that history has, the living keys' last ones included.
    pub changes: usize,
    pub leases: usize,
    /// Last entry of the log that is applied, and the term of the leader that wrote it.
    pub applied_index: u64,
    pub applied_term: u64,
    /// Bytes of keys and values in history, and of those that live now.
    pub bytes: i64,
    pub live_bytes: i64,
}

/// An open store. Dropping the last handle closes it without waiting; [`Store::close`] waits.
pub struct Store {
    config: Config,
    inbox: Inbox,
    states: watch::Receiver<Arc<State>>,
    under_way: Semaphore,
    /// Of requests. Every start begins elsewhere, so that a replayed entry never answers a new request.
    ids: AtomicU64,
    lease_ids: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: Arc<OnceLock<Error>>,
    full: Arc<AtomicBool>,
    identity: Ids,
}

/// Which cluster and member this store is: numbers chosen when its directory was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub cluster: u64,
    pub member: u64,
}

impl Store {
    /// Opens or makes the store in `config.dir` and replays what is newer than its state. Blocks for as long as that
    /// takes. A second process gets [`Error::Io`] of kind `WouldBlock`.
    pub fn open(config: Config) -> Result<Arc<Store>, Error> {
        Store::open_on(Arc::new(RealDisk), config)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, config: Config) -> Result<Arc<Store>, Error> {
        let started = Instant::now();
        let dir = &config.dir;
        disk.create_dir(dir).map_err(io_error(format!("make {}", dir.display())))?;
        let lock = lock(dir)?;
        let (seed, inbox) = (random(), Inbox::default());
        let (keeper, state) = Keeper::open(&config, disk.clone(), inbox.clone(), lock)?;
        let member = random() | 1;
        let opening = Opening {
            disk,
            dir: &dir.join("log"),
            options: Options { segment_bytes: config.segment_bytes },
            seed,
            identity: Identity { cluster: random(), member, members: ConfState::from(([member], [])) },
            after: state.applied_index,
        };
        let engine = Engine::open(opening, state, 0)?;
        let (published, states) = watch::channel(Arc::new(engine.state().clone()));
        let (revision, index) = (engine.state().mvcc.revision(), engine.state().applied_index);
        let identity = Ids { cluster: engine.identity().cluster, member: engine.identity().member };
        let beside = Box::new(keeper);
        let failure = Arc::new(OnceLock::new());
        let full = Arc::new(AtomicBool::new(false));
        let (failed, is_full) = (failure.clone(), full.clone());
        let driver =
            Driver { engine, inbox: inbox.clone(), published, beside, failure: failed, full: is_full, started };
        let thread = driver.spawn()?;
        tracing::info!(dir = %dir.display(), revision, index, took = ?started.elapsed(), "store: open");
        Ok(Arc::new(Store {
            config,
            inbox,
            states,
            under_way: Semaphore::new(UNDER_WAY as usize),
            ids: AtomicU64::new(seed >> 8 | 1),
            lease_ids: AtomicU64::new(random()),
            thread: Mutex::new(Some(thread)),
            failure,
            full,
            identity,
        }))
    }

    /// Answers what is under way, refuses the rest with [`Error::Stopped`], ends every watch, and returns when the
    /// directory may be opened again.
    pub async fn close(&self) {
        self.inbox.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::warn!("store: the runtime ended before the store's thread");
        }
    }

    /// Why the store refuses all writes until it is opened again; `None` while all is well.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Whether writes are refused because the disk is full.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub fn ids(&self) -> Ids {
        self.identity
    }

    /// Bytes that the data directory's files have. Walks the directory, off the calling task's thread.
    pub async fn disk_bytes(&self) -> Result<u64, Error> {
        let dir = self.config.dir.clone();
        let operation = format!("measure {}", dir.display());
        let walk = tokio::task::spawn_blocking(move || bytes_below(&dir));
        walk.await.map_err(|_| Error::Stopped)?.map_err(io_error(operation))
    }

    /// Writes a snapshot and lets go of the log that it makes needless. A save that is under way counts.
    pub async fn save(&self) -> Result<(), Error> {
        self.ask(self.next_id(), Input::Save).await.map(|_| ())
    }

    /// Every state from the newest on, as it is published; it ends with the store. Whoever is late sees the newest
    /// only: what lies between is in its history.
    pub fn states(&self) -> watch::Receiver<Arc<State>> {
        self.states.clone()
    }

    pub fn status(&self) -> Status {
        let state = self.states.borrow().clone();
        Status {
            revision: state.mvcc.revision(),
            compact_revision: state.mvcc.compacted(),
            keys: state.mvcc.len(),
            changes: state.mvcc.changes().len(),
            leases: state.leases.len(),
            applied_index: state.applied_index,
            applied_term: state.applied_term,
            bytes: state.mvcc.bytes().0,
            live_bytes: state.mvcc.bytes().1,
        }
    }

    /// The newest state, which never changes: what [`Kv::range`] reads. This member is the only voter, so what it has
    /// applied is the newest there is, and a write is
    /// acknowledged only after its state is published here.
    pub fn newest(&self) -> Result<Arc<State>, Error> {
        if self.states.has_changed().is_err() {
            return Err(Error::Stopped);
        }
        Ok(self.states.borrow().clone())
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask(&self, id: u64, input: Input) -> Result<Output, Error> {
        let (waiter, answer) = oneshot::channel();
        self.inbox.submit(Submission { id, input, waiter: Some(waiter) })?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    async fn propose(&self, command: &Command) -> Result<Applied, Error> {
        let id = self.next_id();
        let data = command::encode(id, command);
        if data.len() > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let kibibytes = (1 + data.len() as u32 / 1024).min(UNDER_WAY);
        let _permit = self.under_way.acquire_many(kibibytes).await.map_err(|_| Error::Stopped)?;
        match self.ask(id, Input::Propose(data)).await? {
            Output::Applied(applied) => Ok(applied),
            Output::Ttl(_) | Output::Done => unreachable!("proposals are answered by what was applied"),
        }
    }

    fn new_lease_id(&self) -> i64 {
        let next = self.lease_ids.fetch_add(1, Ordering::Relaxed);
        ((next & (i64::MAX as u64)) as i64).max(1)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

#[async_trait]
impl Kv for Store {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check::range(&request)?;
        self.newest()?.mvcc.range(&request)
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        check::txn(&request, self.config.max_txn_ops)?;
        let applied = if reads_only(&request) {
            State::clone(&*self.newest()?).apply(Command::Txn(request))?
        } else {
            self.propose(&Command::Txn(request)).await?
        };
        match applied {
            Applied::Txn(response) => Ok(response),
            Applied::Done => unreachable!("a transaction is answered by its response"),
        }
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.propose(&Command::Compact { revision }).await.map(|_| ())
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
        if request.start.is_empty() {
            return Err(Error::EmptyKey);
        }
        self.newest()?;
        Ok(crate::watch::open(self.states.clone(), request))
    }

    async fn lease_grant(&self, id: i64, ttl_seconds: i64) -> Result<i64, Error> {
        if ttl_seconds > MAX_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        let ttl = ttl_seconds.max(MIN_TTL);
        if id != 0 {
            return self.propose(&Command::LeaseGrant { id, ttl }).await.map(|_| id);
        }
        loop {
            let id = self.new_lease_id();
            match self.propose(&Command::LeaseGrant { id, ttl }).await {
                Err(Error::LeaseExists) => {}
                other => return other.map(|_| id),
            }
        }
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.propose(&Command::LeaseRevoke { id }).await.map(|_| ())
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<i64, Error> {
        seconds(self.ask(self.next_id(), Input::KeepAlive(id)).await?)
    }

    async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseInfo, Error> {
        let ttl = seconds(self.ask(self.next_id(), Input::LeaseLeft(id)).await?)?;
        let state = self.newest()?;
        let Some(lease) = state.leases.get(&id) else {
            return Ok(LeaseInfo { id, granted_ttl: 0, ttl: -1, keys: Vec::new() });
        };
        let keys = if keys { state.keys_of(id).cloned().collect() } else { Vec::new() };
        Ok(LeaseInfo { id, granted_ttl: lease.ttl, ttl, keys })
    }

    fn figures(&self) -> Vec<(&'static str, i64)> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let status = self.status();
        vec![
            ("etcd_debugging_mvcc_current_revision", status.revision),
            ("etcd_debugging_mvcc_compact_revision", status.compact_revision),
            ("etcd_debugging_mvcc_keys_total", count(status.keys)),
            ("etcd_debugging_mvcc_changes_total", count(status.changes)),
            ("etcd_debugging_lease_total", count(status.leases)),
            ("etcd_server_proposals_applied_total", i64::try_from(status.applied_index).unwrap_or(i64::MAX)),
            ("etcd_server_failed", i64::from(self.failure().is_some())),
        ]
    }
}

fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path())?,
            Ok(metadata) => metadata.len(),
            // Replaced by a newer one meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

fn seconds(output: Output) -> Result<i64, Error> {
    match output {
        Output::Ttl(seconds) => Ok(seconds),
        Output::Applied(_) | Output::Done => unreachable!("a question about a lease is answered by seconds"),
    }
}

fn reads_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete { .. } => false,
        Op::Txn(nested) => reads_only(nested),
    })
}

/// Seeds that need be unguessable by nobody but accident: the standard library's own.
fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}

/// A killed process's lock lives on for a moment in a child that was forked and has not come to its exec yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Keeps a second process out for as long as the file is open.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let operation = format!("lock {}", path.display());
    let mut options = OpenOptions::new();
    let file =
        options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io_error(&operation))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(io_error(operation)(std::io::ErrorKind::WouldBlock.into())),
            Err(TryLockError::Error(error)) => return Err(io_error(operation)(error)),
        }
    }
}

#[cfg(test)]
mod tests;
