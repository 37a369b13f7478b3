//! A range of numbers to give out, with upstream's bands: the lower part is left for those who choose themselves.

use std::collections::{HashMap, HashSet};

use crate::config::Network;

/// Numbers `first..=last`; free ones are picked from `dynamic` on, and below only when nothing is left above.
pub struct Pool {
    first: u32,
    last: u32,
    dynamic: u32,
    /// How many users each number has; more than one after a repair of what others wrote.
    taken: HashMap<u32, u32>,
    reserved: HashSet<u32>,
}

/// Why a chosen number cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    OutOfRange,
    InUse,
}

impl Pool {
    /// The addresses of a network without its first and last. The static band is a 16th, at least 16 and at most 256.
    pub fn addresses(network: Network) -> Self {
        let base = u32::from(network.first);
        let size = 1u32.checked_shl(32 - u32::from(network.prefix)).unwrap_or(u32::MAX);
        let band = band(size, 16, 256);
        Self::new(base + 1, base + size - 2, base + band)
    }

    /// Node ports. The static band is a 32nd, at least 16 and at most 128.
    pub fn ports((first, last): (u16, u16)) -> Self {
        let size = u32::from(last - first) + 1;
        Self::new(first.into(), last.into(), u32::from(first) + band(size, 32, 128))
    }

    fn new(first: u32, last: u32, dynamic: u32) -> Self {
        Self { first, last, dynamic, taken: HashMap::new(), reserved: HashSet::new() }
    }

    pub fn take(&mut self, number: u32) {
        *self.taken.entry(number).or_default() += 1;
    }

    pub fn release(&mut self, number: u32) {
        if let Some(users) = self.taken.get_mut(&number) {
            *users -= 1;
            if *users == 0 {
                self.taken.remove(&number);
            }
        }
    }

    pub fn unreserve(&mut self, number: u32) {
        self.reserved.remove(&number);
    }

    fn is_free(&self, number: u32) -> bool {
        !self.taken.contains_key(&number) && !self.reserved.contains(&number)
    }

    /// Reserves a chosen number.
    pub fn reserve(&mut self, number: u32) -> Result<(), Refused> {
        if !(self.first..=self.last).contains(&number) {
            return Err(Refused::OutOfRange);
        }
        if !self.is_free(number) {
            return Err(Refused::InUse);
        }
        self.reserved.insert(number);
        Ok(())
    }

    /// Reserves any free number, looking from a random place on; `None` when the pool is empty.
    pub fn pick(&mut self, random: u32) -> Option<u32> {
        let found = self.scan(self.dynamic, self.last, random).or_else(|| {
            if self.dynamic == self.first { None } else { self.scan(self.first, self.dynamic - 1, random) }
        })?;
        self.reserved.insert(found);
        Some(found)
    }

    fn scan(&self, low: u32, high: u32, random: u32) -> Option<u32> {
        if low > high {
            return None;
        }
        let size = high - low + 1;
        let start = random % size;
        (0..size).map(|n| low + (start + n) % size).find(|n| self.is_free(*n))
    }

    /// The range in upstream's words for ports.
    pub fn range(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }
}

fn band(size: u32, part: u32, most: u32) -> u32 {
    if size <= 16 { 0 } else { (size / part).clamp(16, most) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn gives_each_number_once_and_the_static_band_last() {
        let mut pool = Pool::addresses(Network { first: Ipv4Addr::new(10, 96, 0, 0), prefix: 26 });
        let base = u32::from(Ipv4Addr::new(10, 96, 0, 0));
        let given: Vec<u32> = std::iter::from_fn(|| pool.pick(7)).collect();
        assert_eq!(given.len(), 62);
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 62);
        assert!(given[..47].iter().all(|n| *n >= base + 16), "the dynamic band goes first");
        assert_eq!(pool.reserve(given[0]), Err(Refused::InUse));
        pool.unreserve(given[0]);
        assert_eq!(pool.reserve(given[0]), Ok(()));
        assert_eq!(pool.reserve(base), Err(Refused::OutOfRange));
    }

    #[test]
    fn counts_users() {
        let mut pool = Pool::ports((30000, 32767));
        assert_eq!((pool.range().as_str(), pool.dynamic), ("30000-32767", 30086));
        pool.take(30001);
        pool.take(30001);
        pool.release(30001);
        assert_eq!(pool.reserve(30001), Err(Refused::InUse));
        pool.release(30001);
        assert_eq!(pool.reserve(30001), Ok(()));
    }
}
