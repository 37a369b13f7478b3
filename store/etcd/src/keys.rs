//! Keys with their values between the store's types and the wire's.

use bytes::Bytes;

use crate::proto;

impl From<store::KeyValue> for proto::KeyValue {
    fn from(kv: store::KeyValue) -> Self {
        let store::KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        proto::KeyValue { key, value, create_revision, mod_revision, version, lease }
    }
}

impl From<proto::KeyValue> for store::KeyValue {
    fn from(kv: proto::KeyValue) -> Self {
        let proto::KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        store::KeyValue { key, value, create_revision, mod_revision, version, lease }
    }
}

/// A deletion has only its key and revision.
pub fn deleted(key: Bytes, mod_revision: i64) -> proto::KeyValue {
    proto::KeyValue { key, mod_revision, ..Default::default() }
}

/// A header that says nothing.
pub const NO_HEADER: proto::ResponseHeader =
    proto::ResponseHeader { cluster_id: 0, member_id: 0, revision: 0, raft_term: 0 };
