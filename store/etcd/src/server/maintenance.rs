//! `etcdserverpb.Maintenance`.

use std::sync::Arc;

use store::Error;
use store::core::state::State;
use tonic::Status;

use super::{Server, hash};
use crate::SPOKEN_VERSION;
use crate::error::status;
use crate::proto::{self, AlarmAction, AlarmType};

impl Server {
    pub async fn status(&self, _: proto::StatusRequest) -> Result<proto::StatusResponse, Status> {
        let status_now = self.store.status();
        let db_size = self.store.disk_bytes().await.map_err(status)?;
        Ok(proto::StatusResponse {
            header: Some(self.header()),
            version: SPOKEN_VERSION.to_owned(),
            db_size: db_size as i64,
            leader: self.store.ids().member,
            raft_index: status_now.applied_index,
            raft_term: status_now.applied_term,
            raft_applied_index: status_now.applied_index,
            errors: self.alarms().iter().map(|alarm| self.describe(*alarm)).collect(),
            db_size_in_use: status_now.bytes,
            is_learner: false,
        })
    }

    /// What is wrong. An alarm goes with its cause: nobody need disarm it, and nobody can.
    fn alarms(&self) -> Vec<AlarmType> {
        let failed = self.store.failure().map(|error| match error {
            Error::NoSpace => AlarmType::NoSpace,
            _ => AlarmType::Corrupt,
        });
        self.store.is_full().then_some(AlarmType::NoSpace).into_iter().chain(failed).collect()
    }

    fn describe(&self, alarm: AlarmType) -> String {
        let name = if alarm == AlarmType::NoSpace { "NOSPACE" } else { "CORRUPT" };
        let cause = self.store.failure().map(|error| format!(" ({error})")).unwrap_or_default();
        format!("memberID:{} alarm:{name} {cause}", self.store.ids().member)
    }

    pub async fn alarm(&self, request: proto::AlarmRequest) -> Result<proto::AlarmResponse, Status> {
        if AlarmAction::try_from(request.action) != Ok(AlarmAction::Get) {
            return Err(Status::unimplemented("alarms come and go with their causes; none can be set or disarmed"));
        }
        let wanted = |alarm: &AlarmType| request.alarm == AlarmType::None as i32 || request.alarm == *alarm as i32;
        let member_id = self.store.ids().member;
        let alarms = self.alarms().into_iter().filter(wanted);
        let alarms = alarms.map(|alarm| proto::AlarmMember { member_id, alarm: alarm as i32 }).collect();
        Ok(proto::AlarmResponse { header: Some(self.header()), alarms })
    }

    /// Space is given back by a snapshot, which makes the log before it needless. Nothing waits meanwhile.
    pub async fn defragment(&self, _: proto::DefragmentRequest) -> Result<proto::DefragmentResponse, Status> {
        self.store.save().await.map_err(status)?;
        Ok(proto::DefragmentResponse { header: Some(self.header()) })
    }

    pub async fn hash(&self, _: proto::HashRequest) -> Result<proto::HashResponse, Status> {
        let state = self.store.newest().map_err(status)?;
        let hash = take_hash(&state, 0).await?;
        Ok(proto::HashResponse { header: Some(self.header()), hash })
    }

    pub async fn hash_kv(&self, request: proto::HashKvRequest) -> Result<proto::HashKvResponse, Status> {
        let state = self.store.newest().map_err(status)?;
        let hash = take_hash(&state, request.revision).await?;
        let (current, compact_revision) = (state.mvcc.revision(), state.mvcc.compacted());
        let hash_revision = if request.revision > 0 { request.revision } else { current };
        // etcd says -1 where nothing was compacted.
        let compact_revision = if compact_revision == 0 { -1 } else { compact_revision };
        Ok(proto::HashKvResponse { header: Some(self.header_at(current)), hash, compact_revision, hash_revision })
    }
}

/// Off the runtime's threads: it looks at all of history.
async fn take_hash(state: &Arc<State>, revision: i64) -> Result<u32, Status> {
    let state = state.clone();
    let hash = tokio::task::spawn_blocking(move || hash::of(&state.mvcc, revision));
    hash.await.map_err(|_| status(Error::Stopped))?.map_err(status)
}
