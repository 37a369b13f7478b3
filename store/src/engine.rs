//! The core and its log together, still without threads or a clock: one [`Engine::turn`] takes what has arrived, makes
//! it durable as one group, applies it, and returns the answers. The driver's thread runs it in production, a loop over
//! a seed in simulation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::Message;

use crate::core::apply::Applied;
use crate::core::state::State;
use crate::core::{Boot, Core, Work};
use crate::disk;
use crate::kv::Error;
use crate::wal::recover::{self, Opening, io_error};
use crate::wal::{Identity, Log};

/// How long a full disk is left alone between tries, in milliseconds.
const FULL_DISK_RETRY: u64 = 200;

/// What can be asked of a running store.
#[derive(Debug)]
pub enum Input {
    /// An encoded command; its id is in it.
    Propose(Bytes),
    KeepAlive(i64),
    LeaseLeft(i64),
    /// Write a snapshot and let go of the log before it; answered when that is done.
    Save,
    /// A save is done; with a snapshot, the log is not needed up to this entry.
    Saved {
        released: Option<u64>,
    },
    /// The file that [`Log::wants_next`] named is there.
    NextIsPrepared(PathBuf),
    Receive(Box<Message>),
}

/// The answer to an [`Input`] by its id.
#[derive(Clone, Debug)]
pub enum Output {
    Applied(Applied),
    /// Seconds.
    Ttl(i64),
    Done,
}

pub type Reply = (u64, Result<Output, Error>);

#[derive(Default)]
pub struct Turn {
    pub replies: Vec<Reply>,
    /// Set when the state changed: to be published before any reply leaves.
    pub state: Option<Arc<State>>,
    pub messages: Vec<Message>,
    /// Work is left that needs no input: call again soon.
    pub more: bool,
    /// When to call again at the latest, in the clock's milliseconds.
    pub wake: Option<u64>,
}

pub struct Engine {
    core: Core,
    log: Log,
    /// Work that is not durable yet; it stays while the disk is full.
    pending: Option<Work>,
    /// Whether the pending work is in the log's group.
    gathered: bool,
    /// The disk was full at the last try.
    full: bool,
    /// Set for good when durability can no longer be promised.
    failed: Option<Error>,
    /// Who waits for a save.
    savers: Vec<u64>,
    /// Applied entry, compacted revision and whether its removal goes on, as last published.
    published: (u64, i64, bool),
}

impl Engine {
    /// `state` is what was restored; the log continues it. A lone voter leads when this returns.
    pub fn open(opening: Opening<'_>, mut state: State, now: u64) -> Result<Engine, Error> {
        let fresh = opening.after == 0;
        let (log, recovered) = recover::open(opening)?;
        if fresh {
            state.members = log.identity().members.clone();
        }
        if !fresh || !recovered.entries.is_empty() {
            let (entries, torn, closed) = (recovered.entries.len(), recovered.torn, recovered.closed);
            tracing::info!(entries, torn, closed, "store: replaying the log");
        }
        let boot =
            Boot { id: log.identity().member, hard_state: recovered.hard_state, state, entries: recovered.entries };
        let core = Core::new(boot)?;
        let mut engine = Engine {
            core,
            log,
            pending: None,
            gathered: false,
            full: false,
            failed: None,
            savers: Vec::new(),
            published: (0, 0, false),
        };
        engine.core.tick(now);
        engine.settle(&mut Turn::default())?;
        engine.core.campaign_if_alone()?;
        engine.settle(&mut Turn::default())?;
        // Whoever asked for what was replayed is gone.
        drop(engine.core.take_answers());
        match engine.failed.clone() {
            Some(error) => Err(error),
            None => Ok(engine),
        }
    }

    pub fn state(&self) -> &State {
        self.core.state()
    }

