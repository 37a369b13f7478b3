//! Query parameters of API requests, read once.

use std::borrow::Cow;

use api::Status;

/// The parameters that the pipeline knows; others are ignored, as upstream does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params<'a> {
    pub label_selector: Cow<'a, str>,
    pub field_selector: Cow<'a, str>,
    pub watch: bool,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout_seconds: Option<u64>,
    pub resource_version: Cow<'a, str>,
    pub resource_version_match: Cow<'a, str>,
    pub limit: u64,
    pub continues: Cow<'a, str>,
    pub dry_run: bool,
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
                "timeoutSeconds" => params.timeout_seconds = Some(number("timeoutSeconds", &value)?),
                "resourceVersion" => params.resource_version = value,
                "resourceVersionMatch" => params.resource_version_match = value,
                "limit" => params.limit = number("limit", &value)?,
                "continue" => params.continues = value,
                "dryRun" => params.dry_run = dry_run(&value)?,
                "fieldManager" => params.field_manager = value,
                "fieldValidation" => params.field_validation = value,
                "force" => params.force = Some(boolean(&value)),
                "pretty" => params.pretty = Some(boolean(&value)),
                "propagationPolicy" => params.propagation_policy = Some(value),
                "orphanDependents" => params.orphan_dependents = Some(boolean(&value)),
                "gracePeriodSeconds" => params.grace_period_seconds = Some(number("gracePeriodSeconds", &value)?),
                "includeObject" => params.include_object = value,
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

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Status>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|_| {
        Status::bad_request(format!(
            "unable to parse query parameter {name}: strconv.ParseInt: parsing {value:?}: invalid syntax"
        ))
    })
}

/// `All` is the only stage there is.
pub fn dry_run(value: &str) -> Result<bool, Status> {
    match value {
        "All" => Ok(true),
        "" => Ok(false),
        other => Err(Status::failure(
            api::Reason::Invalid,
            format!(" \"\" is invalid: dryRun: Unsupported value: {other:?}: supported values: \"All\""),
        )),
    }
}

/// Keys and values of a query string, decoded.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unquote(key), unquote(value))
    })
}

/// Decodes `+` and percent escapes; malformed escapes stay as they are.
fn unquote(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    match super::route::unescape(&spaced) {
        Some(decoded) => Cow::Owned(decoded.into_owned()),
        None => Cow::Owned(spaced),
    }
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
        assert!(Params::parse("dryRun=Some").is_err());
        assert!(Params::parse("dryRun=All").unwrap().dry_run);
    }
}
