//! A transaction under construction: nothing reaches the kernel before [`crate::Connection::apply`].

use crate::encode::{self, Reference};
use crate::expr::{Expr, SetRef};
use crate::netlink::Writer;
use crate::rule::Rule;
use crate::set::{Element, Set};
use crate::table::{Chain, Family, Table};
use crate::{Error, uapi};

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// Longest name of a table, chain or set, bytes (NFT_NAME_MAXLEN without its NUL).
const NAME_LIMIT: usize = 255;
/// Longest comment, bytes (its length field is one byte, user data is limited to 256).
const COMMENT_LIMIT: usize = 250;

/// What one message of the batch is about, for errors.
#[derive(Debug)]
struct Subject {
    operation: &'static str,
    name: String,
}

/// A transaction on one table.
#[derive(Debug)]
pub struct Batch {
    table: Table,
    writer: Writer,
    subjects: Vec<Subject>,
    next_set: u32,
    error: Option<Error>,
}

impl Batch {
    /// An empty transaction on `table`.
    pub fn new(table: &Table) -> Self {
        let mut writer = Writer::default();
        writer.begin(uapi::NFNL_MSG_BATCH_BEGIN, REQUEST, 0, 0, uapi::NFNL_SUBSYS_NFTABLES);
        writer.end();
        Self { table: table.clone(), writer, subjects: Vec::new(), next_set: 0, error: None }
    }

    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    fn begin(&mut self, message: u16, flags: u16, operation: &'static str, name: &str) {
        if name.len() > NAME_LIMIT {
            self.error.get_or_insert_with(|| Error::TooLong(name.to_owned()));
        }
        self.subjects.push(Subject { operation, name: name.to_owned() });
        let seq = self.subjects.len() as u32;
        let kind = uapi::NFNL_SUBSYS_NFTABLES << 8 | message;
        self.writer.begin(kind, REQUEST | flags, seq, self.table.family.number(), 0);
    }

    /// Makes the table unless it exists.
    pub fn add_table(&mut self) {
        self.begin(uapi::MSG_NEWTABLE, CREATE, "add table", "");
        self.writer.attr_str(uapi::TABLE_NAME, &self.table.name);
        self.writer.end();
    }

    /// Deletes the table with everything in it; refused if it does not exist.
    pub fn delete_table(&mut self) {
        self.begin(uapi::MSG_DELTABLE, 0, "delete table", "");
        self.writer.attr_str(uapi::TABLE_NAME, &self.table.name);
        self.writer.end();
    }

