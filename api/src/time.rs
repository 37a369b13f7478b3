//! Times as the API writes them: RFC 3339 in UTC, whole seconds (`metav1.Time`) or microseconds (`metav1.MicroTime`).

use jiff::Timestamp;

/// The latest and earliest second that can be written, years 0 to 9999.
const LAST: i64 = 253_402_207_200;
const FIRST: i64 = -62_135_596_800;

/// `2006-01-02T15:04:05Z` of Unix seconds; times outside the years 1 to 9999 are clamped to them.
pub fn rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds.clamp(FIRST, LAST)) {
        Ok(time) => time.to_string(),
        Err(_) => unreachable!("clamped to the range that a timestamp has"),
    }
}

/// `2006-01-02T15:04:05.000000Z` of Unix microseconds.
pub fn rfc3339_micro(micros: i64) -> String {
    let mut text = rfc3339(micros.div_euclid(1_000_000));
    text.pop();
    text.push_str(&format!(".{:06}Z", micros.rem_euclid(1_000_000)));
    text
}

/// Unix seconds of an RFC 3339 text; fractions are dropped, as upstream stores them.
///
/// # Errors
/// The text is no RFC 3339 time; the message is the one of Go's `time.Parse`.
pub fn parse_rfc3339(text: &str) -> Result<i64, String> {
    parse_micro(text).map(|micros| micros.div_euclid(1_000_000))
}

/// Unix microseconds of an RFC 3339 text with or without a fraction.
///
/// # Errors
/// As [`parse_rfc3339`].
pub fn parse_micro(text: &str) -> Result<i64, String> {
    const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
    if let Some((rest, element)) = mismatch(text) {
        return Err(format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {element:?}"));
    }
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(time.as_microsecond()),
        Err(_) => Err(format!("parsing time {text:?}: {} out of range", out_of_range(text))),
    }
}

/// Where the text first differs from the layout: the rest of the text there, and the layout's element.
fn mismatch(text: &str) -> Option<(&str, &'static str)> {
    const ELEMENTS: [(usize, &str); 11] = [
        (4, "2006"),
        (0, "-"),
        (2, "01"),
        (0, "-"),
        (2, "02"),
        (0, "T"),
        (2, "15"),
        (0, ":"),
        (2, "04"),
        (0, ":"),
        (2, "05"),
    ];
    let mut rest = text;
    for (digits, element) in ELEMENTS {
        let width = if digits == 0 { 1 } else { digits };
        let ok = match rest.get(..width) {
            Some(part) if digits == 0 => part == element,
            Some(part) => part.bytes().all(|b| b.is_ascii_digit()),
            None => false,
        };
        if !ok {
            return Some((rest, element));
        }
        rest = &rest[width..];
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if after.len() < fraction.len() {
            rest = after;
        }
    }
    let offset = rest.as_bytes();
    let is_offset = offset.len() == 6
        && matches!(offset[0], b'+' | b'-')
        && offset[3] == b':'
        && [1, 2, 4, 5].iter().all(|&i| offset[i].is_ascii_digit());
    (rest != "Z" && !is_offset).then_some((rest, "Z07:00"))
}

/// Which part of a well-formed time is out of its range.
fn out_of_range(text: &str) -> &'static str {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    match (number(5, 7), number(11, 13), number(14, 16), number(17, 19)) {
        (0 | 13.., ..) => "month",
        (_, 24.., ..) => "hour",
        (_, _, 60.., _) => "minute",
        (_, _, _, 60..) => "second",
        _ => "day",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn writes_seconds_and_microseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_micro(1_700_000_000_000_042), "2023-11-14T22:13:20.000042Z");
        assert_eq!(rfc3339_micro(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn reads_offsets_and_fractions() {
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20Z"), Ok(1_700_000_000));
        assert_eq!(parse_rfc3339("2023-11-15T00:13:20+02:00"), Ok(1_700_000_000));
        assert_eq!(parse_micro("2023-11-14T22:13:20.000042999Z"), Ok(1_700_000_000_000_042));
    }

    #[test]
    fn errors_are_those_of_go() {
        let error = |text: &str| parse_rfc3339(text).unwrap_err();
        assert_eq!(error("x"), r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#);
        assert_eq!(
            error("2023-11-14 22:13:20Z"),
            r#"parsing time "2023-11-14 22:13:20Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 22:13:20Z" as "T""#
        );
        assert_eq!(error("2023-13-14T22:13:20Z"), r#"parsing time "2023-13-14T22:13:20Z": month out of range"#);
    }
}
