//! A cluster in a map, for tests.
#![allow(clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Gvr, Object, object};
use serde_json::Value;

use crate::objects::Objects;

/// Objects by resource, namespace and name.
#[derive(Default)]
pub struct Cluster {
    objects: BTreeMap<(String, String, String), Arc<Object>>,
    generations: BTreeMap<String, u64>,
}

/// The object that a JSON literal is.
pub fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

impl Cluster {
    #[must_use]
    pub fn with(mut self, gvr: &Gvr, value: Value) -> Self {
        self.put(gvr, value);
        self
    }

    pub fn put(&mut self, gvr: &Gvr, value: Value) {
        let object = object(value);
        let key = (gvr.to_string(), object::namespace(&object).to_owned(), object::name(&object).to_owned());
        *self.generations.entry(gvr.to_string()).or_default() += 1;
        self.objects.insert(key, Arc::new(object));
    }

    pub fn remove(&mut self, gvr: &Gvr, namespace: &str, name: &str) {
        *self.generations.entry(gvr.to_string()).or_default() += 1;
        self.objects.remove(&(gvr.to_string(), namespace.to_owned(), name.to_owned()));
    }
}

impl Objects for Cluster {
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&(gvr.to_string(), namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Arc<Object>> {
        let of = gvr.to_string();
        let here = |(gvr, ns, _): &(String, String, String)| *gvr == of && (namespace.is_empty() || ns == namespace);
        self.objects.iter().filter(|(key, _)| here(key)).map(|(_, object)| object.clone()).collect()
    }

    fn list_by_field(&self, gvr: &Gvr, namespace: &str, field: &str, value: &str) -> Vec<Arc<Object>> {
        let path: Vec<&str> = field.split('.').collect();
        let mut found = self.list(gvr, namespace);
        found.retain(|object| object::str_at(object, &path) == value);
        found
    }

    fn generation(&self, gvr: &Gvr) -> u64 {
        self.generations.get(&gvr.to_string()).copied().unwrap_or(0)
    }
}
