//! The core and its log on a simulated disk and clock, from a seed: random requests, snapshots, full and failing disks,
//! power cuts at any operation. Every state that comes back is compared with a model that keeps everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::ConfState;

use crate::command::{self, Command};
use crate::core::apply::Applied;
use crate::core::state::State;
use crate::disk::Disk;
use crate::disk::sim::{Random, SimDisk};
use crate::engine::{Engine, Input, Output};
use crate::kv::{Compare, CompareResult, CompareTarget, Error, Op, PutRequest, TxnRequest};
use crate::snapshot;
use crate::wal::recover::Opening;
use crate::wal::{Identity, Options, segment};

mod members;

const SNAPSHOTS: &str = "/snapshots";

/// What the store should hold: one per revision.
type Contents = BTreeMap<String, (String, i64)>;

struct Simulation {
    random: Random,
    disk: SimDisk,
    engine: Option<Engine>,
    now: u64,
    next_id: u64,
    /// By revision; the first two are empty (revisions 0 and 1).
    model: Vec<Contents>,
    /// Revision that was acknowledged.
    acknowledged: i64,
    /// What each request under way would make of the model.
    expected: BTreeMap<u64, Expected>,
    crashes: u32,
    /// What the keeper has done and not yet said.
    ready: Vec<(u64, Input)>,
}

struct Expected {
    succeeded: bool,
    revision: i64,
}

fn open(disk: &SimDisk, now: u64) -> Result<Engine, Error> {
    let snapshots = snapshot::prepare(disk, Path::new(SNAPSHOTS))?;
    let state = snapshot::newest(disk, &snapshots)?.unwrap_or_default();
    let opening = Opening {
        disk: Arc::new(disk.clone()),
        dir: Path::new("/log"),
        options: Options { segment_bytes: 96 << 10 },
        seed: now + 1,
        identity: Identity { cluster: 1, member: 1, members: ConfState::from(([1], [])) },
        after: state.applied_index,
    };
    Engine::open(opening, state, now)
}