    pub fn identity(&self) -> &Identity {
        self.log.identity()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Why the store no longer acknowledges, if so.
    pub fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// The disk is full: writes are refused until there is room.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether somebody waits for a snapshot.
    pub fn wants_save(&self) -> bool {
        !self.savers.is_empty()
    }

    pub fn is_leader(&self) -> bool {
        self.core.is_leader()
    }

    /// Takes everything that has arrived, with the ids under which answers are awaited.
    pub fn turn(&mut self, now: u64, inputs: Vec<(u64, Input)>) -> Turn {
        let mut turn = Turn::default();
        self.core.tick(now);
        let mut proposals = Vec::new();
        for (id, input) in inputs {
            match input {
                Input::Propose(data) => proposals.push((id, data)),
                Input::Save => self.savers.push(id),
                Input::Saved { released } => turn.replies.extend(self.saved(released)),
                other => turn.replies.extend(self.immediate(id, other)),
            }
        }
        self.propose(proposals, &mut turn);
        if let Err(error) = self.settle(&mut turn) {
            self.fail(error);
        }
        let answers = self.core.take_answers();
        turn.replies.extend(answers.into_iter().map(|(id, result)| (id, result.map(Output::Applied))));
        turn.more = self.failed.is_none() && self.core.purge_step();
        let state = self.core.state();
        let version = (state.applied_index, state.mvcc.compacted(), turn.more);
        if version != self.published {
            self.published = version;
            turn.state = Some(Arc::new(state.clone()));
        }
        turn.wake = self.wake(now);
        turn
    }

    fn wake(&self, now: u64) -> Option<u64> {
        if self.failed.is_some() {
            return None;
        }
        let retry = self.full.then_some(now + FULL_DISK_RETRY).filter(|_| self.pending.is_some());
        self.core.next_tick().into_iter().chain(retry).min()
    }

    fn immediate(&mut self, id: u64, input: Input) -> Option<Reply> {
        let result = match input {
            Input::KeepAlive(lease) => match self.failed.clone() {
                Some(error) => Err(error),
                None => self.core.keep_alive(lease).map(Output::Ttl),
            },
            Input::LeaseLeft(lease) => Ok(Output::Ttl(self.core.lease_left(lease).unwrap_or(-1))),
            Input::NextIsPrepared(path) => {
                self.log.next_is_prepared(path);
                Ok(Output::Done)
            }
            Input::Receive(message) => {
                self.core.receive(*message);
                return None;
            }
            Input::Propose(_) | Input::Save | Input::Saved { .. } => unreachable!("they are told apart before"),
        };
        Some((id, result))
    }

    fn saved(&mut self, released: Option<u64>) -> Vec<Reply> {
        if let Some(Err(error)) = released.map(|index| self.log.release(index)) {
            tracing::warn!(%error, "log: old segments stay until the next snapshot");
        }
        let result = match released {
            Some(_) => Ok(Output::Done),
            None => Err(io_error("write a snapshot")(io::Error::other("the store's log says why"))),
        };
        self.savers.drain(..).map(|id| (id, result.clone())).collect()
    }

    fn propose(&mut self, proposals: Vec<(u64, Bytes)>, turn: &mut Turn) {
        if proposals.is_empty() {
            return;
        }
        let bytes = proposals.iter().map(|(_, data)| data.len()).sum();
        let accepted = self.admit(proposals.len(), bytes).and_then(|()| {
            let data = proposals.iter().map(|(_, data)| data.clone());
            self.core.propose(data)
        });
        if let Err(error) = accepted {
            turn.replies.extend(proposals.into_iter().map(|(id, _)| (id, Err(error.clone()))));
        }
    }

    /// Refuses proposals that could not be written: nothing that raft has taken can be taken back.
    fn admit(&mut self, records: usize, bytes: usize) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.pending.is_some() {
            return Err(Error::NoSpace);
        }
        match self.log.reserve(records, bytes) {
            Ok(()) => {
                self.full = false;
                Ok(())
            }
            Err(error) if disk::is_full(&error) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::warn!(%error, "disk full: writes are refused, reads go on");
                }
                Err(Error::NoSpace)
            }
            Err(error) => {
                let error = io_error("begin a log segment")(error);
                self.fail(error.clone());
                Err(error)
            }
        }
    }

    fn fail(&mut self, error: Error) {
        tracing::error!(%error, "store stops acknowledging writes");
        self.failed.get_or_insert(error);
    }

    /// Makes everything durable that the core wants so, and applies what that commits, until nothing is left.
    fn settle(&mut self, turn: &mut Turn) -> Result<(), Error> {
        if self.failed.is_some() {
            return Ok(());
        }
        while self.flush(turn)? {
            let Some(mut work) = self.core.take_work()? else { return Ok(()) };
            turn.messages.append(&mut work.messages);
            self.pending = Some(work);
        }
        Ok(())
    }

    /// Makes the pending work durable. `false` when the disk is full: it waits and is tried again.
    fn flush(&mut self, turn: &mut Turn) -> Result<bool, Error> {
        let Some(work) = self.pending.as_mut() else { return Ok(true) };
        if work.needs_disk() {
            match gather_and_write(&mut self.log, work, &mut self.gathered) {
                Ok(()) => self.full = false,
                Err(error) if disk::is_full(&error) => {
                    if !std::mem::replace(&mut self.full, true) {
                        tracing::warn!(%error, "disk full: writes wait, reads go on");
                    }
                    return Ok(false);
                }
                Err(error) => return Err(io_error("write the log")(error)),
            }
            // What a failed sync left on disk is unknown; it is never tried again.
            self.log.sync().map_err(io_error("sync the log"))?;
        }
        turn.messages.append(&mut work.messages_after);
        self.core.persisted(work.number);
        self.pending = None;
        self.gathered = false;
        Ok(true)
    }

    /// Says in the log that everything before is complete. Nothing may be proposed after it.
    pub fn close(&mut self) -> io::Result<()> {
        if self.failed.is_some() || self.pending.is_some() {
            return Ok(());
        }
        self.log.make_room(1, 0)?;
        self.log.add_closed();
        self.log.write()?;
        self.log.sync()
    }
}

/// May be tried again when it fails.
fn gather_and_write(log: &mut Log, work: &Work, gathered: &mut bool) -> io::Result<()> {
    if !*gathered {
        let bytes = work.entries.iter().map(|entry| entry.data.len()).sum();
        log.make_room(work.entries.len() + 1, bytes)?;
        if let Some(hard_state) = &work.hard_state {
            log.add_hard_state(hard_state);
        }
        for entry in &work.entries {
            log.add_entry(entry);
        }
        *gathered = true;
    }
    log.write()
}
