//! All Services' plans together, and what differs when some of them change; pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use nft::{Batch, Chain, Data, Element, Rule, Set, Table};

use crate::model::Name;
use crate::plan::{Frontend, Plan, Shared};

/// Key of an element of a shared set.
type Key = (Shared, Vec<u8>);
/// What a key maps to: nothing in sets, a verdict in maps.
type Value = Option<Data>;

/// What is to be in the kernel, for one IP version.
#[derive(Debug, Default)]
pub struct Ruleset {
    plans: HashMap<Name, Plan>,
    /// Who wants each element. Several Services may (same external IP and port, same endpoint): the first by name
    /// has it.
    elements: BTreeMap<Key, BTreeMap<Name, Value>>,
}

/// What a transaction has to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub chains: BTreeMap<String, Vec<Rule>>,
    pub stale_chains: BTreeSet<String>,
    pub sets: BTreeMap<String, Set>,
    pub stale_sets: BTreeSet<String>,
    /// Elements by key: before and after.
    elements: BTreeMap<Key, (Option<Value>, Option<Value>)>,
    /// UDP frontends that changed, with the endpoints whose connections may go on.
    pub udp: BTreeMap<Frontend, BTreeSet<SocketAddr>>,
}

impl Ruleset {
    /// Gives the Service the plan (an empty one takes it out) and notes what that changes.
    pub fn update(&mut self, name: &Name, new: Plan, changes: &mut Changes) {
        let old = self.plans.remove(name).unwrap_or_default();
        if old == new {
            if !new.is_empty() {
                self.plans.insert(name.clone(), new);
            }
            return;
        }
        self.update_elements(name, &old, &new, changes);
        changes.compare_chains(&old, &new);
        changes.compare_sets(&old, &new);
        changes.compare_udp(&old, &new);
        if !new.is_empty() {
            self.plans.insert(name.clone(), new);
        }
    }

    fn update_elements(&mut self, name: &Name, old: &Plan, new: &Plan, changes: &mut Changes) {
        let wanted: BTreeMap<(Shared, &[u8]), &Value> = new
            .elements
            .iter()
            .rev()
            .map(|(shared, element)| ((*shared, element.key.as_slice()), &element.data))
            .collect();
        for (shared, element) in &old.elements {
            if !wanted.contains_key(&(*shared, element.key.as_slice())) {
                self.set_element(&(*shared, element.key.clone()), name, None, changes);
            }
        }
        for ((shared, key), data) in wanted {
            self.set_element(&(shared, key.to_vec()), name, Some(data.clone()), changes);
        }
    }

    fn set_element(&mut self, key: &Key, name: &Name, value: Option<Value>, changes: &mut Changes) {
        let owners = self.elements.entry(key.clone()).or_default();
        let before = owners.values().next().cloned();
        match value {
            Some(value) => owners.insert(name.clone(), value),
            None => owners.remove(name),
        };
        let after = owners.values().next().cloned();
        if owners.is_empty() {
            self.elements.remove(key);
        }
        if before != after {
            changes.elements.entry(key.clone()).or_insert((before, None)).1 = after;
        }
    }

    /// Everything that is to be in a shared set.
    pub fn elements_of(&self, shared: Shared) -> impl Iterator<Item = Element> {
        let range = (shared, Vec::new())..;
        self.elements.range(range).take_while(move |((found, _), _)| *found == shared).filter_map(
            |((_, key), owners)| {
                let data = owners.values().next()?.clone();
                Some(Element { key: key.clone(), data, interval_end: false })
            },
        )
    }

    /// The chains of all Services.
    pub fn chains(&self) -> impl Iterator<Item = (&String, &Vec<Rule>)> {
        self.plans.values().flat_map(|plan| &plan.chains)
    }

    /// The affinity sets of all Services.
    pub fn affinity_sets(&self) -> impl Iterator<Item = &Set> {
        self.plans.values().flat_map(|plan| &plan.affinity_sets)
    }

    /// All UDP frontends, with their endpoints.
    pub fn udp(&self) -> BTreeMap<Frontend, BTreeSet<SocketAddr>> {
        self.plans.values().flat_map(|plan| plan.udp.clone()).collect()
    }
}

