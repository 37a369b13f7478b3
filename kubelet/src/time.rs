//! The clock at the edge, and conversions between CRI's nanoseconds, API times and Go's way of writing durations.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Nanoseconds since the epoch, or a span of them, as CRI counts.
pub type Nanos = i64;

pub const SECOND: Nanos = 1_000_000_000;

pub fn now() -> Nanos {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// The instant with the fraction of a second cut off: API times have whole seconds.
pub fn api_time(nanos: Nanos) -> Time {
    Time(Timestamp::from_second(nanos.div_euclid(SECOND)).unwrap_or(Timestamp::UNIX_EPOCH))
}

pub fn nanos_of(time: &Time) -> Nanos {
    i64::try_from(time.0.as_nanosecond()).unwrap_or(i64::MAX)
}

/// A span as Go prints it: `1m30s`, `2.5s`, `120ms`.
pub fn go_duration(nanos: Nanos) -> String {
    if nanos < SECOND {
        return match nanos {
            0 => "0s".to_owned(),
            n if n < 1_000 => format!("{n}ns"),
            n if n < 1_000_000 => format!("{}µs", decimal(n, 1_000)),
            n => format!("{}ms", decimal(n, 1_000_000)),
        };
    }
    let (minutes, rest) = (nanos / (60 * SECOND), nanos % (60 * SECOND));
    let seconds = format!("{}s", decimal(rest, SECOND));
    match minutes {
        0 => seconds,
        m if m < 60 => format!("{m}m{seconds}"),
        m => format!("{}h{}m{seconds}", m / 60, m % 60),
    }
}

fn decimal(value: i64, unit: i64) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_go() {
        for (nanos, want) in [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (120 * 1_000_000, "120ms"),
            (10 * SECOND, "10s"),
            (SECOND + SECOND / 4, "1.25s"),
            (160 * SECOND, "2m40s"),
            (300 * SECOND, "5m0s"),
            (3_661 * SECOND, "1h1m1s"),
        ] {
            assert_eq!(go_duration(nanos), want);
        }
    }
}
