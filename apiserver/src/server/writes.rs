//! Whether the store takes writes, as the writes themselves tell: a full or failed disk lets reads go on, and a server
//! that can only be read is not ready.

use store::{Error, TxnRequest, TxnResponse};

use super::Shared;

/// Why the store refused the last write, if it was the store's fault and not the request's.
#[derive(Default)]
pub struct Writes(parking_lot::RwLock<Option<String>>);

impl Writes {
    /// Why writes are refused; `None` while they are taken.
    pub fn refused(&self) -> Option<String> {
        self.0.read().clone()
    }

    fn note(&self, outcome: Result<(), &Error>) {
        match outcome {
            Ok(()) if self.0.read().is_none() => {}
            Ok(()) => {
                *self.0.write() = None;
                tracing::warn!("the store takes writes again");
            }
            Err(error) if is_the_stores(error) => {
                if self.0.write().replace(error.to_string()).is_none() {
                    tracing::error!(%error, "the store refuses writes");
                }
            }
            Err(_) => {}
        }
    }
}

/// Whether an error says how the store is, rather than what was asked of it.
fn is_the_stores(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSpace
            | Error::NoLeader
            | Error::Stopped
            | Error::Unavailable { .. }
            | Error::Io { .. }
            | Error::Corrupt(_)
    )
}

impl Shared {
    /// Commits a transaction that writes.
    pub async fn commit(&self, txn: TxnRequest) -> Result<TxnResponse, Error> {
        let answer = self.kv.txn(txn).await;
        self.writes.note(answer.as_ref().map(drop));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_refuses_is_kept_until_it_takes_a_write() {
        let writes = Writes::default();
        writes.note(Err(&Error::RequestTooLarge));
        assert_eq!(writes.refused(), None, "the request's fault");
        writes.note(Err(&Error::NoSpace));
        writes.note(Err(&Error::RequestTooLarge));
        assert_eq!(writes.refused().as_deref(), Some("etcdserver: mvcc: database space exceeded"));
        writes.note(Ok(()));
        assert_eq!(writes.refused(), None);
    }
}
