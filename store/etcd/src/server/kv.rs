//! `etcdserverpb.KV`: requests to the store's transactions, and answers back.

use bytes::Bytes;
use store::{Compare, CompareResult, CompareTarget, Error, Kv, Op, OpResponse, TxnRequest};
use tonic::Status;

use super::Server;
use super::range::{self, Shape};
use crate::error::{EMPTY_OPERATION, LEASE_PROVIDED, VALUE_PROVIDED, refuse, status};
use crate::keys::NO_HEADER;
use crate::proto::request_op::Request;
use crate::proto::response_op::Response;
use crate::proto::{self, ResponseHeader, ResponseOp};

impl Server {
    pub async fn range(&self, request: proto::RangeRequest) -> Result<proto::RangeResponse, Status> {
        let (asked, shape) = range::split(request)?;
        let answer = self.store.range(asked).await.map_err(status)?;
        let header = self.header_at(answer.revision);
        Ok(proto::RangeResponse { header: Some(header), ..shape.apply(answer) })
    }

    pub async fn put(&self, request: proto::PutRequest) -> Result<proto::PutResponse, Status> {
        let (revision, answer) = self.one(Op::Put(put(request)?)).await?;
        let OpResponse::Put { prev } = answer else { unreachable!("a put is answered as a put") };
        Ok(proto::PutResponse { header: Some(self.header_at(revision)), prev_kv: prev.map(Into::into) })
    }

    pub async fn delete_range(&self, request: proto::DeleteRangeRequest) -> Result<proto::DeleteRangeResponse, Status> {
        let (revision, answer) = self.one(delete(request)).await?;
        let OpResponse::Delete { deleted, prev } = answer else { unreachable!("a deletion is answered as one") };
        let prev_kvs = prev.into_iter().map(Into::into).collect();
        Ok(proto::DeleteRangeResponse { header: Some(self.header_at(revision)), deleted, prev_kvs })
    }

    /// One operation as a transaction of its own. Returns the store's revision with its answer.
    async fn one(&self, op: Op) -> Result<(i64, OpResponse), Status> {
        let txn = TxnRequest { success: vec![op], ..Default::default() };
        let answer = self.store.txn(txn).await.map_err(status)?;
        let first = answer.responses.into_iter().next();
        Ok((answer.revision, first.ok_or_else(|| Status::internal("an operation was not answered"))?))
    }

    pub async fn txn(&self, request: proto::TxnRequest) -> Result<proto::TxnResponse, Status> {
        let (asked, shapes) = txn(request)?;
        let answer = self.store.txn(asked).await.map_err(status)?;
        let header = self.header_at(answer.revision);
        Ok(proto::TxnResponse { header: Some(header), ..shapes.answer(answer) })
    }

    pub async fn compact(&self, request: proto::CompactionRequest) -> Result<proto::CompactionResponse, Status> {
        self.store.compact(request.revision).await.map_err(status)?;
        if request.physical {
            let mut states = self.store.states();
            let removed = states.wait_for(|state| !state.mvcc.needs_purge()).await;
            removed.map_err(|_| status(Error::Stopped))?;
        }
        Ok(proto::CompactionResponse { header: Some(self.header()) })
    }
}

