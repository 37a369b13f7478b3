//! From a query to the cluster's response: what the zone has, in a DNS message. Pure, but for the order of answers.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::records::Records;
use super::zone::{Answer, Data, lookup, name_server};

/// Lifetime of records of Services, seconds (kubeadm's CoreDNS).
const TTL: u32 = 30;
/// Lifetime of records that change with Pods, and of the knowledge that a name does not exist, seconds.
const SHORT_TTL: u32 = 5;
/// Largest UDP message we send or take, bytes: fits every usual path unfragmented (DNS Flag Day 2020).
pub const UDP_LIMIT: u16 = 1232;
/// Longest chain of aliases within the cluster.
const MAX_ALIASES: usize = 8;

/// What becomes of a query.
#[derive(Debug)]
pub enum Outcome {
    Respond(Box<Message>),
    /// Somebody else has to be asked.
    Forward,
    /// The name is an alias of a foreign one, whose records are to be appended.
    Chase(Box<Message>, Name),
}

/// A response without records.
pub fn response(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata = Metadata::response_from_request(&query.metadata);
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(query.queries.iter().cloned());
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_LIMIT);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

/// Answers a query from the cluster's records.
pub fn respond(records: &Records, domain: &str, query: &Message, rotation: usize) -> Outcome {
    let refuse = |code| Outcome::Respond(Box::new(response(query, code)));
    if query.metadata.message_type != MessageType::Query || query.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    if query.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(ResponseCode::BADVERS);
    }
    if !matches!(question.query_class, DNSClass::IN | DNSClass::ANY) {
        return refuse(ResponseCode::Refused);
    }
    Responder { records, domain, rotation }.answer(query, question)
}

struct Responder<'a> {
    records: &'a Records,
    domain: &'a str,
    rotation: usize,
}

