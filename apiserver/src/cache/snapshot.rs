//! A resource's objects at one revision: what a LIST and its continued pages read. Free to take, immutable.

use std::sync::Arc;

use super::Objects;
use super::entry::Cached;

#[derive(Clone)]
pub struct Snapshot {
    /// The store's revision that this is the state of.
    pub revision: i64,
    /// Revision of the resource's newest change in it; the state is the same from there to `revision`.
    pub changed: i64,
    pub objects: Objects,
}

impl Snapshot {
    /// Objects of a namespace (all when empty) in key order, those after the key `after` when it is not empty.
    pub fn range<'a>(&'a self, namespace: &str, after: &str) -> impl Iterator<Item = &'a Arc<Cached>> + use<'a> {
        let mut start: String;
        let mut end = None;
        if namespace.is_empty() {
            start = String::new();
        } else {
            start = format!("{namespace}/");
            end = Some(format!("{namespace}0"));
        }
        let mut exclusive = false;
        if after > start.as_str() {
            start = after.to_owned();
            exclusive = true;
        }
        let lower = if exclusive { std::ops::Bound::Excluded(start) } else { std::ops::Bound::Included(start) };
        let upper = end.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let lower = bound(&lower);
        let upper_ref = bound(&upper);
        self.objects.range::<_, str>((lower, upper_ref)).map(|(_, v)| v)
    }
}

fn bound(bound: &std::ops::Bound<String>) -> std::ops::Bound<&str> {
    bound.as_ref().map(String::as_str)
}
