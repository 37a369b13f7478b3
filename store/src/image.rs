//! How the applied state is encoded for snapshots and for sled: one description of everything but the keys, and one
//! piece per retained change.

use bytes::Bytes;
use raft::eraftpb::ConfState;

use crate::codec::{Malformed, Reader, Writer};
use crate::core::mvcc::{Change, Mvcc, Place};
use crate::core::state::{Lease, State};
use crate::kv::KeyValue;

/// Everything but the changes.
pub fn encode_description(state: &State) -> Vec<u8> {
    let mut writer = Writer::with_capacity(128 + state.leases.len() * 16);
    writer.varint(state.applied_index);
    writer.varint(state.applied_term);
    encode_members(&mut writer, &state.members);
    writer.int(state.mvcc.revision());
    writer.int(state.mvcc.compacted());
    writer.varint(state.leases.len() as u64);
    for (id, lease) in &state.leases {
        writer.int(*id);
        writer.int(lease.ttl);
        writer.int(lease.remaining);
    }
    writer.finish()
}

/// A state without changes; they follow through [`Mvcc::restore`], then [`State::attach_all`].
pub fn decode_description(bytes: Bytes) -> Result<State, Malformed> {
    let mut reader = Reader::new(bytes);
    let (applied_index, applied_term) = (reader.varint()?, reader.varint()?);
    let members = decode_members(&mut reader)?;
    let mvcc = Mvcc::restoring(reader.int()?, reader.int()?);
    let mut state = State { mvcc, applied_index, applied_term, members, ..Default::default() };
    for _ in 0..reader.count()? {
        let id = reader.int()?;
        state.leases.insert(id, Lease { ttl: reader.int()?, remaining: reader.int()? });
    }
    if reader.is_empty() { Ok(state) } else { Err(Malformed("description: bytes after its end")) }
}

pub fn encode_change((revision, sub): Place, change: &Change) -> Vec<u8> {
    let kv = &change.kv;
    let mut writer = Writer::with_capacity(kv.key.len() + kv.value.len() + 40);
    writer.int(revision);
    writer.varint(u64::from(sub));
    writer.u8(u8::from(change.deleted));
    writer.bytes(&kv.key);
    if !change.deleted {
        writer.int(kv.create_revision);
        writer.int(kv.version);
        writer.int(kv.lease);
        writer.bytes(&kv.value);
    }
    writer.finish()
}

/// Key and value are copies: a slice would keep the whole input.
pub fn decode_change(bytes: Bytes) -> Result<(Place, Change), Malformed> {
    let mut reader = Reader::new(bytes);
    let revision = reader.int()?;
    let sub = u32::try_from(reader.varint()?).map_err(|_| Malformed("change: number too large"))?;
    let deleted = reader.u8()? != 0;
    let key = Bytes::copy_from_slice(&reader.bytes()?);
    let mut kv =
        KeyValue { key, value: Bytes::new(), create_revision: 0, mod_revision: revision, version: 0, lease: 0 };
    if !deleted {
        kv.create_revision = reader.int()?;
        kv.version = reader.int()?;
        kv.lease = reader.int()?;
        kv.value = Bytes::copy_from_slice(&reader.bytes()?);
    }
    if reader.is_empty() { Ok(((revision, sub), Change { kv, deleted })) } else { Err(Malformed("change: too long")) }
}

pub fn encode_members(writer: &mut Writer, members: &ConfState) {
    for list in [&members.voters, &members.learners, &members.voters_outgoing, &members.learners_next] {
        writer.varint(list.len() as u64);
        list.iter().for_each(|id| writer.varint(*id));
    }
    writer.u8(u8::from(members.auto_leave));
}

pub fn decode_members(reader: &mut Reader) -> Result<ConfState, Malformed> {
    let mut list = || (0..reader.count()?).map(|_| reader.varint()).collect::<Result<Vec<u64>, Malformed>>();
    let (voters, learners, voters_outgoing, learners_next) = (list()?, list()?, list()?, list()?);
    let auto_leave = reader.u8()? != 0;
    Ok(ConfState { voters, learners, voters_outgoing, learners_next, auto_leave, ..Default::default() })
}
