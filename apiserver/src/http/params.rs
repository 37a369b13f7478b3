//! Query parameters of API requests, read once.

use std::borrow::Cow;
use std::num::IntErrorKind;

use api::Status;
use api::field::go_quote;

/// The parameters that the pipeline knows; others are ignored, as upstream does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params<'a> {
    pub label_selector: Cow<'a, str>,
    pub field_selector: Cow<'a, str>,
    pub watch: bool,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout_seconds: Option<i64>,
    pub resource_version: Cow<'a, str>,
    pub resource_version_match: Cow<'a, str>,
    pub limit: u64,
    pub continues: Cow<'a, str>,
    pub dry_run: bool,
    /// All that was asked for as `dryRun`; only `All` is known, which [`crate::pipeline::options`] checks.
    pub dry_runs: Vec<Cow<'a, str>>,
    pub field_manager: Cow<'a, str>,
    pub field_validation: Cow<'a, str>,
    pub force: Option<bool>,
    pub pretty: Option<bool>,
    pub propagation_policy: Option<Cow<'a, str>>,
    pub orphan_dependents: Option<bool>,
    pub grace_period_seconds: Option<i64>,
    pub include_object: Cow<'a, str>,
    pub timeout: Cow<'a, str>,
}

impl<'a> Params<'a> {
    /// Reads a query string; a malformed number or boolean is a 400.
    pub fn parse(query: &'a str) -> Result<Self, Status> {
        let mut params = Self::default();
        for (key, value) in pairs(query) {
            match &*key {
                "labelSelector" => params.label_selector = value,
                "fieldSelector" => params.field_selector = value,
                "watch" => params.watch = boolean(&value),
                "allowWatchBookmarks" => params.allow_bookmarks = boolean(&value),
                "sendInitialEvents" => params.send_initial_events = Some(boolean(&value)),
                "timeoutSeconds" => params.timeout_seconds = Some(number(&value)?),
                "resourceVersion" => params.resource_version = value,
                "resourceVersionMatch" => params.resource_version_match = value,
                "limit" => params.limit = u64::try_from(number(&value)?).unwrap_or(0),
                "continue" => params.continues = value,
                "dryRun" => {
                    params.dry_run = true;
                    params.dry_runs.push(value);
                }
                "fieldManager" => params.field_manager = value,
                "fieldValidation" => params.field_validation = value,
                "force" => params.force = Some(boolean(&value)),
                "pretty" => params.pretty = Some(boolean(&value)),
                "propagationPolicy" => params.propagation_policy = Some(value),
                "orphanDependents" => params.orphan_dependents = Some(boolean(&value)),
                "gracePeriodSeconds" => params.grace_period_seconds = Some(number(&value)?),
                "includeObject" => params.include_object = value,
                "timeout" if !duration(&value) => {
                    let text = "invalid timeout specified in the request URL";
                    return Err(Status::bad_request(format!("{text} - time: invalid duration {}", go_quote(&value))));
                }
                "timeout" => params.timeout = value,
                _ => {}
            }
        }
        Ok(params)
    }
}

/// Upstream's conversion: `false` and `0` are false, all else (also nothing) is true.
fn boolean(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

/// A number, as Go's `strconv.ParseInt` reads it; a 400 in its words.
pub fn number(value: &str) -> Result<i64, Status> {
    value.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", go_quote(value)))
    })
}

/// Whether Go's `time.ParseDuration` reads the text: `1m30s`, `-1.5h`, `0`; nothing at all is no wish.
fn duration(value: &str) -> bool {
    let mut rest = value.strip_prefix(['-', '+']).unwrap_or(value);
    if matches!(value, "") || rest == "0" {
        return true;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let is_number = number.matches('.').count() <= 1 && number.bytes().any(|b| b.is_ascii_digit());
        if !is_number || !matches!(unit, "ns" | "us" | "\u{b5}s" | "\u{3bc}s" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = after;
    }
    !value.trim_start_matches(['-', '+']).is_empty()
}

/// Keys and values of a query string, decoded. Pairs with malformed escapes or semicolons are passed over, as Go does.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|p| !p.is_empty() && !p.contains(';')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unquote(key)?, unquote(value)?))
    })
}

/// Decodes `+` and percent escapes; `None` when an escape is malformed.
fn unquote(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    super::route::unescape(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_kubectl_sends() {
        let query = "labelSelector=app%3Dweb%2Ctier+in+%28a%29&limit=500&watch=true&fieldManager=kubectl-create&x=1";
        let params = Params::parse(query).unwrap();
        assert_eq!(params.label_selector, "app=web,tier in (a)");
        assert_eq!((params.limit, params.watch, &*params.field_manager), (500, true, "kubectl-create"));
        assert!(Params::parse("limit=x").is_err());
        assert_eq!(Params::parse("dryRun=Some").unwrap().dry_runs, ["Some"]);
        assert!(Params::parse("timeout=1m30s").is_ok() && Params::parse("timeout=soon").is_err());
        assert!(Params::parse("dryRun=All").unwrap().dry_run);
    }
}
