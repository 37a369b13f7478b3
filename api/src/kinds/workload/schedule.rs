//! Schedules of CronJobs: five fields, or a descriptor such as `@hourly`. The messages are those of upstream's parser.

/// Name, lowest and highest value, and the names that values have.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// # Errors
/// What is wrong with the schedule.
pub fn check(schedule: &str) -> Result<(), String> {
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    if let Some(descriptor) = schedule.strip_prefix('@') {
        return match descriptor {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            _ if descriptor.starts_with("every ") => Ok(()),
            _ => Err(format!("unrecognized descriptor: {schedule}")),
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(FIELDS).try_for_each(|(field, bounds)| field.split(',').try_for_each(|part| range(part, bounds)))
}

/// `*`, `a`, `a-b`, each with an optional `/step`.
fn range(text: &str, (low, high, names): (u32, u32, &[&str])) -> Result<(), String> {
    let number = |value: &str| number(value, low, names);
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, end) = match (parts[0], ends.as_slice()) {
        ("*" | "?", _) => (low, high),
        (_, [one]) => (number(one)?, if parts.len() > 1 { high } else { number(one)? }),
        (_, [from, to]) => (number(from)?, number(to)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => digits(step)?,
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {text}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number(value: &str, low: u32, names: &[&str]) -> Result<u32, String> {
    let lower = value.to_lowercase();
    match names.iter().position(|name| *name == lower) {
        Some(index) => Ok(low + u32::try_from(index).unwrap_or(0)),
        None => digits(value),
    }
}

fn digits(value: &str) -> Result<u32, String> {
    let wrong = |why: &str| format!("failed to parse int from {value}: strconv.Atoi: parsing {value:?}: {why}");
    if value.starts_with('-') && value[1..].parse::<u32>().is_ok() {
        return Err(format!("negative number ({value}) not allowed: {value}"));
    }
    value.parse().map_err(|_| wrong("invalid syntax"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6,12 1 jan mon", "@daily", "0 0 ? * 1-5/2", "@every 1h"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(check(bad).unwrap_err(), message, "{bad}");
        }
    }
}