fn contents(state: &State) -> Contents {
    let all = crate::keys::KeyRange::From(Bytes::new());
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    state
        .mvcc
        .live(&all)
        .map(|change| (text(&change.kv.key), (text(&change.kv.value), change.kv.mod_revision)))
        .collect()
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::default();
        let engine = Some(open(&disk, 0).unwrap());
        Simulation {
            random: Random::new(seed),
            disk,
            engine,
            now: 0,
            next_id: 1,
            model: vec![Contents::new(), Contents::new()],
            acknowledged: 1,
            expected: BTreeMap::new(),
            crashes: 0,
            ready: Vec::new(),
        }
    }

    fn revision(&self) -> i64 {
        self.model.len() as i64 - 1
    }

    /// A random guarded write, and what the model makes of it.
    fn request(&mut self) -> (u64, Input) {
        let id = self.next_id;
        self.next_id += 1;
        let mut contents = self.model.last().unwrap().clone();
        let key = format!("k{}", self.random.below(8));
        let current = contents.get(&key).map_or(0, |(_, revision)| *revision);
        let guess = if self.random.below(3) == 0 { self.random.below(20) as i64 } else { current };
        let succeeded = guess == current;
        let size = if self.random.below(10) == 0 { 20_000 } else { 10 };
        let value = format!("{id:0size$}");
        let deletes = self.random.below(4) == 0;
        let op = if deletes {
            Op::Delete { start: key.clone().into(), end: Bytes::new(), prev_kv: false }
        } else {
            Op::Put(PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() })
        };
        if succeeded && (!deletes || current != 0) {
            let revision = self.revision() + 1;
            if deletes {
                contents.remove(&key)
            } else {
                contents.insert(key.clone(), (value, revision))
            };
            self.model.push(contents);
        }
        self.expected.insert(id, Expected { succeeded, revision: self.revision() });
        let compare = Compare {
            key: key.into(),
            end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(guess),
        };
        let txn = TxnRequest { compare: vec![compare], success: vec![op], failure: vec![] };
        (id, Input::Propose(command::encode(id, &Command::Txn(txn))))
    }

    fn step(&mut self) {
        self.now += self.random.below(50);
        match self.random.below(40) {
            0 => self.disk.cut_power_after(self.random.below(12)),
            1 => self.disk.set_full(true),
            2..=4 => self.disk.set_full(false),
            5 => self.disk.set_fail_sync(true),
            6 => self.take_snapshot(),
            7..=9 => self.prepare_next(),
            _ => {}
        }
        let revision = self.model.len();
        let inputs: Vec<_> = (0..self.random.below(5)).map(|_| self.request()).collect();
        let Some(engine) = &mut self.engine else { return };
        let turn = engine.turn(self.now, inputs);
        if let Some(state) = &turn.state {
            assert!(state.mvcc.revision() >= self.acknowledged);
        }
        let refused = turn.replies.iter().any(|(_, result)| matches!(result, Err(Error::NoSpace)));
        for (id, result) in turn.replies {
            let expected = self.expected.remove(&id).expect("one answer for each request");
            match result {
                Ok(Output::Applied(Applied::Txn(response))) => {
                    assert_eq!((response.succeeded, response.revision), (expected.succeeded, expected.revision));
                    self.acknowledged = self.acknowledged.max(response.revision);
                }
                Ok(other) => panic!("{other:?}"),
                Err(Error::NoSpace | Error::Io { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        if refused {
            // Nothing of a refused group is in the log, and a group is refused as a whole.
            self.model.truncate(revision);
        }
        if let Some(error) = self.engine.as_ref().unwrap().failed() {
            let Error::Io { source, .. } = error else { panic!("{error}") };
            assert!(["no power", "sync failed"].contains(&source.to_string().as_str()), "{error}");
        }
        if self.engine.as_ref().unwrap().failed().is_some() || self.random.below(60) == 0 {
            self.crash();
        }
    }

    fn take_snapshot(&mut self) {
        let state = self.engine.as_ref().unwrap().state().clone();
        if let Ok(saved) = snapshot::save(&self.disk, Path::new(SNAPSHOTS), &state) {
            let turn = self
                .engine
                .as_mut()
                .unwrap()
                .turn(self.now, vec![(0, Input::Saved { released: Some(saved.released) })]);
            self.settle_old(turn.replies);
        }
    }

    /// As the keeper does, late and sometimes twice.
    fn prepare_next(&mut self) {
        let engine = self.engine.as_mut().unwrap();
        if let Some((_, path, bytes)) = engine.log().wants_next()
            && segment::prepare(&self.disk, &path, bytes).is_ok()
        {
            self.ready.push((0, Input::NextIsPrepared(path)));
        }
        if self.random.below(2) == 0 {
            let ready = std::mem::take(&mut self.ready);
            let turn = engine.turn(self.now, ready);
            self.settle_old(turn.replies);
        }
    }

    /// Answers to requests that waited for the disk.
    fn settle_old(&mut self, replies: Vec<crate::engine::Reply>) {
        for (id, result) in replies.into_iter().filter(|(id, _)| *id != 0) {
            let expected = self.expected.remove(&id).expect("one answer for each request");
            if let Ok(Output::Applied(Applied::Txn(response))) = result {
                assert_eq!((response.succeeded, response.revision), (expected.succeeded, expected.revision));
                self.acknowledged = self.acknowledged.max(response.revision);
            }
        }
    }

    /// The power goes and comes back; what is found must be a prefix of what was asked that has all acknowledged.
    fn crash(&mut self) {
        self.crashes += 1;
        self.engine = None;
        self.expected.clear();
        self.ready.clear();
        self.disk.power_cycle(&mut self.random);
        self.disk.set_fail_sync(false);
        self.disk.set_full(false);
        let engine = open(&self.disk, self.now).unwrap();
        let state = engine.state();
        let revision = state.mvcc.revision();
        assert!(revision >= self.acknowledged, "acknowledged {} is lost: {revision}", self.acknowledged);
        assert!(revision <= self.revision(), "revision {revision} was never written");
        assert_eq!(contents(state), self.model[revision as usize], "at revision {revision}");
        self.model.truncate(revision as usize + 1);
        self.acknowledged = revision;
        self.engine = Some(engine);
    }
}

#[test]
fn acknowledged_writes_survive_whatever_happens() {
    let seeds = std::env::var("STORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(30);
    let mut crashes = 0;
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed);
            (0..250).for_each(|_| simulation.step());
            simulation.crash();
            simulation.crashes
        });
        crashes += run.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(crashes as u64 > seeds, "the simulation crashes too little: {crashes}");
}

#[test]
fn a_failed_sync_is_final() {
    let mut simulation = Simulation::new(1);
    simulation.disk.set_fail_sync(true);
    let request = simulation.request();
    let engine = simulation.engine.as_mut().unwrap();
    let turn = engine.turn(1, vec![request]);
    assert!(turn.replies.is_empty(), "neither acknowledged nor undone");
    assert!(engine.failed().unwrap().to_string().starts_with("store sync the log"));
    simulation.disk.set_fail_sync(false);
    let operations = simulation.disk.operations();
    let request = simulation.request();
    let turn = simulation.engine.as_mut().unwrap().turn(2, vec![request]);
    assert!(matches!(&turn.replies[..], [(_, Err(Error::Io { .. }))]));
    assert_eq!(simulation.disk.operations(), operations, "the disk is not touched again");
    assert_eq!(simulation.engine.as_ref().unwrap().state().mvcc.revision(), 1);
}

#[test]
fn a_full_disk_refuses_writes_and_reads_go_on() {
    let mut simulation = Simulation::new(2);
    let large = |id: u64| {
        let op = Op::Put(PutRequest { key: "k".into(), value: vec![0; 5000].into(), ..Default::default() });
        (id, Input::Propose(command::encode(id, &Command::Txn(TxnRequest { success: vec![op], ..Default::default() }))))
    };
    let engine = simulation.engine.as_mut().unwrap();
    simulation.disk.set_full(true);
    let mut written = 1;
    let refused = loop {
        match engine.turn(written, vec![large(written)]).replies.remove(0).1 {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace) && written > 5);
    assert!(engine.failed().is_none());
    assert_eq!(engine.state().mvcc.revision(), written as i64, "what was acknowledged is served");
    simulation.disk.set_full(false);
    assert!(engine.turn(written, vec![large(written)]).replies[0].1.is_ok());
    assert_eq!(simulation.disk.list(Path::new("/log")).unwrap().len(), 2);
}

/// What the store itself must log goes on when requests are refused: an expired lease still ends.
#[test]
fn leases_end_on_a_full_disk() {
    let mut simulation = Simulation::new(3);
    let engine = simulation.engine.as_mut().unwrap();
    engine.turn(0, vec![(1, Input::Propose(command::encode(1, &Command::LeaseGrant { id: 5, ttl: 2 })))]);
    simulation.disk.set_full(true);
    let put = |size: usize, lease| {
        let op = Op::Put(PutRequest { key: "k".into(), value: vec![0; size].into(), lease, ..Default::default() });
        Input::Propose(command::encode(1, &Command::Txn(TxnRequest { success: vec![op], ..Default::default() })))
    };
    assert!(engine.turn(1, vec![(1, put(10, 5))]).replies[0].1.is_ok());
    for size in [4000, 400, 40] {
        while engine.turn(1, vec![(1, put(size, 5))]).replies[0].1.is_ok() {}
    }
    assert_eq!(engine.turn(1, vec![]).wake, Some(2_000));
    assert_eq!(engine.turn(1_999, vec![]).wake, Some(2_000), "not early");
    engine.turn(2_000, vec![]);
    assert!(engine.state().leases.is_empty() && engine.state().mvcc.get(&"k".into()).is_none());
    assert!(matches!(engine.turn(2_001, vec![(1, put(40, 0))]).replies[0].1, Err(Error::NoSpace)));
}