impl Responder<'_> {
    fn lookup(&self, name: &Name) -> Answer {
        let labels: Option<Vec<String>> =
            name.iter().map(|label| std::str::from_utf8(label).ok().map(str::to_ascii_lowercase)).collect();
        match labels {
            Some(labels) => {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                lookup(self.records, self.domain, &labels)
            }
            // No name of the cluster has such labels.
            None => Answer::Foreign,
        }
    }

    fn answer(&self, query: &Message, question: &Query) -> Outcome {
        let mut response = response(query, ResponseCode::NoError);
        response.metadata.authoritative = true;
        // Records carry the name as it was asked, letter by letter: resolvers check it.
        let mut owner = question.name.clone();
        for _ in 0..MAX_ALIASES {
            match self.lookup(&owner) {
                Answer::Foreign if response.answers.is_empty() => return Outcome::Forward,
                Answer::Foreign => return Outcome::Chase(Box::new(response), owner),
                Answer::Missing => {
                    response.metadata.response_code = ResponseCode::NXDomain;
                    break;
                }
                Answer::Exists { records, additional, volatile } => {
                    let ttl = if volatile { SHORT_TTL } else { TTL };
                    if let [Data::Alias(target)] = records.as_slice() {
                        let Some(target) = absolute(target) else { break };
                        response.add_answer(Record::from_rdata(owner, ttl, RData::CNAME(CNAME(target.clone()))));
                        if matches!(question.query_type, RecordType::CNAME | RecordType::ANY) {
                            return Outcome::Respond(Box::new(response));
                        }
                        owner = target;
                        continue;
                    }
                    self.fill(&mut response, &owner, question.query_type, records, ttl);
                    if question.query_type == RecordType::SRV && !response.answers.is_empty() {
                        response.add_additionals(
                            additional
                                .into_iter()
                                .filter_map(|(name, ip)| Some(Record::from_rdata(absolute(&name)?, ttl, address(ip)))),
                        );
                    }
                    break;
                }
            }
        }
        if response.answers.iter().all(|record| record.record_type() == RecordType::CNAME) {
            response.authorities.extend(self.start_of_authority(SHORT_TTL));
        }
        Outcome::Respond(Box::new(response))
    }

    fn fill(&self, response: &mut Message, owner: &Name, wanted: RecordType, records: Vec<Data>, ttl: u32) {
        let mut found: Vec<Record> = records
            .into_iter()
            .filter_map(|data| match self.rdata(data) {
                Some(rdata) if wanted == RecordType::ANY || rdata.record_type() == wanted => {
                    Some(Record::from_rdata(owner.clone(), ttl, rdata))
                }
                _ => None,
            })
            .collect();
        // Many clients take the first address: each is first in turn.
        if found.len() > 1 {
            let shift = self.rotation % found.len();
            found.rotate_left(shift);
        }
        response.add_answers(found);
    }

    fn rdata(&self, data: Data) -> Option<RData> {
        Some(match data {
            Data::Address(ip) => address(ip),
            Data::Service { port, weight, target } => RData::SRV(SRV::new(0, weight, port, absolute(&target)?)),
            Data::Pointer(name) => RData::PTR(PTR(absolute(&name)?)),
            Data::Text(text) => RData::TXT(TXT::new(vec![text])),
            Data::Alias(name) => RData::CNAME(CNAME(absolute(&name)?)),
            Data::NameServer(name) => RData::NS(NS(absolute(&name)?)),
            Data::StartOfAuthority => self.start_of_authority(TTL)?.data,
        })
    }

    fn start_of_authority(&self, ttl: u32) -> Option<Record> {
        let zone = absolute(self.domain)?;
        let server = absolute(&name_server(self.domain))?;
        let mailbox = absolute(&format!("hostmaster.{}", self.domain))?;
        // Nobody transfers this zone: the serial need not grow.
        let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, SHORT_TTL);
        Some(Record::from_rdata(zone, ttl, RData::SOA(soa)))
    }
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The name with its final dot; nothing if it is no name.
pub fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::dns::zone::tests::records;

    fn ask(name: &str, kind: RecordType) -> Outcome {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        respond(&records(), "cluster.local", &query, 0)
    }

    fn response_to(name: &str, kind: RecordType) -> Message {
        match ask(name, kind) {
            Outcome::Respond(message) => *message,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn absent_types_and_absent_names_differ_and_both_carry_the_soa() {
        for (name, kind, code) in [
            ("db.ns.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
            ("web.ns.svc.cluster.local.", RecordType::MX, ResponseCode::NoError),
            ("nobody.ns.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
        ] {
            let message = response_to(name, kind);
            assert_eq!(message.metadata.response_code, code, "{name}");
            assert!(message.answers.is_empty() && message.metadata.authoritative, "{name}");
            assert_eq!(message.authorities[0].record_type(), RecordType::SOA, "{name}");
            assert_eq!(message.authorities[0].name.to_ascii(), "cluster.local.");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_answered_in_theirs() {
        let message = response_to("WeB.Ns.SVC.cluster.LOCAL.", RecordType::A);
        assert_eq!(message.answers.len(), 1);
        assert!(message.answers[0].name.eq_case(&Name::from_ascii("WeB.Ns.SVC.cluster.LOCAL.").unwrap()));
        assert_eq!(message.answers[0].data, RData::A(A::new(10, 96, 0, 80)));
    }

    #[test]
    fn srv_answers_bring_their_targets_addresses() {
        let message = response_to("_sql._tcp.db.ns.svc.cluster.local.", RecordType::SRV);
        assert_eq!(message.answers.len(), 2);
        let names: Vec<String> = message.additionals.iter().map(|record| record.name.to_ascii()).collect();
        assert_eq!(names, ["db-0.db.ns.svc.cluster.local.", "10-244-0-6.db.ns.svc.cluster.local."]);
    }

    #[test]
    fn aliases_of_foreign_names_are_chased_and_foreign_names_forwarded() {
        match ask("out.ns.svc.cluster.local.", RecordType::A) {
            Outcome::Chase(message, target) => {
                assert_eq!(message.answers.len(), 1);
                assert_eq!(target.to_ascii(), "example.com.");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(response_to("out.ns.svc.cluster.local.", RecordType::CNAME).answers.len(), 1);
        assert!(matches!(ask("example.com.", RecordType::A), Outcome::Forward));
    }

    #[test]
    fn answers_take_turns() {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii("db.ns.svc.cluster.local.").unwrap(), RecordType::A));
        let first = |rotation| match respond(&records(), "cluster.local", &query, rotation) {
            Outcome::Respond(message) => message.answers[0].data.clone(),
            other => panic!("{other:?}"),
        };
        assert_ne!(first(0), first(1));
        assert_eq!(first(0), first(2));
    }

    #[test]
    fn what_is_no_plain_query_is_refused_in_kind() {
        let mut none = Message::query();
        none.metadata.id = 7;
        let mut update = none.clone();
        update.metadata.op_code = OpCode::Update;
        for (query, code) in [(none, ResponseCode::FormErr), (update, ResponseCode::NotImp)] {
            match respond(&records(), "cluster.local", &query, 0) {
                Outcome::Respond(message) => {
                    assert_eq!((message.metadata.response_code, message.metadata.id), (code, 7));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
