//! What a range's options ask beyond the store's own: filters by revision, and order.

use std::cmp::Ordering;

use store::RangeRequest;
use tonic::Status;

use crate::error::{INVALID_SORT, refuse};
use crate::proto::{self, KeyValue, SortOrder, SortTarget};

/// How the store's answer becomes the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    limit: i64,
    keys_only: bool,
    /// Least and greatest revisions; 0 is no bound.
    modified: (i64, i64),
    created: (i64, i64),
    order: Option<(SortTarget, bool)>,
}

/// Splits a request into what the store is asked and what is done with its answer.
pub fn split(request: proto::RangeRequest) -> Result<(RangeRequest, Shape), Status> {
    let order = SortOrder::try_from(request.sort_order).map_err(|_| refuse(INVALID_SORT))?;
    let target = SortTarget::try_from(request.sort_target).map_err(|_| refuse(INVALID_SORT))?;
    let modified = (request.min_mod_revision, request.max_mod_revision);
    let created = (request.min_create_revision, request.max_create_revision);
    // etcd takes a target without an order as ascending, among what the limit left.
    let whole = order != SortOrder::None || modified != (0, 0) || created != (0, 0);
    let sorted = match order {
        SortOrder::None | SortOrder::Ascend if target == SortTarget::Key => None,
        SortOrder::None | SortOrder::Ascend => Some((target, false)),
        SortOrder::Descend => Some((target, true)),
    };
    let keys_only = request.keys_only && target != SortTarget::Value;
    let asked = RangeRequest {
        start: request.key,
        end: request.range_end,
        limit: match request.limit {
            limit if whole || limit <= 0 => 0,
            // One more, as etcd: it takes part in an order by another target.
            limit if sorted.is_some() => limit.saturating_add(1),
            limit => limit,
        },
        revision: request.revision,
        keys_only,
        count_only: request.count_only,
    };
    let shape = Shape { limit: request.limit, keys_only: request.keys_only, modified, created, order: sorted };
    Ok((asked, shape))
}

impl Shape {
    /// Keys, and whether there are more.
    pub fn apply(&self, answer: store::RangeResponse) -> proto::RangeResponse {
        let mut kvs: Vec<KeyValue> = answer.kvs.into_iter().filter(|kv| self.admits(kv)).map(KeyValue::from).collect();
        if let Some((target, descending)) = self.order {
            kvs.sort_by(|a, b| {
                let order = compare(target, a, b);
                if descending { order.reverse() } else { order }
            });
        }
        let mut more = answer.more;
        if self.limit > 0 && kvs.len() as u64 > self.limit as u64 {
            kvs.truncate(self.limit as usize);
            more = true;
        }
        if self.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        proto::RangeResponse { header: None, kvs, more, count: answer.count }
    }

    fn admits(&self, kv: &store::KeyValue) -> bool {
        let within = |(least, most): (i64, i64), revision| revision >= least && (most == 0 || revision <= most);
        within(self.modified, kv.mod_revision) && within(self.created, kv.create_revision)
    }
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn answer() -> store::RangeResponse {
        let kv = |key: &'static str, value: &'static str, created, modified, version| store::KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: created,
            mod_revision: modified,
            version,
            lease: 0,
        };
        let kvs = vec![kv("a", "3", 2, 9, 4), kv("b", "1", 3, 3, 1), kv("c", "2", 4, 5, 2)];
        store::RangeResponse { revision: 9, kvs, more: false, count: 3 }
    }

    fn keys(request: proto::RangeRequest) -> (String, bool) {
        let (_, shape) = split(request).unwrap();
        let shaped = shape.apply(answer());
        (shaped.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect(), shaped.more)
    }

    #[test]
    fn order_filters_and_limit() {
        let base = proto::RangeRequest::default;
        let sort = |order: SortOrder, target: SortTarget, limit| proto::RangeRequest {
            sort_order: order as i32,
            sort_target: target as i32,
            limit,
            ..base()
        };
        let table = [
            (base(), "abc", false),
            (sort(SortOrder::Descend, SortTarget::Key, 0), "cba", false),
            (sort(SortOrder::Ascend, SortTarget::Value, 0), "bca", false),
            (sort(SortOrder::Descend, SortTarget::Mod, 2), "ac", true),
            (sort(SortOrder::Ascend, SortTarget::Version, 1), "b", true),
            (sort(SortOrder::None, SortTarget::Create, 3), "abc", false),
            (proto::RangeRequest { min_mod_revision: 5, ..base() }, "ac", false),
            (proto::RangeRequest { max_mod_revision: 5, ..base() }, "bc", false),
            (proto::RangeRequest { min_create_revision: 3, max_create_revision: 3, ..base() }, "b", false),
        ];
        for (request, expected, more) in table {
            assert_eq!(keys(request.clone()), (expected.to_owned(), more), "{request:?}");
        }
    }

    #[test]
    fn the_store_is_asked_no_more_than_needed() {
        let limited = proto::RangeRequest { limit: 5, ..Default::default() };
        assert_eq!(split(limited.clone()).unwrap().0.limit, 5);
        let ordered = proto::RangeRequest { sort_order: SortOrder::Descend as i32, ..limited };
        assert_eq!(split(ordered).unwrap().0.limit, 0, "the last ones are found among all");
        let wrong = proto::RangeRequest { sort_target: 9, ..Default::default() };
        assert_eq!(split(wrong).unwrap_err().message(), INVALID_SORT.1);
    }
}
