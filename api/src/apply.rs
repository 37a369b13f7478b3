//! Server-side apply: who owns which field of an object (`metadata.managedFields`), and merging applied configurations.
//!
//! [`Write::update`] runs on every create, update and patch; it compares the stored with the new object in one walk.
//! [`Write::apply`] merges a configuration and refuses what others own. Sets of fields stay in the JSON form in which
//! `managedFields` has them, so entries of managers that a write does not touch are not rebuilt.

mod compare;
mod conflict;
mod managed;
mod merge;
mod reset;
mod set;
#[cfg(test)]
mod tests;
mod typed;
mod walk;

use serde_json::Value;

use crate::{Object, Schema, Status, object, time};

use compare::Comparison;
use conflict::Conflict;
use managed::{Entry, Managed, Manager};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How large all annotations of an object may be together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// How long a manager's name is that comes from a user agent.
const MAX_MANAGER_NAME: usize = 128;
const MANAGED_FIELDS: &str = "managedFields";

/// Who writes what, and how.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub schema: &'a Schema,
    pub api_version: &'a str,
    pub kind: &'a str,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// The field manager that the request names, or what stands for it.
    pub manager: &'a str,
    /// Whether the kind's status is written through a subresource only.
    pub status_apart: bool,
    /// Unix seconds.
    pub now: i64,
}

/// A failure that upstream gives no reason for.
fn untyped_failure(message: String) -> Status {
    Status { reason: None, details: None, ..Status::failure(crate::Reason::InternalError, message) }
}

fn managed_fields(object: &Object) -> Option<&Value> {
    object::metadata(object)?.get(MANAGED_FIELDS)
}

fn take_managed_fields(object: &mut Object) -> Option<Value> {
    match object.get_mut("metadata") {
        Some(Value::Object(metadata)) => metadata.remove(MANAGED_FIELDS),
        _ => None,
    }
}

fn put_managed_fields(object: &mut Object, managed: Managed) {
    if let Some(entries) = managed.encode() {
        object::metadata_mut(object).insert(MANAGED_FIELDS.to_owned(), entries);
    }
}

/// Whether a request asks for ownership to be forgotten: no entries, or a single empty one.
fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.values().all(|value| value.is_null() || value.as_str() == Some("")),
        _ => false,
    }
}

/// The manager's name: as the request gives it, else the first part of the user agent as far as it is printable.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_MANAGER_NAME {
            break;
        }
        name.push(c);
    }
    name
}

