//! Errors as kubectl tells them, and the exit code that goes with each.

use std::process::ExitCode;

use serde_json::Value;

use crate::remote::command::Ended;

pub(crate) type Result<T> = anyhow::Result<T>;

/// The server's answer was a failure.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub code: u64,
    pub reason: String,
    pub message: String,
    /// The whole `metav1.Status`.
    pub status: Value,
}

/// The verb ended with an exit code of its own; what there was to say is said.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub(crate) struct Exit(pub u8);

/// The words were wrong; shown with a hint at the verb's help.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Usage {
    pub message: String,
    pub verb: String,
}

/// What is told as it is, without "error:" before it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Plain(pub String);

/// An error in the words of a verb.
pub(crate) fn usage(verb: &str, message: impl Into<String>) -> anyhow::Error {
    Usage { message: message.into(), verb: verb.to_owned() }.into()
}

impl ApiError {
    /// From the body of a failed answer.
    pub(crate) fn of(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if status.get("kind").and_then(Value::as_str) == Some("Status") {
            let code = status.get("code").and_then(Value::as_u64).unwrap_or(code.into());
            return Self { code, reason: text("reason"), message: text("message"), status };
        }
        let body = String::from_utf8_lossy(body);
        let message = match body.trim() {
            _ if code == 404 => "the server could not find the requested resource".to_owned(),
            "" => format!("the server answered {code}"),
            text => text.to_owned(),
        };
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            _ => "",
        };
        Self { code: code.into(), reason: reason.to_owned(), message, status: Value::Null }
    }

    pub(crate) fn not_found(message: &str) -> Self {
        Self { code: 404, reason: "NotFound".to_owned(), message: message.to_owned(), status: Value::Null }
    }

    pub(crate) fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }
}

/// Whether an error is the server's with this reason.
pub(crate) fn has_reason(error: &anyhow::Error, reason: &str) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|api| api.is(reason))
}

/// Prints an error; the exit code of the process.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Exit(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    if let Some(Ended(code)) = error.downcast_ref() {
        eprintln!("{error}");
        return ExitCode::from(*code);
    }
    if let Some(io) = error.downcast_ref::<std::io::Error>()
        && io.kind() == std::io::ErrorKind::BrokenPipe
    {
        // Whoever read our output has enough, as with SIGPIPE.
        return ExitCode::from(141);
    }
    eprintln!("{}", text(error));
    ExitCode::FAILURE
}

/// Prints an error that does not end the verb.
pub(crate) fn say(error: &anyhow::Error) {
    if error.downcast_ref::<Exit>().is_some() {
        // What there was to say is said.
        return;
    }
    eprintln!("{}", text(error));
}

/// An error in kubectl's form.
pub(crate) fn text(error: &anyhow::Error) -> String {
    if let Some(usage) = error.downcast_ref::<Usage>() {
        return format!("error: {}\nSee 'cox {} --help' for usage.", usage.message, usage.verb);
    }
    if let Some(api) = error.downcast_ref::<ApiError>() {
        return api_text(api, error);
    }
    let text = format!("{error:#}");
    if error.downcast_ref::<Plain>().is_some() {
        return text;
    }
    if text.starts_with("The connection to the server") || text.starts_with("Unable to connect") {
        return text;
    }
    format!("error: {text}")
}

fn api_text(api: &ApiError, error: &anyhow::Error) -> String {
    // Contexts that were put around the server's error stand before its message.
    let message = format!("{error:#}");
    match api.reason.as_str() {
        "Unauthorized" => "error: You must be logged in to the server (Unauthorized)".to_owned(),
        "Invalid" => invalid_text(api),
        "" | "Unknown" => format!("Error from server: {message}"),
        reason => format!("Error from server ({reason}): {message}"),
    }
}

fn invalid_text(api: &ApiError) -> String {
    let details = api.status.get("details");
    let text = |key: &str| details.and_then(|d| d.get(key)).and_then(Value::as_str).unwrap_or_default();
    let causes = details.and_then(|d| d.get("causes")).and_then(Value::as_array).cloned().unwrap_or_default();
    let head = if !text("kind").is_empty() || !text("name").is_empty() {
        format!("The {} {:?} is invalid", text("kind"), text("name"))
    } else if !api.message.is_empty() && causes.is_empty() {
        format!("The request is invalid: {}", api.message)
    } else {
        "The request is invalid".to_owned()
    };
    let mut lines: Vec<String> = Vec::new();
    for cause in &causes {
        let part = |key: &str| cause.get(key).and_then(Value::as_str).unwrap_or_default();
        let line = format!("{}: {}", part("field"), part("message"));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.as_slice() {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => format!("{head}: \n{}", many.iter().map(|l| format!("* {l}")).collect::<Vec<_>>().join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(status: &Value, context: Option<&'static str>) -> String {
        let error = anyhow::Error::from(ApiError::of(500, status.to_string().as_bytes()));
        text(&match context {
            Some(context) => error.context(context),
            None => error,
        })
    }

    #[test]
    fn errors_read_as_those_of_kubectl() {
        let cause = |field: &str| json!({"field": field, "message": "Required value"});
        let invalid = |causes: Vec<Value>| {
            let details = json!({"kind": "Pod", "name": "x", "causes": causes});
            json!({"kind": "Status", "reason": "Invalid", "message": "Pod \"x\" is invalid", "details": details})
        };
        let missing = json!({"kind": "Status", "reason": "NotFound", "message": "pods \"x\" not found"});
        for (status, context, expected) in [
            (missing.clone(), None, "Error from server (NotFound): pods \"x\" not found"),
            (missing, Some("doing it"), "Error from server (NotFound): doing it: pods \"x\" not found"),
            (invalid(vec![cause("a")]), None, "The Pod \"x\" is invalid: a: Required value"),
            (
                invalid(vec![cause("a"), cause("b")]),
                None,
                "The Pod \"x\" is invalid: \n* a: Required value\n* b: Required value",
            ),
            (json!({"kind": "Status", "message": "odd"}), None, "Error from server: odd"),
        ] {
            assert_eq!(shown(&status, context), expected);
        }
    }

    #[test]
    fn wrong_words_point_at_the_help() {
        let error = usage("get", "unknown flag: --x");
        assert_eq!(text(&error), "error: unknown flag: --x\nSee 'cox get --help' for usage.");
    }
}
