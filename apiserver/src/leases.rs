//! Store leases for resources whose objects die after a time (Events): many objects share one lease.

use std::collections::HashMap;
use std::sync::Arc;

use store::Kv;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

/// Objects written within this many seconds share a lease.
const SHARE_SECONDS: u64 = 60;

/// At most this many objects share a lease, so that its end is no flood.
const SHARE_OBJECTS: u32 = 1000;

pub struct Leases {
    kv: Arc<dyn Kv>,
    /// Seconds to live by storage prefix.
    ttl: HashMap<String, u64>,
    current: Mutex<HashMap<String, Current>>,
}

struct Current {
    id: i64,
    granted: Instant,
    objects: u32,
}

impl Leases {
    pub fn new(kv: Arc<dyn Kv>, ttl: HashMap<String, u64>) -> Self {
        Self { kv, ttl, current: Mutex::default() }
    }

    /// The lease to write an object of this resource under; 0 when its objects stay.
    pub async fn lease_for(&self, storage_prefix: &str) -> Result<i64, store::Error> {
        let Some(&ttl) = self.ttl.get(storage_prefix) else { return Ok(0) };
        let mut current = self.current.lock().await;
        if let Some(held) = current.get_mut(storage_prefix)
            && held.objects < SHARE_OBJECTS
            && held.granted.elapsed() < Duration::from_secs(SHARE_SECONDS)
        {
            held.objects += 1;
            return Ok(held.id);
        }
        let id = self.kv.lease_grant(0, (ttl + SHARE_SECONDS) as i64).await?;
        current.insert(storage_prefix.to_owned(), Current { id, granted: Instant::now(), objects: 1 });
        Ok(id)
    }
}
