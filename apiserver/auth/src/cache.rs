//! A bounded map that forgets what was not used lately.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// Two halves: what is used moves to the young one; when that is full it becomes the old one, and the old is dropped.
pub(crate) struct Cache<K, V> {
    halves: Mutex<(HashMap<K, V>, HashMap<K, V>)>,
    half: usize,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// A cache of at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { halves: Mutex::default(), half: (capacity / 2).max(1) }
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let mut halves = self.halves.lock();
        if let Some(value) = halves.0.get(key) {
            return Some(value.clone());
        }
        let (key, value) = halves.1.remove_entry(key)?;
        self.put(&mut halves, key, value.clone());
        Some(value)
    }

    pub fn insert(&self, key: K, value: V) {
        self.put(&mut self.halves.lock(), key, value);
    }

    fn put(&self, halves: &mut (HashMap<K, V>, HashMap<K, V>), key: K, value: V) {
        if halves.0.len() >= self.half {
            halves.1 = std::mem::take(&mut halves.0);
        }
        halves.0.insert(key, value);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        let halves = self.halves.lock();
        halves.0.len() + halves.1.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        cache.insert(0, 0);
        for n in 1..1000 {
            cache.insert(n, n);
            assert_eq!(cache.get(&0), Some(0), "used before each insert");
            assert!(cache.len() <= 10);
        }
        assert_eq!(cache.get(&1), None);
    }
}
