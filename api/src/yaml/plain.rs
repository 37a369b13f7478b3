//! Which plain (unquoted) scalars read as text: the rules of go-yaml v2, which `sigs.k8s.io/yaml` writes by.

/// Words that read as null, booleans, floats or a merge key.
const WORDS: [&str; 39] = [
    "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N", "no", "No", "NO", "false",
    "False", "FALSE", "off", "Off", "OFF", "", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN", ".inf", ".Inf",
    ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
];

fn all(text: &str, is_digit: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(is_digit)
}

fn is_integer(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let based = |rest: &str, base: u32| all(rest, |b| char::from(b).is_digit(base));
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => based(&text[2..], 16),
        [b'0', b'o' | b'O', ..] => based(&text[2..], 8),
        [b'0', b'b' | b'B', ..] => based(&text[2..], 2),
        [b'0', _, ..] => based(&text[1..], 8),
        _ => based(text, 10),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(n, e)| (n, Some(e)));
    let is_exponent = |e: &str| all(e.strip_prefix(['+', '-']).unwrap_or(e), |b| b.is_ascii_digit());
    if !exponent.is_none_or(is_exponent) {
        return false;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

/// Base 60, which YAML 1.1 has and go-yaml quotes though it does not read it.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !all(first, |b| b.is_ascii_digit() || b == b'_') {
        return false;
    }
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return false };
    let (seconds, fraction) = last.split_once('.').unwrap_or((last, ""));
    let sixty = |part: &str| match part.as_bytes() {
        [d] => d.is_ascii_digit(),
        [t, d] => (b'0'..=b'5').contains(t) && d.is_ascii_digit(),
        _ => false,
    };
    rest.into_iter().all(sixty) && sixty(seconds) && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

/// `2006-1-2`, with a time of day after `T`, `t` or a space, or without.
fn is_timestamp(text: &str) -> bool {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((&text[at..at + 1], &text[at + 1..]))),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let within = |part: &str, most: u32, widths: &[usize]| {
        widths.contains(&part.len()) && part.parse::<u32>().is_ok_and(|n| n <= most)
    };
    if year.len() != 4 || !all(year, |b| b.is_ascii_digit()) || !within(month, 12, &[1, 2]) || !within(day, 31, &[1, 2])
    {
        return false;
    }
    let Some((separator, time)) = time else { return true };
    let zone_at = time.find(['Z', '+', '-']);
    let (clock, has_zone) = (&time[..zone_at.unwrap_or(time.len())], zone_at.is_some());
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return false };
    let second = second.split('.').next().unwrap_or_default();
    let is_clock = within(hour, 24, &[1, 2]) && within(minute, 59, &[1, 2]) && within(second, 60, &[1, 2]);
    is_clock && has_zone == (separator != " ")
}

/// Whether a plain scalar reads as text.
pub(super) fn is_text(text: &str) -> bool {
    let Some(first) = text.bytes().next() else { return false };
    if WORDS.contains(&text) {
        return false;
    }
    match first {
        b'.' => !is_float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let plain = text.replace('_', "");
            !(is_integer(&plain) || is_float(&plain) || is_timestamp(text) || is_base_60(text))
        }
        _ => true,
    }
}
