//! The text of a description while it is written.

use serde_json::Value;

use crate::output::tabs;
use crate::verbs::pods;

/// Lines whose columns are aligned at the end.
#[derive(Default)]
pub(super) struct Text(pub String);

impl Text {
    /// A line at a depth of indentation, columns divided by tabs.
    pub(super) fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        self.part(depth, text);
        self.0.push('\n');
    }

    /// The beginning of a line.
    pub(super) fn part(&mut self, depth: usize, text: impl AsRef<str>) {
        self.0.extend(std::iter::repeat_n(' ', depth * 2));
        self.0.push_str(text.as_ref());
    }

    /// `Title:  value`
    pub(super) fn field(&mut self, depth: usize, title: &str, value: impl AsRef<str>) {
        self.line(depth, format!("{title}:\t{}", value.as_ref()));
    }

    /// A field of an object, when it has it.
    pub(super) fn field_of(&mut self, depth: usize, title: &str, object: &Value, pointer: &str) {
        if let Some(value) = object.pointer(pointer).map(plain).filter(|value| !value.is_empty()) {
            self.field(depth, title, value);
        }
    }

    /// Several values under one title, one a line.
    pub(super) fn values(&mut self, title: &str, values: impl IntoIterator<Item = String>) {
        let mut is_first = true;
        for value in values {
            self.line(0, format!("{}\t{value}", if is_first { format!("{title}:") } else { String::new() }));
            is_first = false;
        }
        if is_first {
            self.field(0, title, "<none>");
        }
    }

    pub(super) fn aligned(&self) -> String {
        tabs::DESCRIPTION.align(&self.0)
    }
}

/// A value as it stands in a line.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

pub(super) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// An integer of an object; 0 when it is missing.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

pub(super) fn is_on(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// A time in RFC 1123's form, `Tue, 24 Nov 2026 07:40:33 +0000`.
pub(super) fn time(object: &Value, pointer: &str) -> String {
    match pods::text(object, pointer).parse::<jiff::Timestamp>() {
        Ok(time) => {
            let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
            time.to_zoned(zone).strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
        }
        Err(_) => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}