impl Write<'_> {
    /// Notes in the new object who owns its fields, as the request states it: decoded and defaulted, not yet prepared.
    /// `old` is the stored object, none on create.
    pub fn update(&self, old: Option<&Object>, new: &mut Object) {
        let sent = take_managed_fields(new);
        let mut managed = self.known(old, sent);
        if managed.0.is_empty() && old.is_some_and(|old| !object::uid(old).is_empty()) {
            return;
        }
        self.track(old.unwrap_or(&Object::new()), new, self.manager, &mut managed);
        managed.bound();
        put_managed_fields(new, managed);
    }

    /// The owners before a write: those that the request states, else those of the stored object.
    fn known(&self, old: Option<&Object>, sent: Option<Value>) -> Managed {
        let stored = || Managed::decode(old.and_then(managed_fields).cloned()).unwrap_or_default();
        match sent {
            Some(sent) if self.subresource.is_empty() => {
                if is_reset(&sent) {
                    return Managed::default();
                }
                match Managed::decode(Some(sent)) {
                    Ok(managed) if !managed.0.is_empty() => managed,
                    _ => stored(),
                }
            }
            _ => stored(),
        }
    }

    /// What differs between two objects, of what this write may own.
    fn compare(&self, old: &Object, new: &Object) -> Comparison {
        let mut comparison = Comparison::of(self.schema, old, new).without(reset::fields(self));
        managed::strip(&mut comparison.removed);
        managed::strip(&mut comparison.modified);
        managed::strip(&mut comparison.added);
        comparison
    }

    /// Gives the changed fields to a manager that updates.
    fn track(&self, old: &Object, new: &Object, name: &str, managed: &mut Managed) {
        let mut comparison = self.compare(old, new);
        if comparison.is_same() {
            managed.drop_empty();
            return;
        }
        let changed = comparison.take_changed();
        // A scale has only those managers that own the number, and without managers none are noted.
        let owned = |entry: &Entry| !set::is_empty(&set::intersection(&entry.fields, &changed));
        if self.subresource == "scale" && !managed.0.iter().any(owned) {
            return;
        }
        managed.lose(&changed, &comparison.removed);
        if set::is_empty(&changed) {
            return;
        }
        let manager = self.manager(name, false);
        let time = time::rfc3339(self.now);
        match managed.position(&manager).and_then(|at| managed.0.get_mut(at)) {
            Some(entry) => {
                set::union(&mut entry.fields, changed);
                entry.time = time;
            }
            None => managed.0.push(Entry { manager, time, fields: changed }),
        }
    }

    fn manager(&self, name: &str, applies: bool) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown".to_owned() } else { name.to_owned() },
            applies,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    /// Merges a configuration into the stored object (none: into nothing). Fails when it sets fields of others
    /// otherwise, unless forced to.
    pub fn apply(&self, live: Option<&Object>, config: &Object, force: bool) -> Result<Object, Status> {
        self.check(config)?;
        let mut live = live.cloned().unwrap_or_default();
        let stored = take_managed_fields(&mut live);
        let mut managed = Managed::decode(stored)
            .map_err(|why| untyped_failure(format!("failed to decode managed fields: {why}")))?;
        if managed.0.is_empty() {
            self.track(&Object::new(), &live, "before-first-apply", &mut managed);
        }
        let outcome = match self.merge(&live, config, managed.clone(), force) {
            Err(conflicts) if self.manager == "kubectl" => {
                match conflict::not_last_applied(self.schema, self.api_version, &live, conflicts) {
                    Ok(()) => self.merge(&live, config, managed, true),
                    Err(left) => Err(left),
                }
            }
            outcome => outcome,
        };
        let (mut new, managed) = outcome.map_err(conflict::refused)?;
        merge::tidy(self.schema, &mut new);
        if self.manager == "kubectl" {
            renew_last_applied(&mut new, config);
        }
        put_managed_fields(&mut new, managed);
        Ok(new)
    }

    fn check(&self, config: &Object) -> Result<(), Status> {
        let (version, kind) = (object::str_at(config, &["apiVersion"]), object::str_at(config, &["kind"]));
        if (version, kind) != (self.api_version, self.kind) {
            let core = if version.contains('/') { "" } else { "/" };
            return Err(Status::bad_request(format!("invalid object type: {core}{version}, Kind={kind}")));
        }
        if managed_fields(config).is_some_and(|entries| !entries.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        typed::check(self, config)
    }

    /// The merged object without `managedFields`, and its owners.
    fn merge(
        &self,
        live: &Object,
        config: &Object,
        mut managed: Managed,
        force: bool,
    ) -> Result<(Object, Managed), Vec<Conflict>> {
        let merged = merge::merge(self.schema, live, config);
        let mut fields = merge::fields(self.schema, config);
        set::subtract_below(&mut fields, reset::fields(self));
        let me = self.manager(self.manager, true);
        let last = managed.position(&me).map(|at| managed.0.remove(at));
        let new = match &last {
            Some(last) if !set::is_empty(&last.fields) => self.prune(merged, &last.fields, &fields, &managed),
            _ => merged,
        };
        let mut comparison = self.compare(live, &new);
        let changed = comparison.take_changed();
        let conflicts = managed.0.iter().filter_map(|entry| {
            let fields = set::intersection(&entry.fields, &changed);
            (!set::is_empty(&fields)).then(|| Conflict { manager: entry.manager.clone(), fields })
        });
        let conflicts: Vec<Conflict> = conflicts.collect();
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        managed.lose(&changed, &comparison.removed);
        managed::strip(&mut fields);
        let kept = last.map(|last| last.time).unwrap_or_default();
        let time = if new == *live { kept } else { time::rfc3339(self.now) };
        managed.0.push(Entry { manager: me, time, fields });
        managed.drop_empty();
        Ok((new, managed))
    }

    /// Takes out what this manager applied last time and does not now, unless somebody else owns it.
    fn prune(&self, merged: Object, last: &Object, now: &Object, others: &Managed) -> Object {
        let named = |set: &Object| set::with_named_fields(set, self.schema);
        let last = named(last);
        let all = named(&merge::fields(self.schema, &merged));
        let mut owned = now.clone();
        for entry in &others.0 {
            set::union(&mut owned, entry.fields.clone());
        }
        let pruned = merge::remove(self.schema, &merged, &last);
        let mut gone = set::difference(&all, &named(&merge::fields(self.schema, &pruned)));
        set::subtract(&mut gone, &named(&owned));
        let pruned = merge::remove(self.schema, &merged, &gone);
        let gone = set::difference(&all, &named(&merge::fields(self.schema, &pruned)));
        merge::remove(self.schema, &merged, &set::intersection(&gone, &last))
    }
}

/// Keeps `kubectl`'s annotation in step with what it applies, when the object has one.
fn renew_last_applied(new: &mut Object, config: &Object) {
    if object::str_at(new, &["metadata", "annotations", LAST_APPLIED]).is_empty() {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = object::metadata_mut(&mut config).get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            object::metadata_mut(&mut config).remove("annotations");
        }
    }
    let text = format!("{}\n", Value::Object(config));
    let annotations = object::child_mut(object::metadata_mut(new), "annotations");
    annotations.insert(LAST_APPLIED.to_owned(), Value::String(text));
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}
