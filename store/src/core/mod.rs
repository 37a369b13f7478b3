//! The store as a state machine: raft, applied state, leases. No threads, no clock, no IO: a driver feeds it proposals,
//! messages and the time, takes its [`Work`], makes that durable, and says so.

pub mod apply;
pub mod lease;
mod logger;
pub mod mvcc;
pub mod state;
mod tail;

use raft::eraftpb::{ConfChange, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType};
use raft::{RawNode, StateRole};

use self::apply::Applied;
use self::lease::Lessor;
use self::state::State;
use self::tail::Tail;
use crate::command::{self, Command};
use crate::kv::Error;

/// How many changes one step of background removal looks at.
const PURGE_STEP: usize = 1000;
/// Applied entries kept in memory for followers, when there are any.
const KEEP_FOR_FOLLOWERS: u64 = 5000;
/// Milliseconds between two ticks of raft's clock, which a lone voter does not need. Elections take 10 to 20 of them.
const RAFT_TICK: u64 = 100;
/// How long a refused lease revocation waits for its next try, in milliseconds.
const REVOKE_AGAIN: u64 = 1000;

/// What the disk gave back.
pub struct Boot {
    /// This member.
    pub id: u64,
    pub hard_state: HardState,
    /// Applied state that the log continues.
    pub state: State,
    /// Entries after the state's applied index.
    pub entries: Vec<Entry>,
}

/// What must be durable before [`Core::persisted`] is called with its number; messages may leave as said.
pub struct Work {
    pub number: u64,
    pub hard_state: Option<HardState>,
    pub entries: Vec<Entry>,
    /// To send at once.
    pub messages: Vec<Message>,
    /// To send once this work is durable.
    pub messages_after: Vec<Message>,
}

impl Work {
    pub fn needs_disk(&self) -> bool {
        self.hard_state.is_some() || !self.entries.is_empty()
    }
}

/// The answer to the request of this id.
pub type Answer = (u64, Result<Applied, Error>);

pub struct Core {
    raft: RawNode<Tail>,
    state: State,
    lessor: Lessor,
    now: u64,
    next_raft_tick: u64,
    /// Term and vote that the log has.
    durable: (u64, u64),
    answers: Vec<Answer>,
    leader: bool,
}

impl Core {
    pub fn new(boot: Boot) -> Result<Core, Error> {
        let Boot { id, mut hard_state, state, entries } = boot;
        let last = entries.last().map_or(state.applied_index, |entry| entry.index);
        // What is applied was committed, even if the log had no occasion to say so.
        hard_state.commit = hard_state.commit.clamp(state.applied_index, last);
        let durable = (hard_state.term, hard_state.vote);
        let base = (state.applied_index, state.applied_term);
        let tail = Tail::new(hard_state, state.members.clone(), base, entries);
        let config = raft::Config {
            id,
            applied: state.applied_index,
            election_tick: 10,
            heartbeat_tick: 1,
            check_quorum: true,
            pre_vote: true,
            max_size_per_msg: 1 << 20,
            max_committed_size_per_ready: 16 << 20,
            ..Default::default()
        };
        let raft = RawNode::new(&config, tail, &logger::logger()).map_err(|error| raft_error("open", &error))?;
        Ok(Core {
            raft,
            state,
            lessor: Lessor::default(),
            now: 0,
            next_raft_tick: 0,
            durable,
            answers: Vec::new(),
            leader: false,
        })
    }

    /// The only voter need not wait for an election timeout.
    pub fn campaign_if_alone(&mut self) -> Result<(), Error> {
        if self.is_alone() && self.raft.raft.state != StateRole::Leader {
            self.raft.campaign().map_err(|error| raft_error("campaign", &error))?;
        }
        Ok(())
    }

    pub fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    /// Whether this member is the only voter: then what it has applied is the newest there is.
    pub fn is_alone(&self) -> bool {
        self.state.members.voters == [self.raft.raft.id] && self.state.members.voters_outgoing.is_empty()
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Proposes encoded commands, in order; none of them when there is no leader to take them.
    pub fn propose(&mut self, commands: impl IntoIterator<Item = bytes::Bytes>) -> Result<(), Error> {
        let entry = |data| Entry { data, ..Default::default() };
        let entries: Vec<Entry> = commands.into_iter().map(entry).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let mut message = Message { from: self.raft.raft.id, entries: entries.into(), ..Default::default() };
        message.set_msg_type(MessageType::MsgPropose);
        self.raft.raft.step(message).map_err(|_| Error::NoLeader)
    }

    /// A message from another member. What raft refuses is dropped, as the network might have done.
    pub fn receive(&mut self, message: Message) {
        if let Err(error) = self.raft.step(message) {
            tracing::debug!(%error, "raft message dropped");
        }
    }

    /// Takes the time and proposes what leases demand.
    pub fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        if !self.is_alone() && self.now >= self.next_raft_tick {
            // Missed ticks are not made up for: a stalled member must not count its stall as the others' silence.
            self.next_raft_tick = self.now + RAFT_TICK;
            self.raft.tick();
        }
        let due = self.lessor.due(self.now);
        for id in due.expired {
            if self.propose([command::encode(0, &Command::LeaseRevoke { id })]).is_err() {
                self.lessor.retry(id, self.now + REVOKE_AGAIN);
            }
        }
        if !due.checkpoints.is_empty() {
            self.checkpoint(due.checkpoints);
        }
    }

