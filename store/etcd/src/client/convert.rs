//! The store's requests as etcd's, and etcd's answers as the store's.

use store::{
    Compare, CompareResult, CompareTarget, Error, Op, OpResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use crate::proto::request_op::Request;
use crate::proto::response_op::Response;
use crate::proto::{self, RequestOp, ResponseHeader, ResponseOp};

impl From<RangeRequest> for proto::RangeRequest {
    fn from(request: RangeRequest) -> Self {
        let RangeRequest { start, end, limit, revision, keys_only, count_only } = request;
        proto::RangeRequest { key: start, range_end: end, limit, revision, keys_only, count_only, ..Default::default() }
    }
}

impl From<TxnRequest> for proto::TxnRequest {
    fn from(request: TxnRequest) -> Self {
        proto::TxnRequest {
            compare: request.compare.into_iter().map(Into::into).collect(),
            success: request.success.into_iter().map(Into::into).collect(),
            failure: request.failure.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Op> for RequestOp {
    fn from(op: Op) -> Self {
        let request = match op {
            Op::Range(request) => Request::Range(request.into()),
            Op::Put(put) => {
                let store::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = put;
                Request::Put(proto::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
            }
            Op::Delete { start, end, prev_kv } => {
                Request::DeleteRange(proto::DeleteRangeRequest { key: start, range_end: end, prev_kv })
            }
            Op::Txn(request) => Request::Txn(request.into()),
        };
        RequestOp { request: Some(request) }
    }
}

impl From<Compare> for proto::Compare {
    fn from(compare: Compare) -> Self {
        use proto::compare::Operand;
        let result = match compare.result {
            CompareResult::Equal => proto::CompareResult::Equal,
            CompareResult::NotEqual => proto::CompareResult::NotEqual,
            CompareResult::Greater => proto::CompareResult::Greater,
            CompareResult::Less => proto::CompareResult::Less,
        };
        let (target, operand) = match compare.target {
            CompareTarget::Version(version) => (proto::CompareTarget::Version, Operand::Version(version)),
            CompareTarget::CreateRevision(created) => (proto::CompareTarget::Create, Operand::CreateRevision(created)),
            CompareTarget::ModRevision(modified) => (proto::CompareTarget::Mod, Operand::ModRevision(modified)),
            CompareTarget::Value(value) => (proto::CompareTarget::Value, Operand::Value(value)),
            CompareTarget::Lease(lease) => (proto::CompareTarget::Lease, Operand::Lease(lease)),
        };
        proto::Compare {
            result: result as i32,
            target: target as i32,
            key: compare.key,
            operand: Some(operand),
            range_end: compare.end,
        }
    }
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

pub fn range_response(answer: proto::RangeResponse) -> RangeResponse {
    let kvs = answer.kvs.into_iter().map(Into::into).collect();
    RangeResponse { revision: revision(answer.header), kvs, more: answer.more, count: answer.count }
}

pub fn txn_response(answer: proto::TxnResponse) -> Result<TxnResponse, Error> {
    let responses = answer.responses.into_iter().map(op_response).collect::<Result<_, _>>()?;
    Ok(TxnResponse { revision: revision(answer.header), succeeded: answer.succeeded, responses })
}

fn op_response(answer: ResponseOp) -> Result<OpResponse, Error> {
    Ok(match answer.response {
        Some(Response::Range(answer)) => OpResponse::Range(range_response(answer)),
        Some(Response::Put(answer)) => OpResponse::Put { prev: answer.prev_kv.map(Into::into) },
        Some(Response::DeleteRange(answer)) => {
            OpResponse::Delete { deleted: answer.deleted, prev: answer.prev_kvs.into_iter().map(Into::into).collect() }
        }
        Some(Response::Txn(answer)) => OpResponse::Txn(txn_response(answer)?),
        None => {
            let reason = "an operation was not answered".to_owned();
            return Err(Error::Refused { operation: "txn", reason });
        }
    })
}
