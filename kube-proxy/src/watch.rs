//! What a watch of the API means for an index of objects by name.

use std::collections::BTreeSet;

use client::watch::{Config, Event, Unread};
use kube::Resource;

use crate::model::Name;

/// Those objects of a kind whose labels match; all, when the selector is empty.
pub fn selecting(labels: &str) -> Config {
    Config::default().labels(labels)
}

/// What one event means for an index of objects by name.
pub enum Change<K> {
    Set(Name, Box<K>),
    Remove(Name),
    /// A list ended: what is not among these names does not exist.
    Retain(BTreeSet<Name>),
}

/// Turns a watch's events into changes of an index.
#[derive(Debug, Default)]
pub struct Listing {
    seen: Option<BTreeSet<Name>>,
    synced: bool,
}

impl Listing {
    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// What the event changes.
    pub fn step<K: Resource<DynamicType = ()>>(&mut self, event: Event<K>) -> Option<Change<K>> {
        match event {
            Event::Init => {
                self.seen = Some(BTreeSet::new());
                None
            }
            Event::InitDone => {
                self.synced = true;
                self.seen.take().map(Change::Retain)
            }
            Event::InitApply(object) => {
                let name = Name::of(&object);
                if let Some(seen) = &mut self.seen {
                    seen.insert(name.clone());
                }
                Some(Change::Set(name, Box::new(object)))
            }
            Event::Apply(object) => Some(Change::Set(Name::of(&object), Box::new(object))),
            Event::Delete(object) => Some(Change::Remove(Name::of(&object))),
            Event::Unread(Unread { key, deleted, .. }) => {
                let name = Name { namespace: key.namespace, name: key.name };
                if deleted {
                    return Some(Change::Remove(name));
                }
                // It stays as it was.
                if let Some(seen) = &mut self.seen {
                    seen.insert(name);
                }
                None
            }
        }
    }
}