    fn checkpoint(&mut self, remaining: Vec<(i64, i64)>) {
        if self.propose([command::encode(0, &Command::LeaseCheckpoint { remaining })]).is_err() {
            tracing::debug!("lease checkpoint dropped: no leader");
        }
    }

    /// When [`Core::tick`] next has something to do, in milliseconds.
    pub fn next_tick(&self) -> Option<u64> {
        let raft = (!self.is_alone()).then_some(self.next_raft_tick);
        self.lessor.next().into_iter().chain(raft).min()
    }

    /// Renews a lease and returns its time to live in seconds.
    pub fn keep_alive(&mut self, id: i64) -> Result<i64, Error> {
        if !self.is_leader() {
            return Err(Error::NoLeader);
        }
        let (ttl, checkpointed) = self.lessor.keep_alive(id, self.now).ok_or(Error::LeaseNotFound)?;
        if checkpointed {
            self.checkpoint(vec![(id, 0)]);
        }
        Ok(ttl)
    }

    /// Seconds left of a lease.
    pub fn lease_left(&self, id: i64) -> Option<i64> {
        self.lessor.left(id, self.now)
    }

    /// The next piece of work, after applying whatever is committed and durable.
    pub fn take_work(&mut self) -> Result<Option<Work>, Error> {
        if !self.raft.has_ready() {
            return Ok(None);
        }
        let mut ready = self.raft.ready();
        let hard_state = ready.hs().cloned();
        if let Some(hard_state) = &hard_state {
            self.raft.mut_store().set_hard_state(hard_state.clone());
        }
        // A moved commit index alone is not worth a write: what was committed is found again.
        let durable = |state: &HardState| (state.term, state.vote);
        let hard_state = hard_state.filter(|state| durable(state) != self.durable);
        if let Some(hard_state) = &hard_state {
            self.durable = durable(hard_state);
        }
        let entries = ready.take_entries();
        self.raft.mut_store().append(&entries);
        let committed = ready.take_committed_entries();
        let (messages, messages_after) = (ready.take_messages(), ready.take_persisted_messages());
        let number = ready.number();
        self.raft.advance_append_async(ready);
        self.apply_all(committed)?;
        self.follow_role();
        Ok(Some(Work { number, hard_state, entries, messages, messages_after }))
    }

    /// Everything up to this work's number is on this member's disk.
    pub fn persisted(&mut self, number: u64) {
        self.raft.on_persist_ready(number);
    }

    /// Answers to requests that were decided since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// One bounded step of removing compacted history. Returns whether more is left.
    pub fn purge_step(&mut self) -> bool {
        if self.state.mvcc.needs_purge() {
            self.state.mvcc.purge(PURGE_STEP);
        }
        self.state.mvcc.needs_purge()
    }

    fn apply_all(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            self.apply(entry)?;
            self.state.applied_index = index;
            self.state.applied_term = term;
        }
        self.raft.advance_apply_to(last);
        let keep = if self.is_alone() { 0 } else { KEEP_FOR_FOLLOWERS };
        self.raft.mut_store().forget(last.saturating_sub(keep));
        Ok(())
    }

    fn apply(&mut self, entry: Entry) -> Result<(), Error> {
        match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => Ok(()),
            EntryType::EntryNormal => {
                let (request, command) = command::decode(entry.data)?;
                self.apply_command(request, command);
                Ok(())
            }
            EntryType::EntryConfChange => {
                let change: ConfChange = decode_message(&entry.data)?;
                let members = self.raft.apply_conf_change(&change);
                self.set_members(members)
            }
            EntryType::EntryConfChangeV2 => {
                let change: ConfChangeV2 = decode_message(&entry.data)?;
                let members = self.raft.apply_conf_change(&change);
                self.set_members(members)
            }
        }
    }

    fn apply_command(&mut self, request: u64, command: Command) {
        let lease = match &command {
            Command::LeaseGrant { id, ttl } => Some((*id, Some(*ttl))),
            Command::LeaseRevoke { id } => Some((*id, None)),
            _ => None,
        };
        let result = self.state.apply(command);
        match lease {
            Some((id, Some(ttl))) if result.is_ok() && self.leader => self.lessor.granted(id, ttl, self.now),
            Some((id, None)) => self.lessor.revoked(id),
            _ => {}
        }
        if request != 0 {
            self.answers.push((request, result));
        }
    }

    fn set_members(&mut self, members: raft::Result<ConfState>) -> Result<(), Error> {
        let members = members.map_err(|error| raft_error("change members", &error))?;
        self.raft.mut_store().set_members(members.clone());
        self.state.members = members;
        Ok(())
    }

    fn follow_role(&mut self) {
        let leader = self.is_leader();
        if leader && !self.leader {
            self.lessor.promote(&self.state, self.now);
        } else if !leader && self.leader {
            self.lessor.demote();
        }
        self.leader = leader;
    }
}

fn decode_message<M: protobuf::Message>(data: &[u8]) -> Result<M, Error> {
    M::parse_from_bytes(data).map_err(|error| Error::Corrupt(format!("log entry: change of members: {error}")))
}

fn raft_error(operation: &str, error: &raft::Error) -> Error {
    Error::Corrupt(format!("raft {operation}: {error}"))
}