    /// Makes a chain unless it exists; refused if it exists with another hook.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.begin(uapi::MSG_NEWCHAIN, CREATE, "add chain", &chain.name);
        let w = &mut self.writer;
        w.attr_str(uapi::CHAIN_TABLE, &self.table.name);
        w.attr_str(uapi::CHAIN_NAME, &chain.name);
        if let Some(spec) = &chain.hook {
            w.attr_str(uapi::CHAIN_TYPE, spec.kind.name());
            let hook = w.open(uapi::CHAIN_HOOK);
            w.attr_u32(uapi::HOOK_HOOKNUM, spec.hook.number());
            w.attr_u32(uapi::HOOK_PRIORITY, spec.priority as u32);
            let closed = w.close(hook);
            debug_assert!(closed, "a hook is short");
            w.attr_u32(uapi::CHAIN_POLICY, spec.policy.code());
        }
        w.end();
    }

    /// Deletes a chain with its rules; refused while something refers to it.
    pub fn delete_chain(&mut self, name: &str) {
        self.begin(uapi::MSG_DELCHAIN, 0, "delete chain", name);
        self.writer.attr_str(uapi::CHAIN_TABLE, &self.table.name);
        self.writer.attr_str(uapi::CHAIN_NAME, name);
        self.writer.end();
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.begin(uapi::MSG_DELRULE, 0, "flush chain", name);
        self.writer.attr_str(uapi::RULE_TABLE, &self.table.name);
        self.writer.attr_str(uapi::RULE_CHAIN, name);
        self.writer.end();
    }

    /// Makes the chain what `rules` say: made if missing, emptied, filled.
    pub fn write_chain(&mut self, chain: &Chain, rules: &[Rule]) {
        self.add_chain(chain);
        self.flush_chain(&chain.name);
        for rule in rules {
            self.add_rule(&chain.name, rule);
        }
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let sets: Vec<u32> = rule.exprs.iter().map(|expr| self.inline_set(expr).unwrap_or(0)).collect();
        self.begin(uapi::MSG_NEWRULE, CREATE | APPEND, "add rule to chain", chain);
        let family = self.table.family;
        let w = &mut self.writer;
        w.attr_str(uapi::RULE_TABLE, &self.table.name);
        w.attr_str(uapi::RULE_CHAIN, chain);
        let list = w.open(uapi::RULE_EXPRESSIONS);
        let mut fits = true;
        for (expr, id) in rule.exprs.iter().zip(sets) {
            let named = match set_of(expr) {
                Some(SetRef::Named(name)) => Some(Reference { name, id: None }),
                Some(SetRef::Inline(inline)) => Some(Reference { name: inline_name(&inline.set), id: Some(id) }),
                None => None,
            };
            fits &= encode::expression(w, expr, named.as_ref(), family);
        }
        fits &= w.close(list);
        if let Some(comment) = rule.comment {
            w.attr(uapi::RULE_USERDATA, &comment_bytes(comment));
        }
        w.end();
        if !fits {
            self.error.get_or_insert_with(|| Error::TooLong(format!("rule of chain {chain}")));
        }
    }

    /// Makes the set that lives within a rule; returns its number within this transaction.
    fn inline_set(&mut self, expr: &Expr) -> Option<u32> {
        let Some(SetRef::Inline(inline)) = set_of(expr) else { return None };
        let flags = uapi::SET_F_ANONYMOUS | uapi::SET_F_CONSTANT;
        let name = inline_name(&inline.set);
        let size = u32::try_from(inline.elements.len()).ok();
        let id = self.new_set(&inline.set, name, flags, size);
        self.elements(uapi::MSG_NEWSETELEM, "add element to set", name, Some(id), &inline.elements);
        Some(id)
    }

    fn new_set(&mut self, set: &Set, name: &str, flags: u32, size: Option<u32>) -> u32 {
        self.next_set += 1;
        let id = self.next_set;
        self.begin(uapi::MSG_NEWSET, CREATE, "add set", name);
        self.writer.attr_str(uapi::SET_TABLE, &self.table.name);
        self.writer.attr_str(uapi::SET_NAME, name);
        encode::set(&mut self.writer, set, flags, id, size);
        self.writer.end();
        id
    }

    /// Makes a set or map unless it exists; refused if it exists with another type.
    pub fn add_set(&mut self, set: &Set) {
        self.new_set(set, &set.name, 0, None);
    }

    /// Deletes a set with its elements; refused while a rule refers to it.
    pub fn delete_set(&mut self, name: &str) {
        self.begin(uapi::MSG_DELSET, 0, "delete set", name);
        self.writer.attr_str(uapi::SET_TABLE, &self.table.name);
        self.writer.attr_str(uapi::SET_NAME, name);
        self.writer.end();
    }

    /// Adds elements; refused if a map has one of the keys with other data.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(uapi::MSG_NEWSETELEM, "add element to set", set, None, elements);
    }

    /// Deletes elements; refused if one is not there.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(uapi::MSG_DELSETELEM, "delete element of set", set, None, elements);
    }

    /// Deletes all elements.
    pub fn flush_set(&mut self, set: &str) {
        self.begin(uapi::MSG_DELSETELEM, 0, "flush set", set);
        self.writer.attr_str(uapi::ELEM_LIST_TABLE, &self.table.name);
        self.writer.attr_str(uapi::ELEM_LIST_SET, set);
        self.writer.end();
    }

    fn elements(&mut self, kind: u16, what: &'static str, set: &str, id: Option<u32>, mut elements: &[Element]) {
        let flags = if kind == uapi::MSG_NEWSETELEM { CREATE } else { 0 };
        while !elements.is_empty() {
            self.begin(kind, flags, what, set);
            self.writer.attr_str(uapi::ELEM_LIST_TABLE, &self.table.name);
            self.writer.attr_str(uapi::ELEM_LIST_SET, set);
            if let Some(id) = id {
                self.writer.attr_u32(uapi::ELEM_LIST_SET_ID, id);
            }
            let written = match encode::elements(&mut self.writer, elements) {
                Ok(written) => written,
                Err(error) => {
                    self.error.get_or_insert(error);
                    elements.len()
                }
            };
            self.writer.end();
            elements = elements.get(written..).unwrap_or(&[]);
        }
    }

    /// Ends the transaction and gives its bytes.
    pub(crate) fn finish(&mut self) -> Result<&[u8], Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let seq = self.subjects.len() as u32 + 1;
        self.writer.begin(uapi::NFNL_MSG_BATCH_END, REQUEST, seq, 0, uapi::NFNL_SUBSYS_NFTABLES);
        self.writer.end();
        Ok(self.writer.bytes())
    }

    /// What the message `seq` was to do.
    pub(crate) fn subject(&self, seq: u32) -> String {
        let table = format!("{} {}", self.table.family.name(), self.table.name);
        match (seq as usize).checked_sub(1).and_then(|index| self.subjects.get(index)) {
            Some(subject) if subject.name.is_empty() => format!("{} {table}", subject.operation),
            Some(subject) => format!("{} {} of {table}", subject.operation, subject.name),
            None => format!("transaction on {table}"),
        }
    }
}

/// The set that an expression looks up.
fn set_of(expr: &Expr) -> Option<&SetRef> {
    match expr {
        Expr::Lookup { set, .. } | Expr::LookupMap { set, .. } | Expr::LookupVerdict { set, .. } => Some(set),
        _ => None,
    }
}

/// The pattern by which the kernel names a set within a rule.
fn inline_name(set: &Set) -> &'static str {
    if set.data_type().is_some() { "__map%d" } else { "__set%d" }
}

fn comment_bytes(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(COMMENT_LIMIT)];
    let mut bytes = vec![uapi::UDATA_COMMENT, text.len() as u8 + 1];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

/// The family's wildcard for dumps of all tables.
pub(crate) fn family_number(family: Option<Family>) -> u8 {
    family.map_or(0, Family::number)
}
