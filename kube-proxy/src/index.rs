//! What the API says of Services and their endpoints, and which Services changed since the last look.

use std::collections::{BTreeSet, HashMap};

use crate::model::{Name, Service, Slice};

/// Services and EndpointSlices by name.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<Name, Service>,
    slices: HashMap<Name, Slice>,
    slices_of: HashMap<Name, BTreeSet<Name>>,
    dirty: BTreeSet<Name>,
}

impl Index {
    /// Puts a Service in, or takes it out.
    pub fn set_service(&mut self, name: Name, service: Option<Service>) {
        let changed = match service {
            Some(service) if self.services.get(&name) == Some(&service) => false,
            Some(service) => {
                self.services.insert(name.clone(), service);
                true
            }
            None => self.services.remove(&name).is_some(),
        };
        if changed {
            self.dirty.insert(name);
        }
    }

    /// Puts an EndpointSlice in, or takes it out.
    pub fn set_slice(&mut self, name: Name, slice: Option<Slice>) {
        if self.slices.get(&name) == slice.as_ref() {
            return;
        }
        if let Some(old) = self.slices.remove(&name) {
            if let Some(names) = self.slices_of.get_mut(&old.service) {
                names.remove(&name);
                if names.is_empty() {
                    self.slices_of.remove(&old.service);
                }
            }
            self.dirty.insert(old.service);
        }
        if let Some(slice) = slice {
            self.dirty.insert(slice.service.clone());
            self.slices_of.entry(slice.service.clone()).or_default().insert(name.clone());
            self.slices.insert(name, slice);
        }
    }

    /// Takes out every Service that is not among `kept`.
    pub fn retain_services(&mut self, kept: &BTreeSet<Name>) {
        let gone: Vec<Name> = self.services.keys().filter(|name| !kept.contains(name)).cloned().collect();
        gone.into_iter().for_each(|name| self.set_service(name, None));
    }

    /// Takes out every slice that is not among `kept`.
    pub fn retain_slices(&mut self, kept: &BTreeSet<Name>) {
        let gone: Vec<Name> = self.slices.keys().filter(|name| !kept.contains(name)).cloned().collect();
        gone.into_iter().for_each(|name| self.set_slice(name, None));
    }

    /// Counts every Service as changed.
    pub fn touch_all(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
    }

    /// The names of Services that changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.dirty)
    }

    /// Whether something changed since [`Index::take_dirty`].
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// A Service and its slices.
    pub fn get(&self, name: &Name) -> Option<(&Service, Vec<&Slice>)> {
        let service = self.services.get(name)?;
        let names = self.slices_of.get(name).into_iter().flatten();
        Some((service, names.filter_map(|slice| self.slices.get(slice)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(service: &str) -> Slice {
        Slice { service: Name::new("ns", service), ports: Vec::new(), endpoints: Vec::new() }
    }

    #[test]
    fn only_changes_make_services_dirty() {
        let mut index = Index::default();
        let name = Name::new("ns", "a");
        index.set_service(name.clone(), Some(Service::default()));
        assert_eq!(index.take_dirty(), BTreeSet::from([name.clone()]));
        index.set_service(name.clone(), Some(Service::default()));
        assert!(!index.is_dirty());

        index.set_slice(Name::new("ns", "a-1"), Some(slice("a")));
        assert_eq!(index.take_dirty(), BTreeSet::from([name.clone()]));
        index.set_slice(Name::new("ns", "a-1"), Some(slice("b")));
        assert_eq!(index.take_dirty(), BTreeSet::from([name.clone(), Name::new("ns", "b")]));
        assert_eq!(index.get(&name).map(|(_, slices)| slices.len()), Some(0));

        index.retain_services(&BTreeSet::new());
        assert_eq!(index.take_dirty(), BTreeSet::from([name.clone()]));
        assert!(index.get(&name).is_none());
        index.retain_slices(&BTreeSet::new());
        assert_eq!(index.take_dirty(), BTreeSet::from([Name::new("ns", "b")]));
    }
}
