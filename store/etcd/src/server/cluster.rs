//! `etcdserverpb.Cluster`: one member, and no way to change that yet.

use tonic::Status;

use super::Server;
use crate::proto;

impl Server {
    pub async fn member_list(&self, _: proto::MemberListRequest) -> Result<proto::MemberListResponse, Status> {
        let member = proto::Member {
            id: self.store.ids().member,
            name: self.member.name.clone(),
            peer_urls: Vec::new(),
            client_urls: self.member.client_urls.clone(),
            is_learner: false,
        };
        Ok(proto::MemberListResponse { header: Some(self.header()), members: vec![member] })
    }
}
