//! The caches as authentication, authorization and admission read them.

use std::sync::Arc;

use api::{Gvr, Object};
use apiserver_auth::Objects;

use super::Shared;
use crate::cache::{Cached, View};
use crate::rows::Rows;

/// Of longer lists the decoded objects are not kept: they would double the memory of what is seldom looked at.
const KEPT: usize = 16;

fn decoded(cached: &Cached) -> Option<Arc<Object>> {
    readable(cached, cached.decoded().cloned())
}

/// Objects of a list, decoded.
fn all(found: Vec<Arc<Cached>>) -> Vec<Arc<Object>> {
    if found.len() <= KEPT {
        return found.iter().filter_map(|c| decoded(c)).collect();
    }
    found.iter().filter_map(|c| readable(c, c.decode().map(Arc::new))).collect()
}

fn readable(cached: &Cached, object: Result<Arc<Object>, serde_json::Error>) -> Option<Arc<Object>> {
    match object {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = &*cached.key, %error, "cached object is unreadable");
            None
        }
    }
}

impl Objects for Rows {
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let row = self.by_gvr(gvr)?;
        decoded(&*row.cache.get(&row.key(namespace, name))?)
    }

    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Arc<Object>> {
        let Some(row) = self.by_gvr(gvr) else { return Vec::new() };
        let snapshot = row.cache.snapshot(0);
        all(snapshot.range(namespace, "").cloned().collect())
    }

    fn list_by_field(&self, gvr: &Gvr, namespace: &str, field: &str, value: &str) -> Vec<Arc<Object>> {
        let Some(row) = self.by_gvr(gvr) else { return Vec::new() };
        let selector = format!("{field}={}", api::fields::escape(value));
        let Ok(view) = View::new(row, namespace, "", &selector) else { return Vec::new() };
        let snapshot = row.cache.snapshot(0);
        all(snapshot.range(namespace, "").filter(|c| view.matches(c)).cloned().collect())
    }

    fn generation(&self, gvr: &Gvr) -> u64 {
        self.by_gvr(gvr).map_or(0, |row| row.cache.changed() as u64)
    }
}

impl Objects for Shared {
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.rows.load().get(gvr, namespace, name)
    }

    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Arc<Object>> {
        self.rows.load().list(gvr, namespace)
    }

    fn list_by_field(&self, gvr: &Gvr, namespace: &str, field: &str, value: &str) -> Vec<Arc<Object>> {
        self.rows.load().list_by_field(gvr, namespace, field, value)
    }

    fn generation(&self, gvr: &Gvr) -> u64 {
        self.rows.load().generation(gvr)
    }
}