impl Changes {
    /// Whether nothing is to change in the ruleset.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
            && self.stale_chains.is_empty()
            && self.sets.is_empty()
            && self.stale_sets.is_empty()
            && self.elements.values().all(|(before, after)| before == after)
    }

    fn compare_chains(&mut self, old: &Plan, new: &Plan) {
        for (name, rules) in &new.chains {
            if old.chains.get(name) != Some(rules) {
                self.stale_chains.remove(name);
                self.chains.insert(name.clone(), rules.clone());
            }
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            self.chains.remove(name);
            self.stale_chains.insert(name.clone());
        }
    }

    fn compare_sets(&mut self, old: &Plan, new: &Plan) {
        for set in new.affinity_sets.iter().filter(|set| !old.affinity_sets.contains(set)) {
            // A set that would go and come back within one transaction just stays.
            if !self.stale_sets.remove(&set.name) {
                self.sets.insert(set.name.clone(), set.clone());
            }
        }
        for set in old.affinity_sets.iter().filter(|set| !new.affinity_sets.contains(set)) {
            if self.sets.remove(&set.name).is_none() {
                self.stale_sets.insert(set.name.clone());
            }
        }
    }

    fn compare_udp(&mut self, old: &Plan, new: &Plan) {
        for (frontend, endpoints) in &new.udp {
            if old.udp.get(frontend) != Some(endpoints) {
                self.udp.insert(*frontend, endpoints.clone());
            }
        }
        for frontend in old.udp.keys().filter(|frontend| !new.udp.contains_key(frontend)) {
            self.udp.insert(*frontend, BTreeSet::new());
        }
    }

    /// The transaction: chains that are to be referred to come first, what is no longer referred to goes last. Stale
    /// chains are only emptied: older kernels (before 6.2) notice late that a deleted element no longer refers to them.
    pub fn batch(&self, table: &Table) -> Batch {
        let mut batch = Batch::new(table);
        self.sets.values().for_each(|set| batch.add_set(set));
        write_chains(&mut batch, self.chains.iter());
        for (added, write) in
            [(false, Batch::delete_elements as fn(&mut Batch, &str, &[Element])), (true, Batch::add_elements)]
        {
            for shared in Shared::ALL {
                let elements = self.elements_of(shared, added);
                write(&mut batch, shared.name(), &elements);
            }
        }
        self.stale_chains.iter().for_each(|chain| batch.flush_chain(chain));
        self.stale_sets.iter().for_each(|set| batch.delete_set(set));
        batch
    }

    fn elements_of(&self, shared: Shared, added: bool) -> Vec<Element> {
        let changed = self.elements.iter().filter(|((found, _), (before, after))| *found == shared && before != after);
        changed
            .filter_map(|((_, key), (before, after))| {
                let data = if added { after.clone() } else { before.clone() }?;
                Some(Element { key: key.clone(), data, interval_end: false })
            })
            .collect()
    }
}

/// Makes all chains before the rules that may refer to any of them.
pub fn write_chains<'a>(batch: &mut Batch, chains: impl Iterator<Item = (&'a String, &'a Vec<Rule>)> + Clone) {
    for (name, _) in chains.clone() {
        batch.add_chain(&Chain::regular(name));
        batch.flush_chain(name);
    }
    for (name, rules) in chains {
        rules.iter().for_each(|rule| batch.add_rule(name, rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nft::Verdict;

    fn plan(key: u8, chain: &str) -> Plan {
        let mut plan = Plan::default();
        plan.elements.push((Shared::ServiceIps, Element::verdict([key], Verdict::Goto(chain.into()))));
        plan.chains.insert(chain.into(), vec![Rule::new().drop()]);
        plan
    }

    fn keys(ruleset: &Ruleset) -> Vec<(Vec<u8>, Option<Data>)> {
        ruleset.elements_of(Shared::ServiceIps).map(|element| (element.key, element.data)).collect()
    }

    fn goto(chain: &str) -> Option<Data> {
        Some(Data::Verdict(Verdict::Goto(chain.into())))
    }

    #[test]
    fn the_same_plan_changes_nothing() {
        let (mut ruleset, mut changes) = (Ruleset::default(), Changes::default());
        ruleset.update(&Name::new("n", "a"), plan(1, "a"), &mut changes);
        assert!(!changes.is_empty());
        let mut changes = Changes::default();
        ruleset.update(&Name::new("n", "a"), plan(1, "a"), &mut changes);
        assert!(changes.is_empty());
        assert!(changes.batch(&Table::new(nft::Family::Ip, "t")).is_empty());
    }

    #[test]
    fn a_contested_key_goes_to_the_first_by_name_and_on_to_the_next() {
        let (mut ruleset, mut changes) = (Ruleset::default(), Changes::default());
        ruleset.update(&Name::new("n", "b"), plan(1, "b"), &mut changes);
        ruleset.update(&Name::new("n", "a"), plan(1, "a"), &mut changes);
        assert_eq!(keys(&ruleset), [(vec![1], goto("a"))]);
        let mut changes = Changes::default();
        ruleset.update(&Name::new("n", "a"), Plan::default(), &mut changes);
        assert_eq!(keys(&ruleset), [(vec![1], goto("b"))]);
        assert_eq!(changes.elements_of(Shared::ServiceIps, false).len(), 1);
        assert_eq!(changes.elements_of(Shared::ServiceIps, true).len(), 1);
        assert_eq!(changes.stale_chains, BTreeSet::from(["a".to_owned()]));
    }

    #[test]
    fn changes_that_undo_each_other_leave_no_elements() {
        let (mut ruleset, mut changes) = (Ruleset::default(), Changes::default());
        ruleset.update(&Name::new("n", "a"), plan(1, "a"), &mut changes);
        ruleset.update(&Name::new("n", "a"), Plan::default(), &mut changes);
        assert!(changes.elements_of(Shared::ServiceIps, true).is_empty());
        assert!(changes.elements_of(Shared::ServiceIps, false).is_empty());
        assert!(keys(&ruleset).is_empty());
    }
}