fn put(request: proto::PutRequest) -> Result<store::PutRequest, Status> {
    let proto::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    if key.is_empty() {
        return Err(status(Error::EmptyKey));
    }
    if ignore_value && !value.is_empty() {
        return Err(refuse(VALUE_PROVIDED));
    }
    if ignore_lease && lease != 0 {
        return Err(refuse(LEASE_PROVIDED));
    }
    Ok(store::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn delete(request: proto::DeleteRangeRequest) -> Op {
    Op::Delete { start: request.key, end: request.range_end, prev_kv: request.prev_kv }
}

/// What each operation's answer must be made of, on both branches.
struct Shapes {
    success: Vec<OpShape>,
    failure: Vec<OpShape>,
}

enum OpShape {
    Range(Shape),
    Write,
    Txn(Shapes),
}

fn txn(request: proto::TxnRequest) -> Result<(TxnRequest, Shapes), Status> {
    let compare = request.compare.into_iter().map(comparison).collect::<Result<_, _>>()?;
    let (success, success_shapes) = operations(request.success)?;
    let (failure, failure_shapes) = operations(request.failure)?;
    let shapes = Shapes { success: success_shapes, failure: failure_shapes };
    Ok((TxnRequest { compare, success, failure }, shapes))
}

fn operations(requests: Vec<proto::RequestOp>) -> Result<(Vec<Op>, Vec<OpShape>), Status> {
    requests.into_iter().map(operation).collect::<Result<Vec<_>, _>>().map(|pairs| pairs.into_iter().unzip())
}

fn operation(request: proto::RequestOp) -> Result<(Op, OpShape), Status> {
    Ok(match request.request.ok_or_else(|| refuse(EMPTY_OPERATION))? {
        Request::Range(request) => {
            let (asked, shape) = range::split(request)?;
            (Op::Range(asked), OpShape::Range(shape))
        }
        Request::Put(request) => (Op::Put(put(request)?), OpShape::Write),
        Request::DeleteRange(request) => (delete(request), OpShape::Write),
        Request::Txn(request) => {
            let (asked, shapes) = txn(request)?;
            (Op::Txn(asked), OpShape::Txn(shapes))
        }
    })
}

/// A comparison without an operand compares with zero, as protobuf's defaults have it.
fn comparison(compare: proto::Compare) -> Result<Compare, Status> {
    use proto::compare::Operand;
    let unknown = |what: &str| Status::invalid_argument(format!("etcdserver: unknown comparison {what}"));
    let result = match proto::CompareResult::try_from(compare.result).map_err(|_| unknown("result"))? {
        proto::CompareResult::Equal => CompareResult::Equal,
        proto::CompareResult::Greater => CompareResult::Greater,
        proto::CompareResult::Less => CompareResult::Less,
        proto::CompareResult::NotEqual => CompareResult::NotEqual,
    };
    let target = proto::CompareTarget::try_from(compare.target).map_err(|_| unknown("target"))?;
    let target = match (target, compare.operand) {
        (proto::CompareTarget::Version, Some(Operand::Version(version))) => CompareTarget::Version(version),
        (proto::CompareTarget::Version, _) => CompareTarget::Version(0),
        (proto::CompareTarget::Create, Some(Operand::CreateRevision(created))) => {
            CompareTarget::CreateRevision(created)
        }
        (proto::CompareTarget::Create, _) => CompareTarget::CreateRevision(0),
        (proto::CompareTarget::Mod, Some(Operand::ModRevision(modified))) => CompareTarget::ModRevision(modified),
        (proto::CompareTarget::Mod, _) => CompareTarget::ModRevision(0),
        (proto::CompareTarget::Value, Some(Operand::Value(value))) => CompareTarget::Value(value),
        (proto::CompareTarget::Value, _) => CompareTarget::Value(Bytes::new()),
        (proto::CompareTarget::Lease, Some(Operand::Lease(lease))) => CompareTarget::Lease(lease),
        (proto::CompareTarget::Lease, _) => CompareTarget::Lease(0),
    };
    Ok(Compare { key: compare.key, end: compare.range_end, result, target })
}

impl Shapes {
    /// The answer without the outermost header, which only the server can fill.
    fn answer(&self, answer: store::TxnResponse) -> proto::TxnResponse {
        let store::TxnResponse { revision, succeeded, responses } = answer;
        let shapes = if succeeded { &self.success } else { &self.failure };
        let responses =
            shapes.iter().zip(responses).map(|(shape, response)| shape.answer(response, revision)).collect();
        proto::TxnResponse { header: None, succeeded, responses }
    }
}

impl OpShape {
    /// Inside a transaction headers have a revision and nothing else, as etcd's.
    fn answer(&self, response: OpResponse, revision: i64) -> ResponseOp {
        let header = Some(ResponseHeader { revision, ..NO_HEADER });
        let response = match (self, response) {
            (OpShape::Range(shape), OpResponse::Range(answer)) => {
                let header = Some(ResponseHeader { revision: answer.revision, ..NO_HEADER });
                Response::Range(proto::RangeResponse { header, ..shape.apply(answer) })
            }
            (OpShape::Txn(shapes), OpResponse::Txn(answer)) => {
                Response::Txn(proto::TxnResponse { header: Some(NO_HEADER), ..shapes.answer(answer) })
            }
            (_, OpResponse::Put { prev }) => {
                Response::Put(proto::PutResponse { header, prev_kv: prev.map(Into::into) })
            }
            (_, OpResponse::Delete { deleted, prev }) => {
                let prev_kvs = prev.into_iter().map(Into::into).collect();
                Response::DeleteRange(proto::DeleteRangeResponse { header, deleted, prev_kvs })
            }
            _ => unreachable!("each operation is answered in its own kind"),
        };
        ResponseOp { response: Some(response) }
    }
}
