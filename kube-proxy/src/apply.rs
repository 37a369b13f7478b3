//! The ruleset in the kernel: takes over what an earlier process left, then applies differences.

use std::collections::{BTreeMap, BTreeSet};

use nft::{Batch, Connection, Element, Error, Family, Ip, Table};

use crate::config::Config;
use crate::plan::Shared;
use crate::plan::base::{Base, NODE_PORT_IPS, base};
use crate::plan::names::is_service_chain;
use crate::ruleset::{Changes, Ruleset, write_chains};

/// The table of one IP version.
#[derive(Debug)]
pub struct Backend {
    conn: Connection,
    table: Table,
    base: Base,
    ip: Ip,
    /// Chains that nothing refers to any more but that could not be deleted yet.
    stale: BTreeSet<String>,
}

/// What an earlier process left in the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    chains: BTreeSet<String>,
    affinity_sets: BTreeSet<String>,
    elements: BTreeMap<Shared, Vec<Element>>,
    node_port_ips: Vec<Element>,
}

impl Backend {
    /// Connects to the calling thread's network namespace.
    pub fn open(config: &Config, ip: Ip) -> Result<Self, Error> {
        let family = match ip {
            Ip::V4 => Family::Ip,
            Ip::V6 => Family::Ip6,
        };
        Ok(Self {
            conn: Connection::open()?,
            table: Table::new(family, config.table_name()),
            base: base(config, ip),
            ip,
            stale: BTreeSet::new(),
        })
    }

    /// The IP version.
    pub fn ip(&self) -> Ip {
        self.ip
    }

    /// Makes the table what `ruleset` says, whatever is there, in one transaction: no packet sees a gap, and clients
    /// stay bound to their endpoints. A table that cannot be brought there step by step is replaced, also in one
    /// transaction.
    pub fn take_over(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        let found = if self.conn.has_table(&self.table)? { Some(self.read()?) } else { None };
        self.stale.clear();
        if let Some(found) = found {
            let stale = found.stale_chains(ruleset);
            match self.conn.apply(self.full(ruleset, &found)) {
                Ok(()) => {
                    self.stale = stale;
                    self.delete_stale();
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(%error, table = %self.table.name, "replacing the ruleset that was there");
                    let mut batch = Batch::new(&self.table);
                    batch.delete_table();
                    self.write_all(&mut batch, ruleset, &Found::default());
                    return self.conn.apply(batch);
                }
            }
        }
        self.conn.apply(self.full(ruleset, &Found::default()))
    }

    fn read(&mut self) -> Result<Found, Error> {
        let chains = self.conn.chains(Some(&self.table))?.into_iter().map(|chain| chain.name).collect();
        let mut found = Found { chains, ..Found::default() };
        for set in self.conn.sets(&self.table)? {
            if let Some(shared) = Shared::ALL.into_iter().find(|shared| shared.name() == set.name) {
                let elements = self.conn.elements(&self.table, &set.name)?;
                found.elements.insert(shared, elements);
            } else if set.name == NODE_PORT_IPS {
                found.node_port_ips = self.conn.elements(&self.table, &set.name)?;
            } else if set.dynamic {
                found.affinity_sets.insert(set.name);
            }
        }
        Ok(found)
    }

    fn full(&self, ruleset: &Ruleset, found: &Found) -> Batch {
        let mut batch = Batch::new(&self.table);
        self.write_all(&mut batch, ruleset, found);
        batch
    }

    fn write_all(&self, batch: &mut Batch, ruleset: &Ruleset, found: &Found) {
        batch.add_table();
        self.base.sets.iter().for_each(|set| batch.add_set(set));
        let wanted: BTreeSet<&str> = ruleset.affinity_sets().map(|set| set.name.as_str()).collect();
        for set in ruleset.affinity_sets().filter(|set| !found.affinity_sets.contains(&set.name)) {
            batch.add_set(set);
        }
        let chains: BTreeMap<_, _> = ruleset.chains().collect();
        write_chains(batch, chains.iter().map(|(name, rules)| (*name, *rules)));
        for (chain, _) in &self.base.chains {
            batch.add_chain(chain);
            batch.flush_chain(&chain.name);
        }
        for (chain, rules) in &self.base.chains {
            rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
        }
        for shared in Shared::ALL {
            let there = found.elements.get(&shared).map(Vec::as_slice).unwrap_or_default();
            write_elements(batch, shared.name(), there, ruleset.elements_of(shared));
        }
        write_elements(batch, NODE_PORT_IPS, &found.node_port_ips, self.base.node_port_ips.iter().cloned());
        found.stale_chains(ruleset).iter().for_each(|chain| batch.flush_chain(chain));
        for set in found.affinity_sets.iter().filter(|set| !wanted.contains(set.as_str())) {
            batch.delete_set(set);
        }
    }

    /// Applies what changed. If the kernel refuses, somebody else has touched the table: it is then taken over anew.
    pub fn apply(&mut self, changes: &Changes, ruleset: &Ruleset) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.stale.retain(|chain| !changes.chains.contains_key(chain));
        if let Err(error) = self.conn.apply(changes.batch(&self.table)) {
            tracing::warn!(%error, table = %self.table.name, "reading the ruleset back");
            return self.take_over(ruleset);
        }
        self.stale.extend(changes.stale_chains.iter().cloned());
        self.delete_stale();
        Ok(())
    }

    /// Deletes chains that nothing refers to; those that the kernel still thinks in use are tried again later.
    fn delete_stale(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let mut batch = Batch::new(&self.table);
        self.stale.iter().for_each(|chain| batch.delete_chain(chain));
        if self.conn.apply(batch).is_ok() {
            self.stale.clear();
            return;
        }
        let (conn, table) = (&mut self.conn, &self.table);
        self.stale.retain(|chain| {
            let mut batch = Batch::new(table);
            batch.delete_chain(chain);
            match conn.apply(batch) {
                Ok(()) => false,
                Err(error) => !error.is_not_found(),
            }
        });
    }
}

impl Found {
    fn stale_chains(&self, ruleset: &Ruleset) -> BTreeSet<String> {
        let wanted: BTreeSet<&String> = ruleset.chains().map(|(name, _)| name).collect();
        self.chains.iter().filter(|name| is_service_chain(name) && !wanted.contains(name)).cloned().collect()
    }
}

/// Makes a set contain `wanted`, given what is there.
fn write_elements(batch: &mut Batch, set: &str, there: &[Element], wanted: impl Iterator<Item = Element>) {
    let mut obsolete: BTreeMap<&[u8], &Element> =
        there.iter().map(|element| (element.key.as_slice(), element)).collect();
    let mut missing = Vec::new();
    for element in wanted {
        if obsolete.get(element.key.as_slice()) == Some(&&element) {
            obsolete.remove(element.key.as_slice());
        } else {
            missing.push(element);
        }
    }
    let obsolete: Vec<Element> = obsolete.into_values().cloned().collect();
    batch.delete_elements(set, &obsolete);
    batch.add_elements(set, &missing);
}
