//! What a writer already knows of the bytes it commits, handed to the feed so that it need not decode them again.

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use bytes::Bytes;
use parking_lot::Mutex;

/// More writes than this are never in flight at once; older hints are dropped, which only costs a decode.
const MOST: usize = 4096;

/// Objects of writes in flight, by storage key. A hint only serves the very bytes that it was left for.
#[derive(Default)]
pub struct Hints(Mutex<HashMap<Bytes, (Bytes, Arc<Object>)>>);

impl Hints {
    /// Remembers the object of bytes about to be committed.
    pub fn put(&self, key: &Bytes, stored: &Bytes, object: Arc<Object>) {
        let mut hints = self.0.lock();
        if hints.len() >= MOST {
            hints.clear();
        }
        hints.insert(key.clone(), (stored.clone(), object));
    }

    /// The object of these bytes, if their writer left it.
    pub fn take(&self, key: &[u8], stored: &[u8]) -> Option<Arc<Object>> {
        let mut hints = self.0.lock();
        if hints.get(key)?.0 != stored {
            return None;
        }
        hints.remove(key).map(|(_, object)| object)
    }
}
