//! Answers of upstream servers, remembered for as long as they say, at most half a minute.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// How long anything is remembered at most (kubeadm's CoreDNS: `cache 30`).
const LONGEST: Duration = Duration::from_secs(30);
/// How many answers are remembered at most.
const CAPACITY: usize = 2048;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    name: Name,
    kind: RecordType,
    dnssec: bool,
    unchecked: bool,
}

impl Key {
    /// The key of a query with one question.
    pub fn of(query: &Message) -> Option<Self> {
        let [question] = query.queries.as_slice() else { return None };
        Some(Self {
            name: question.name.to_lowercase(),
            kind: question.query_type,
            dnssec: query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            unchecked: query.metadata.checking_disabled,
        })
    }
}

struct Entry {
    response: Message,
    stored: Instant,
    lifetime: Duration,
}

/// The remembered answers, oldest forgotten first.
#[derive(Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    order: VecDeque<(Key, Instant)>,
}

/// How long a response may be remembered; not at all if it says nothing certain.
fn lifetime(response: &Message) -> Option<Duration> {
    if response.metadata.truncation {
        return None;
    }
    let seconds = match response.metadata.response_code {
        ResponseCode::NoError if !response.answers.is_empty() => response.answers.iter().map(|record| record.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => {
            response.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            })
        }
        _ => None,
    };
    seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()).min(LONGEST))
}

impl Cache {
    /// The remembered response, as it would be given now, to this query.
    pub fn get(&self, key: &Key, query: &Message, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_duration_since(entry.stored);
        if age >= entry.lifetime {
            return None;
        }
        let mut response = entry.response.clone();
        response.metadata.id = query.metadata.id;
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.queries.clone_from(&query.queries);
        let age = age.as_secs() as u32;
        for record in response.answers.iter_mut().chain(&mut response.authorities).chain(&mut response.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(response)
    }

    /// Remembers a response.
    pub fn put(&mut self, key: Key, response: Message, now: Instant) {
        let Some(lifetime) = lifetime(&response) else { return };
        while self.order.len() >= CAPACITY {
            let Some((oldest, stored)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.stored == stored) {
                self.entries.remove(&oldest);
            }
        }
        self.order.push_back((key.clone(), now));
        self.entries.insert(key, Entry { response, stored: now, lifetime });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    fn query(name: &str) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        query
    }

    fn answer(query: &Message, ttl: u32) -> Message {
        let mut response = query.clone().into_response();
        let name = query.queries[0].name.clone();
        response.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(1, 2, 3, 4))));
        response
    }

    #[test]
    fn answers_age_and_expire() {
        let (mut cache, start, query) = (Cache::default(), Instant::now(), query("Example.com."));
        let key = Key::of(&query).unwrap();
        cache.put(key.clone(), answer(&query, 10), start);
        let later = cache.get(&key, &query, start + Duration::from_secs(4)).unwrap();
        assert_eq!((later.answers[0].ttl, later.metadata.id), (6, query.metadata.id));
        assert!(cache.get(&key, &query, start + Duration::from_secs(10)).is_none());
        assert_eq!(lifetime(&answer(&query, 3600)), Some(LONGEST));
    }

    #[test]
    fn uncertain_answers_are_not_remembered() {
        let query = query("example.com.");
        let mut failed = query.clone().into_response();
        failed.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(lifetime(&failed), None);
        let mut cut = answer(&query, 10);
        cut.metadata.truncation = true;
        assert_eq!(lifetime(&cut), None);
        assert_eq!(lifetime(&query.clone().into_response()), None);
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for n in 0..CAPACITY * 2 {
            let query = query(&format!("n{n}.example.com."));
            cache.put(Key::of(&query).unwrap(), answer(&query, 10), start);
        }
        assert!(cache.entries.len() <= CAPACITY && cache.order.len() <= CAPACITY);
    }
}
