//! Field selectors, `metadata.name=a,status.phase!=Running` (apimachinery `fields`).

use std::borrow::Cow;
use std::fmt;

use crate::field::go_quote;

/// The text is no field selector, or it names a field that cannot be selected by; the message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FieldSelectorError(pub String);

/// One term: the field has, or has not, the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub value: String,
    pub negated: bool,
}

/// All terms must hold; without terms everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Reads `field=value`, `field==value` and `field!=value`, separated by commas; `\` escapes `\`, `,` and `=` in a
    /// value.
    ///
    /// # Errors
    /// A term without an operator, or a value with a wrong escape.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (field, negated, raw) = split_term(part)
                .ok_or_else(|| FieldSelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            let value = unescape(raw)?;
            if !(field.is_empty() && value.is_empty()) {
                terms.push(Term { field: field.to_owned(), value: value.into_owned(), negated });
            }
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether all terms hold. A field without value reads as empty.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|term| (value_of(&term.field) == term.value) != term.negated)
    }

    /// The one value that the field must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| !t.negated && t.field == field).map(|t| t.value.as_str())
    }

    /// Refuses fields that the kind cannot be selected by: other than `metadata.name`, `metadata.namespace` and `own`.
    ///
    /// # Errors
    /// The first such field, in the words that upstream has for kinds with and without fields of their own.
    pub fn check_supported(&self, own: &[impl AsRef<str>]) -> Result<(), FieldSelectorError> {
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace") || own.iter().any(|o| o.as_ref() == field)
        };
        match self.terms.iter().find(|term| !known(&term.field)) {
            None => Ok(()),
            Some(term) if own.is_empty() => Err(FieldSelectorError(format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                go_quote(&term.field)
            ))),
            Some(term) => Err(FieldSelectorError(format!("field label not supported: {}", term.field))),
        }
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// Escapes a value so that it can stand in a field selector.
pub fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ',', '=']) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\="))
}

fn unescape(raw: &str) -> Result<Cow<'_, str>, FieldSelectorError> {
    if !raw.contains(['\\', ',', '=']) {
        return Ok(Cow::Borrowed(raw));
    }
    let bad = |sequence: &str| {
        Err(FieldSelectorError(format!("invalid field selector: invalid escape sequence: {sequence}")))
    };
    let mut value = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                Some(other) => return bad(&format!("\\{other}")),
                None => return bad("\\"),
            },
            ',' | '=' => {
                let code = u32::from(c);
                let message = format!("invalid field selector: unescaped character in value: {code}");
                return Err(FieldSelectorError(message));
            }
            other => value.push(other),
        }
    }
    Ok(Cow::Owned(value))
}

/// Splits at commas that are not escaped; escapes stay in the terms.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether the operator negates, and the raw value.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let (equals, unequal) = (term.find('='), term.find("!="));
    let at = unequal.into_iter().chain(equals).min()?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, true, value));
    }
    rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).map(|value| (field, false, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn terms_match() {
        let selector = FieldSelector::parse("spec.nodeName==n1,status.phase!=Running").unwrap();
        let pod = |phase: &'static str| {
            move |field: &str| match field {
                "spec.nodeName" => "n1",
                "status.phase" => phase,
                _ => "",
            }
        };
        assert!(selector.matches(pod("Pending")));
        assert!(!selector.matches(pod("Running")));
        assert_eq!(selector.exact("spec.nodeName"), Some("n1"));
        assert_eq!(selector.exact("status.phase"), None);
        assert!(FieldSelector::parse("").unwrap().matches(pod("x")));
    }

    #[test]
    fn escapes_are_read_and_written() {
        let selector = FieldSelector::parse(r"a=x\,y\=z\\,b!=é").unwrap();
        assert_eq!(selector.exact("a"), Some(r"x,y=z\"));
        assert_eq!(selector.to_string(), r"a=x\,y\=z\\,b!=é");
    }

    #[test]
    fn errors_are_upstreams() {
        for (text, message) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            (r"metadata.name=a\d", r"invalid field selector: invalid escape sequence: \d"),
            (r"metadata.name=a\", r"invalid field selector: invalid escape sequence: \"),
            ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
            ("é", "invalid selector: 'é'; can't understand 'é'"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().0, message, "{text}");
        }
        let selector = FieldSelector::parse("status.phase!=x,spec.foo=1").unwrap();
        let error = selector.check_supported(&["status.phase"]).unwrap_err();
        assert_eq!(error.0, "field label not supported: spec.foo");
        let error = selector.check_supported(&[] as &[&str]).unwrap_err();
        let message = r#""spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace""#;
        assert_eq!(error.0, message);
    }
}
