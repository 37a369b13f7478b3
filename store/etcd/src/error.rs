//! etcd's errors on the wire: codes and texts, from ours and back.

use store::Error;
use tonic::{Code, Status};

/// Texts that only this layer says.
pub const VALUE_PROVIDED: (Code, &str) = (Code::InvalidArgument, "etcdserver: value is provided");
pub const LEASE_PROVIDED: (Code, &str) = (Code::InvalidArgument, "etcdserver: lease is provided");
pub const INVALID_SORT: (Code, &str) = (Code::InvalidArgument, "etcdserver: invalid sort option");
pub const EMPTY_OPERATION: (Code, &str) = (Code::InvalidArgument, "etcdserver: key not found");

pub fn refuse((code, text): (Code, &str)) -> Status {
    Status::new(code, text)
}

/// The codes that etcd gives its errors. The texts are [`Error`]'s own.
const CODES: [(Error, Code); 12] = [
    (Error::Compacted { compact_revision: 0 }, Code::OutOfRange),
    (Error::FutureRevision, Code::OutOfRange),
    (Error::LeaseNotFound, Code::NotFound),
    (Error::LeaseExists, Code::FailedPrecondition),
    (Error::LeaseTtlTooLarge, Code::OutOfRange),
    (Error::NoSpace, Code::ResourceExhausted),
    (Error::RequestTooLarge, Code::InvalidArgument),
    (Error::DuplicateKey, Code::InvalidArgument),
    (Error::TooManyOps, Code::InvalidArgument),
    (Error::EmptyKey, Code::InvalidArgument),
    (Error::KeyNotFound, Code::InvalidArgument),
    (Error::NoLeader, Code::Unavailable),
];

/// What a client of ours is told.
pub fn status(error: Error) -> Status {
    let same = |known: &Error| std::mem::discriminant(known) == std::mem::discriminant(&error);
    let code = match &error {
        Error::Stopped | Error::Unavailable { .. } => Code::Unavailable,
        Error::Corrupt(_) => Code::DataLoss,
        _ => CODES.iter().find(|(known, _)| same(known)).map_or(Code::Unknown, |(_, code)| *code),
    };
    Status::new(code, error.to_string())
}

/// What an etcd's answer means, asked for `operation`.
pub fn from_status(operation: &'static str, status: &Status) -> Error {
    let text = status.message();
    if let Some((known, _)) = CODES.iter().find(|(known, code)| *code == status.code() && known.to_string() == text) {
        return known.clone();
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
            Error::Unavailable { operation, reason: text.to_owned() }
        }
        // A message too large for etcd's gRPC server never reaches etcd's own check.
        Code::ResourceExhausted if text.contains("message larger than max") => Error::RequestTooLarge,
        _ => Error::Refused { operation, reason: text.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn errors_keep_their_meaning_over_the_wire() {
        for (error, code) in CODES {
            let sent = status(error.clone());
            assert_eq!((sent.code(), sent.message()), (code, &*error.to_string()));
            assert_eq!(format!("{:?}", from_status("ask", &sent)), format!("{error:?}"));
        }
    }

    #[test]
    fn what_may_be_tried_again_is_told_apart() {
        let table = [
            (Code::Unavailable, "etcdserver: request timed out", "Unavailable"),
            (Code::Unavailable, "etcdserver: no leader", "NoLeader"),
            (Code::ResourceExhausted, "grpc: received message larger than max (9 vs. 8)", "RequestTooLarge"),
            (Code::PermissionDenied, "etcdserver: permission denied", "Refused"),
        ];
        for (code, text, expected) in table {
            let error = format!("{:?}", from_status("put", &Status::new(code, text)));
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
