//! Three members on one simulated network, which loses, doubles and delays messages, while members lose power: the
//! engine that runs alone today is the one that will run in a cluster.

use std::path::Path;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Message};

use super::contents;
use crate::command::{self, Command};
use crate::core::state::State;
use crate::disk::sim::{Random, SimDisk};
use crate::engine::{Engine, Input};
use crate::kv::{Op, PutRequest, TxnRequest};
use crate::wal::recover::Opening;
use crate::wal::{Identity, Options};

struct Member {
    disk: SimDisk,
    engine: Option<Engine>,
}

struct Cluster {
    random: Random,
    now: u64,
    members: Vec<Member>,
    network: Vec<Message>,
    /// Value of the key with this number, of writes that were acknowledged.
    acknowledged: Vec<u64>,
    next: u64,
    /// Nothing is lost any more.
    calm: bool,
}

fn open(id: u64, disk: &SimDisk, now: u64) -> Engine {
    let opening = Opening {
        disk: Arc::new(disk.clone()),
        dir: Path::new("/log"),
        options: Options { segment_bytes: 96 << 10 },
        seed: id << 32 | now,
        identity: Identity { cluster: 1, member: id, members: ConfState::from(([1, 2, 3], [])) },
        after: 0,
    };
    Engine::open(opening, State::default(), now).unwrap()
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let member = |id| {
            let disk = SimDisk::default();
            let engine = Some(open(id, &disk, 0));
            Member { disk, engine }
        };
        let members = (1..=3).map(member).collect();
        let random = Random::new(seed);
        Cluster { random, now: 0, members, network: Vec::new(), acknowledged: Vec::new(), next: 1, calm: false }
    }

    fn step(&mut self) {
        self.now += 20;
        for at in 0..self.members.len() {
            let id = at as u64 + 1;
            let (mine, rest) = std::mem::take(&mut self.network).into_iter().partition(|message| message.to == id);
            self.network = rest;
            let mut inputs = self.delivered(mine);
            let Some(engine) = &self.members[at].engine else {
                if self.calm || self.random.below(20) == 0 {
                    self.members[at].disk.power_cycle(&mut self.random);
                    self.members[at].engine = Some(open(id, &self.members[at].disk, self.now));
                }
                continue;
            };
            if engine.is_leader() && self.random.below(3) == 0 {
                inputs.push(self.write());
            }
            self.turn(at, inputs);
        }
    }

    fn delivered(&mut self, messages: Vec<Message>) -> Vec<(u64, Input)> {
        let mut inputs = Vec::new();
        for message in messages {
            match if self.calm { 9 } else { self.random.below(20) } {
                0 | 1 => {}
                2 => self.network.push(message),
                3 => {
                    inputs.push((0, Input::Receive(Box::new(message.clone()))));
                    self.network.push(message);
                }
                _ => inputs.push((0, Input::Receive(Box::new(message)))),
            }
        }
        inputs
    }

    fn write(&mut self) -> (u64, Input) {
        let id = self.next;
        self.next += 1;
        let put =
            Op::Put(PutRequest { key: format!("{id}").into(), value: format!("{id}").into(), ..Default::default() });
        let txn = Command::Txn(TxnRequest { success: vec![put], ..Default::default() });
        (id, Input::Propose(command::encode(id, &txn)))
    }

    fn turn(&mut self, at: usize, inputs: Vec<(u64, Input)>) {
        let member = &mut self.members[at];
        if !self.calm && self.random.below(150) == 0 {
            member.disk.cut_power_after(self.random.below(4));
        }
        let Some(engine) = &mut member.engine else { return };
        let turn = engine.turn(self.now, inputs);
        self.acknowledged
            .extend(turn.replies.iter().filter(|(id, result)| *id > 0 && result.is_ok()).map(|(id, _)| *id));
        self.network.extend(turn.messages);
        if engine.failed().is_some() {
            member.engine = None;
        }
    }
}

#[test]
fn three_members_agree_and_keep_what_was_acknowledged() {
    for seed in 0..4 {
        let mut cluster = Cluster::new(seed);
        (0..2500).for_each(|_| cluster.step());
        cluster.calm = true;
        (0..400).for_each(|_| cluster.step());
        let before = cluster.acknowledged.len();
        (0..100).for_each(|_| cluster.step());
        assert!(cluster.acknowledged.len() > before, "seed {seed}: writes go on after it is calm");
        // A last write and its heartbeats reach everyone.
        let next = std::mem::replace(&mut cluster.next, u64::MAX / 2);
        (0..100).for_each(|_| cluster.step());
        let state = |member: &Member| contents(member.engine.as_ref().unwrap().state());
        let contents: Vec<_> = cluster.members.iter().map(state).collect();
        for id in cluster.acknowledged.iter().filter(|id| **id < next) {
            for (member, contents) in contents.iter().enumerate() {
                assert!(contents.contains_key(&id.to_string()), "seed {seed}: member {} lost {id}", member + 1);
            }
        }
        assert!(before > 50, "seed {seed}: only {before} writes");
    }
}
