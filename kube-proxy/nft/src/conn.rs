//! A connection to the kernel: applies transactions and reads back what is there.

use std::collections::HashSet;
use std::time::Duration;

use std::io;

use crate::batch::{Batch, family_number};
use crate::netlink::{Attrs, Socket, Writer};
use crate::set::{Data, Element, Verdict};
use crate::table::{Family, Policy, Table};
use crate::{Error, uapi};

/// How often a dump is repeated that a change interrupted.
const DUMP_TRIES: usize = 16;

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    pub family: u8,
    pub table: String,
    pub name: String,
    /// (hook number, priority, type, policy) of a base chain.
    pub hook: Option<(u32, i32, String, Policy)>,
}

/// A set as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetInfo {
    pub name: String,
    /// Whether rules fill it and its elements expire.
    pub dynamic: bool,
}

/// How often a dump that a rehash disturbed is repeated, and the pause before: a rehash takes milliseconds.
const REHASH_READS: u32 = 200;
const REHASH_PAUSE: Duration = Duration::from_millis(5);

/// A netlink socket for nf_tables. Calls block, for as long as the kernel works.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    seq: u32,
}

impl Connection {
    /// Connects to the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()?, seq: 0 })
    }

    /// Commits the transaction: all of it, or none and the first refusal as error. Empty ones cost nothing.
    pub fn apply(&mut self, mut batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.socket.send(batch.finish()?)?;
        match self.socket.refusals()?.into_iter().next() {
            None => Ok(()),
            Some(refusal) => Err(Error::Refused {
                subject: batch.subject(refusal.seq),
                source: io::Error::from_raw_os_error(refusal.errno),
                extended: refusal.extended,
            }),
        }
    }

    fn dump(
        &mut self,
        message: u16,
        family: Option<Family>,
        attrs: impl Fn(&mut Writer),
        mut each: impl FnMut(u8, Attrs<'_>),
        mut restart: impl FnMut(),
    ) -> Result<(), Error> {
        for _ in 0..DUMP_TRIES {
            self.seq += 1;
            let mut writer = Writer::default();
            let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
            writer.begin(uapi::NFNL_SUBSYS_NFTABLES << 8 | message, flags, self.seq, family_number(family), 0);
            attrs(&mut writer);
            writer.end();
            restart();
            if self.socket.dump(writer.bytes(), self.seq, |message| each(message.family, message.attrs()))? {
                return Ok(());
            }
        }
        Err(Error::Malformed("dump: interrupted by changes again and again"))
    }

    /// Whether the table exists.
    pub fn has_table(&mut self, table: &Table) -> Result<bool, Error> {
        let found = std::cell::Cell::new(false);
        self.dump(
            uapi::MSG_GETTABLE,
            Some(table.family),
            |_| {},
            |_, attrs| found.set(found.get() || attrs.get_str(uapi::TABLE_NAME) == Some(table.name.as_str())),
            || found.set(false),
        )?;
        Ok(found.get())
    }

    /// All chains of the machine, or of one table.
    pub fn chains(&mut self, table: Option<&Table>) -> Result<Vec<ChainInfo>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.dump(
            uapi::MSG_GETCHAIN,
            table.map(|table| table.family),
            |w| {
                if let Some(table) = table {
                    w.attr_str(uapi::CHAIN_TABLE, &table.name);
                }
            },
            |family, attrs| {
                let name = attrs.get_str(uapi::CHAIN_TABLE);
                if table.is_none_or(|table| name == Some(table.name.as_str())) {
                    found.borrow_mut().extend(chain(family, attrs));
                }
            },
            || found.borrow_mut().clear(),
        )?;
        Ok(found.into_inner())
    }

    /// The named sets and maps of a table.
    pub fn sets(&mut self, table: &Table) -> Result<Vec<SetInfo>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.dump(
            uapi::MSG_GETSET,
            Some(table.family),
            |w| w.attr_str(uapi::SET_TABLE, &table.name),
            |_, attrs| {
                let flags = attrs.get_u32(uapi::SET_FLAGS).unwrap_or(0);
                let ours = attrs.get_str(uapi::SET_TABLE) == Some(table.name.as_str());
                if let Some(name) = attrs.get_str(uapi::SET_NAME)
                    && ours
                    && flags & uapi::SET_F_ANONYMOUS == 0
                {
                    let dynamic = flags & uapi::SET_F_EVAL != 0;
                    found.borrow_mut().push(SetInfo { name: name.to_owned(), dynamic });
                }
            },
            || found.borrow_mut().clear(),
        )?;
        Ok(found.into_inner())
    }

    /// The elements of a set.
    ///
    /// While the kernel rehashes a large set, its dump tells some elements twice and skips as many: such an answer is
    /// asked for again.
    pub fn elements(&mut self, table: &Table, set: &str) -> Result<Vec<Element>, Error> {
        let mut found = self.dump_elements(table, set)?;
        for _ in 0..REHASH_READS {
            let distinct: HashSet<_> = found.iter().map(|one| (&one.key, one.interval_end)).collect();
            if distinct.len() == found.len() {
                break;
            }
            std::thread::sleep(REHASH_PAUSE);
            found = self.dump_elements(table, set)?;
        }
        Ok(found)
    }

    fn dump_elements(&mut self, table: &Table, set: &str) -> Result<Vec<Element>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.dump(
            uapi::MSG_GETSETELEM,
            Some(table.family),
            |w| {
                w.attr_str(uapi::ELEM_LIST_TABLE, &table.name);
                w.attr_str(uapi::ELEM_LIST_SET, set);
            },
            |_, attrs| {
                if let Some(list) = attrs.nested(uapi::ELEM_LIST_ELEMENTS) {
                    found.borrow_mut().extend(list.filter_map(|(_, one)| element(Attrs(one))));
                }
            },
            || found.borrow_mut().clear(),
        )?;
        Ok(found.into_inner())
    }

    /// Deletes a table with everything in it; it may be gone already. Says whether it was there.
    pub fn delete_table(&mut self, table: &Table) -> Result<bool, Error> {
        let mut batch = Batch::new(table);
        batch.delete_table();
        match self.apply(batch) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn chain(family: u8, attrs: Attrs<'_>) -> Option<ChainInfo> {
    let hook = attrs.nested(uapi::CHAIN_HOOK).and_then(|hook| {
        let policy = match attrs.get_u32(uapi::CHAIN_POLICY)? as i32 {
            uapi::NF_DROP => Policy::Drop,
            _ => Policy::Accept,
        };
        let kind = attrs.get_str(uapi::CHAIN_TYPE)?.to_owned();
        Some((hook.get_u32(uapi::HOOK_HOOKNUM)?, hook.get_u32(uapi::HOOK_PRIORITY)? as i32, kind, policy))
    });
    Some(ChainInfo {
        family,
        table: attrs.get_str(uapi::CHAIN_TABLE)?.to_owned(),
        name: attrs.get_str(uapi::CHAIN_NAME)?.to_owned(),
        hook,
    })
}

fn element(attrs: Attrs<'_>) -> Option<Element> {
    let key = attrs.nested(uapi::ELEM_KEY)?.get(uapi::DATA_VALUE)?.to_vec();
    let data = match attrs.nested(uapi::ELEM_DATA) {
        None => None,
        Some(data) => Some(match data.nested(uapi::DATA_VERDICT) {
            Some(verdict) => {
                let code = verdict.get_u32(uapi::VERDICT_CODE)? as i32;
                Data::Verdict(Verdict::parse(code, verdict.get_str(uapi::VERDICT_CHAIN))?)
            }
            None => Data::Value(data.get(uapi::DATA_VALUE)?.to_vec()),
        }),
    };
    let interval_end = attrs.get_u32(uapi::ELEM_FLAGS).unwrap_or(0) & uapi::ELEM_F_INTERVAL_END != 0;
    Some(Element { key, data, interval_end })
}
