//! What of a log is asked for: the query of `/containerLogs`, as the API's PodLogOptions.

use std::collections::HashMap;

use crate::time::{Nanos, SECOND};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    /// Only entries from then on.
    pub since: Option<Nanos>,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Not more bytes than that.
    pub limit: Option<u64>,
    /// `stdout`, `stderr`, or both.
    pub stream: Option<&'static str>,
}

impl Options {
    /// Reads a query.
    ///
    /// # Errors
    /// A value is no number, no time, or out of range; the text names the field.
    pub fn parse(query: &HashMap<String, String>, now: Nanos) -> Result<Self, String> {
        let flag = |name: &str| query.get(name).is_some_and(|v| v == "true" || v == "1" || v.is_empty());
        let number = |name: &str| -> Result<Option<u64>, String> {
            let Some(text) = query.get(name).filter(|t| !t.is_empty()) else { return Ok(None) };
            text.parse()
                .map(Some)
                .map_err(|_| format!("{name}: Invalid value: {text:?}: must be greater than or equal to 0"))
        };
        let seconds = number("sinceSeconds")?;
        let time = match query.get("sinceTime").filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => {
                let time: jiff::Timestamp =
                    text.parse().map_err(|e| format!("sinceTime: Invalid value: {text:?}: {e}"))?;
                i64::try_from(time.as_nanosecond()).ok()
            }
        };
        if seconds.is_some() && time.is_some() {
            return Err("only one of `sinceSeconds` or `sinceTime` may be specified".to_owned());
        }
        let since = seconds.map(|s| now - i64::try_from(s).unwrap_or(0).saturating_mul(SECOND));
        let stream = match query.get("stream").map(String::as_str) {
            None | Some("" | "All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(other) => {
                return Err(format!(
                    "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
                ));
            }
        };
        Ok(Self {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            since: since.or(time),
            tail: number("tailLines")?,
            limit: number("limitBytes")?,
            stream,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn queries() {
        let parse = |pairs: &[(&str, &str)]| {
            let query = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Options::parse(&query, 100 * SECOND)
        };
        let got =
            parse(&[("follow", "true"), ("tailLines", "5"), ("sinceSeconds", "10"), ("limitBytes", "9")]).unwrap();
        assert_eq!((got.follow, got.tail, got.since, got.limit), (true, Some(5), Some(90 * SECOND), Some(9)));
        assert!(parse(&[("tailLines", "-1")]).is_err());
        assert!(parse(&[("sinceSeconds", "1"), ("sinceTime", "2026-01-01T00:00:00Z")]).is_err());
        assert_eq!(parse(&[("sinceTime", "1970-01-01T00:00:01Z")]).unwrap().since, Some(SECOND));
    }
}
