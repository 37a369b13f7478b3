//! KYAML (KEP-5295): YAML in flow style, texts always quoted, that reads the same in every YAML version.

use serde_json::Value;

/// The object as one document.
pub(super) fn text(object: &Value) -> String {
    let mut out = "---\n".to_owned();
    write(&mut out, object, 0);
    out.push('\n');
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn write(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(text) => quote(out, text, depth + 1),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) if items.iter().all(|item| item.is_array() || item.is_object()) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write(out, item, depth);
            }
            out.push(']');
        }
        Value::Array(items) => {
            out.push_str("[\n");
            for item in items {
                indent(out, depth + 1);
                write(out, item, depth + 1);
                out.push_str(",\n");
            }
            indent(out, depth);
            out.push(']');
        }
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push_str("{\n");
            for (key, value) in map {
                indent(out, depth + 1);
                if is_plain(key) {
                    out.push_str(key);
                } else {
                    out.push_str(&Value::from(key.as_str()).to_string());
                }
                out.push_str(": ");
                write(out, value, depth + 1);
                out.push_str(",\n");
            }
            indent(out, depth);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A text in quotes; one of several lines is folded, a line each.
fn quote(out: &mut String, text: &str, depth: usize) {
    let is_folded = text.contains('\n');
    out.push('"');
    if is_folded {
        out.push_str("\\\n");
    }
    let mut starts_line = is_folded;
    for c in text.chars() {
        if std::mem::take(&mut starts_line) {
            indent(out, depth);
            // Space at a line's beginning would be lost without the backslash.
            out.push(if c.is_whitespace() && c != '\n' { '\\' } else { ' ' });
        }
        match c {
            '\n' => {
                out.push_str("\\n\\\n");
                starts_line = true;
            }
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push(c),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{1b}' => out.push_str("\\e"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    if is_folded {
        if !starts_line {
            out.push_str("\\\n");
        }
        indent(out, depth);
    }
    out.push('"');
}

/// Whether a key may stand without quotes: no YAML reads it as something else.
fn is_plain(key: &str) -> bool {
    const WORDS: [&str; 16] =
        ["null", "~", "true", "false", "t", "f", "y", "n", "yes", "no", "on", "off", ".inf", "-.inf", "+.inf", ".nan"];
    let inner = |at: usize| at > 0 && at + 1 < key.len();
    let is_allowed =
        |(at, c): (usize, char)| c.is_alphanumeric() || c == '_' || (inner(at) && matches!(c, '-' | '.' | '/'));
    let digits = key.replace('_', "");
    let is_number =
        digits.parse::<f64>().is_ok() || ["0x", "0o", "0b"].iter().any(|base| digits.to_lowercase().starts_with(base));
    let is_date = key.len() >= 8 && key[..4].bytes().all(|b| b.is_ascii_digit()) && key[4..].starts_with('-');
    !key.is_empty()
        && !WORDS.contains(&key.to_lowercase().as_str())
        && !is_number
        && !is_date
        && key.char_indices().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_as_kubectl_writes_them() {
        let object = json!({
            "a": "x", "list": [1, "two"], "maps": [{"k": true}, {"k": null}], "none": {}, "y": [], "1": "one",
            "a.b/c": "q\"\\", "lines": "one\n  two\n", "open": "one\ntwo",
        });
        let expected = "---
{
  \"1\": \"one\",
  a: \"x\",
  a.b/c: \"q\\\"\\\\\",
  lines: \"\\
     one\\n\\
    \\  two\\n\\
    \",
  list: [
    1,
    \"two\",
  ],
  maps: [{
    k: true,
  }, {
    k: null,
  }],
  none: {},
  open: \"\\
     one\\n\\
     two\\
    \",
  \"y\": [],
}
";
        assert_eq!(text(&object), expected);
    }
}
