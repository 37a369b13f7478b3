//! A common beat: what is done every so often in one process wakes together, so that an idle process wakes seldom, and
//! what it writes then shares one sync of the disk.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// When the first beat was.
static START: OnceLock<Instant> = OnceLock::new();

/// Returns at the next multiple of `period` since the process's first beat: after `period` at most.
pub async fn next(period: Duration) {
    let start = *START.get_or_init(Instant::now);
    tokio::time::sleep(until_next(start.elapsed(), period)).await;
}

fn until_next(elapsed: Duration, period: Duration) -> Duration {
    let (elapsed, whole) = (elapsed.as_nanos(), period.as_nanos().max(1));
    let left = whole - elapsed % whole;
    Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_of_one_period_fall_together_and_on_those_of_its_parts() {
        let ms = Duration::from_millis;
        for (elapsed, period, expected) in [(0, 5000, 5000), (1, 5000, 4999), (7300, 5000, 2700), (10_000, 5000, 5000)]
        {
            assert_eq!(until_next(ms(elapsed), ms(period)), ms(expected), "{elapsed}");
        }
    }
}
