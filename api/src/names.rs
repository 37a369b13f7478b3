//! Validators of names and other short texts, with upstream's messages (apimachinery `util/validation`,
//! `api/validate/content`). Each returns what is wrong, in upstream's words; an empty list means valid.
//!
//! Checks are byte loops rather than regular expressions: labels and names are checked on every write.

mod net;

pub use net::{cidr, cidr_legacy, in_network, ip, ip_legacy, parse_cidr, parse_ip};

/// Longest DNS label, label value and name part of a qualified name, in bytes.
const LABEL_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
const SUBDOMAIN_MAX: usize = 253;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_WORDS: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Which names a kind allows (upstream's `ValidateNameFunc` of its strategy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain; most kinds.
    #[default]
    Subdomain,
    /// RFC 1123 label: Namespace, Service.
    Label,
    /// Anything that can be one segment of a URL path: RBAC kinds.
    PathSegment,
}

impl NameRule {
    /// What is wrong with a whole name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => dns1123_subdomain(name),
            Self::Label => dns1123_label(name),
            Self::PathSegment => path_segment(name),
        }
    }

    /// What is wrong with a `generateName`; a trailing dash is no fault there.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        if self == Self::PathSegment {
            return path_segment_prefix(prefix);
        }
        match prefix.strip_suffix('-').and_then(|p| p.char_indices().next_back()) {
            // Upstream puts one letter in place of the last two characters.
            Some((cut, _)) => self.check(&format!("{}a", &prefix[..cut])),
            None => self.check(prefix),
        }
    }
}

fn max_len(length: usize) -> String {
    format!("must be no more than {length} characters")
}

fn max_bytes(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

fn pattern_error(words: &str, pattern: &str, examples: &[&str]) -> String {
    let quoted: Vec<_> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{words} (e.g. {}regex used for validation is '{pattern}')", quoted.join(" or "))
}

/// `must be between low and high, inclusive`.
pub fn range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether the text is not empty, has only `inner` bytes, and begins and ends with an `edge` byte.
fn framed(text: &[u8], edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    matches!((text.first(), text.last()), (Some(&first), Some(&last)) if edge(first) && edge(last))
        && text.iter().all(|&b| inner(b))
}

fn is_label(text: &[u8]) -> bool {
    framed(text, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-')
}

fn is_subdomain(text: &[u8]) -> bool {
    text.split(|&b| b == b'.').all(is_label)
}

fn is_key(text: &[u8]) -> bool {
    framed(text, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A label in DNS (RFC 1123), lower case.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len(LABEL_MAX));
    }
    if !is_label(value.as_bytes()) {
        errors.push(if is_subdomain(value.as_bytes()) {
            "must not contain dots".to_owned()
        } else {
            let words = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                         start and end with an alphanumeric character";
            pattern_error(words, LABEL_FMT, &["my-name", "123-abc"])
        });
    }
    errors
}

/// A subdomain in DNS (RFC 1123), lower case.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    subdomain(value, max_len(SUBDOMAIN_MAX))
}

fn subdomain(value: &str, too_long: String) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(too_long);
    }
    if !is_subdomain(value.as_bytes()) {
        let words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                     must start and end with an alphanumeric character";
        errors.push(pattern_error(words, SUBDOMAIN_FMT, &["example.com"]));
    }
    errors
}

/// A subdomain whose labels may also begin with, and contain, underscores.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    const FMT: &str = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len(SUBDOMAIN_MAX));
    }
    let is_label = |label: &[u8]| {
        let label = label.strip_prefix(b"_").unwrap_or(label);
        framed(label, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-' || b == b'_')
    };
    if !value.as_bytes().split(|&b| b == b'.').all(is_label) {
        let words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
                     and must start and end with an alphanumeric character";
        errors.push(pattern_error(words, FMT, &["example.com"]));
    }
    errors
}

/// A subdomain whose first label is `*` (RFC 1034, 4.3.3).
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len(SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(|rest| is_subdomain(rest.as_bytes())) {
        let words = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                     consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        errors.push(pattern_error(words, &format!(r"\*\.{SUBDOMAIN_FMT}"), &["*.example.com"]));
    }
    errors
}

/// A label in DNS (RFC 1035): as RFC 1123, but beginning with a letter.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len(LABEL_MAX));
    }
    if !(is_label(value.as_bytes()) && value.as_bytes()[0].is_ascii_lowercase()) {
        let words = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                     character, and end with an alphanumeric character";
        errors.push(pattern_error(words, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    errors
}

/// The key of a label, annotation or taint: `name` or `dns.subdomain/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            let key = pattern_error(KEY_WORDS, KEY_FMT, EXAMPLES);
            return vec![format!(
                "a valid label key {key} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            let wrong = subdomain(prefix, max_bytes(SUBDOMAIN_MAX));
            errors.extend(wrong.into_iter().map(|message| format!("prefix part {message}")));
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !is_key(name.as_bytes()) {
        errors.push(format!("name part {}", pattern_error(KEY_WORDS, KEY_FMT, EXAMPLES)));
    }
    errors
}

/// The value of a label; may be empty.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_bytes(LABEL_MAX));
    }
    if !value.is_empty() && !is_key(value.as_bytes()) {
        let words = format!("a valid label must be an empty string or {}", KEY_WORDS.trim_start_matches("must "));
        errors.push(pattern_error(&words, &format!("({KEY_FMT})?"), &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// A name that can stand as one segment of a URL path.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// The beginning of such a name.
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    ['/', '%'].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// An identifier in C.
pub fn c_identifier(value: &str) -> Vec<String> {
    let ok = value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && value.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if ok {
        return Vec::new();
    }
    let words = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                 characters or '_'";
    vec![pattern_error(words, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// A number in an inclusive range.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) { Vec::new() } else { vec![range_error(low, high)] }
}

/// A port, 1 to 65535.
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65535)
}

/// A Unix user or group id, 0 to 2^31-1.
pub fn unix_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(i32::MAX))
}

/// The name of a container's or Service's port (RFC 6335, lower case).
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 15 {
        errors.push(max_len(15));
    }
    if value.is_empty() || !value.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A percentage, `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let ok = value.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if ok {
        return Vec::new();
    }
    let words = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern_error(words, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let words = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern_error(words, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if value.bytes().any(|b| !(b' '..=b'~').contains(&b) || b == b'=') {
        let words = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(words.to_owned());
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len(SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(pattern_error(words, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." | ".." => errors.push(format!("must not be '{value}'")),
        _ if value.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests;
