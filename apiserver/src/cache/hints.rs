//! What a writer already knows of the bytes it commits, handed to the feed so that it need not decode them again.
//!
//! The embedded store hands the very bytes that were put to its watchers, so their address tells them. With another
//! store nothing is found here, and the feed decodes.

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use bytes::Bytes;
use parking_lot::Mutex;

/// More writes than this are never in flight at once; older hints are dropped, which only costs a decode.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Hints(Mutex<HashMap<usize, (Bytes, Arc<Object>)>>);

impl Hints {
    /// Remembers the object of bytes about to be committed. The bytes are kept alive, so their address stays theirs.
    pub fn put(&self, stored: &Bytes, object: Arc<Object>) {
        let mut hints = self.0.lock();
        if hints.len() >= MOST {
            hints.clear();
        }
        hints.insert(stored.as_ptr() as usize, (stored.clone(), object));
    }

    /// The object of these bytes, if their writer left it.
    pub fn take(&self, stored: &Bytes) -> Option<Arc<Object>> {
        let mut hints = self.0.lock();
        let found = hints.get(&(stored.as_ptr() as usize))?;
        if found.0.len() != stored.len() {
            return None;
        }
        hints.remove(&(stored.as_ptr() as usize)).map(|(_, object)| object)
    }
}
