//! The functions that templates may call: Go's, and kubectl's `exists` and `base64decode`.

use std::cmp::Ordering;

use base64::Engine as _;
use serde_json::Value;

use super::Data;
use super::format::{plain, print, printf};

const NAMES: [&str; 20] = [
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "exists",
    "base64decode",
];

/// What a call came to.
pub(super) enum Calls {
    Value(Data),
    /// The function refused its arguments.
    Error(String),
    /// There are too few or too many of them.
    Wrong(String),
}

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a function stops at the first argument that is true, or at the first that is not.
pub(super) fn stops(name: &str) -> Option<bool> {
    match name {
        "and" => Some(false),
        "or" => Some(true),
        _ => None,
    }
}

pub(super) fn call(name: &str, arguments: &[Data]) -> Calls {
    let least = match name {
        "print" | "println" | "html" | "js" | "urlquery" => 0,
        _ => 1,
    };
    let most = if matches!(name, "not" | "len" | "base64decode") { 1 } else { usize::MAX };
    if arguments.len() < least || arguments.len() > most {
        let wanted = if most == 1 { "1".to_owned() } else { format!("at least {least}") };
        return Calls::Wrong(format!("wrong number of args for {name}: want {wanted} got {}", arguments.len()));
    }
    let text = || print(arguments);
    let done = match name {
        // What stopped earlier was returned earlier.
        "and" | "or" => arguments.last().cloned().ok_or_else(String::new),
        "not" => Ok(Data::Json((!arguments[0].is_true()).into())),
        "len" => length(&arguments[0]),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(Data::text(text())),
        "println" => {
            let all: Vec<String> = arguments.iter().map(plain).collect();
            Ok(Data::text(all.join(" ") + "\n"))
        }
        "printf" => match &arguments[0] {
            Data::Json(Value::String(format)) => Ok(Data::text(printf(format, &arguments[1..]))),
            other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        },
        "html" => Ok(Data::text(escaped(&text(), html))),
        "js" => Ok(Data::text(escaped(&text(), js))),
        "urlquery" => Ok(Data::text(urlquery(&text()))),
        "exists" => Ok(Data::Json(has(arguments).into())),
        "base64decode" => decode(&arguments[0]),
        _ => compare(name, arguments),
    };
    match done {
        Ok(value) => Calls::Value(value),
        Err(why) => Calls::Error(why),
    }
}

fn length(value: &Data) -> Result<Data, String> {
    let length = match value {
        Data::Json(Value::String(text)) => text.len(),
        Data::Json(Value::Array(items)) => items.len(),
        Data::Json(Value::Object(map)) => map.len(),
        Data::Missing | Data::Json(Value::Null) => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Data::Integer(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn position(at: &Data, limit: usize) -> Result<usize, String> {
    let number = match at {
        Data::Integer(number) => *number,
        Data::Missing | Data::Json(Value::Null) => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    usize::try_from(number).ok().filter(|at| *at <= limit).ok_or_else(|| format!("index out of range: {number}"))
}

fn index(arguments: &[Data]) -> Result<Data, String> {
    let mut here = arguments[0].clone();
    for at in &arguments[1..] {
        here = match here {
            Data::Json(Value::Object(mut map)) => match at {
                Data::Json(Value::String(key)) => map.remove(key).map_or(Data::Missing, Data::Json),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Data::Json(Value::Array(mut items)) => {
                let at = position(at, items.len().saturating_sub(1))?;
                if items.is_empty() {
                    return Err(format!("index out of range: {at}"));
                }
                Data::Json(items.swap_remove(at))
            }
            Data::Json(Value::String(text)) => {
                let at = position(at, text.len().saturating_sub(1))?;
                Data::Integer(text.as_bytes().get(at).copied().unwrap_or_default().into())
            }
            Data::Missing | Data::Json(Value::Null) => return Err("index of untyped nil".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(here)
}

fn slice(arguments: &[Data]) -> Result<Data, String> {
    let length = match &arguments[0] {
        Data::Json(Value::String(text)) => text.len(),
        Data::Json(Value::Array(items)) => items.len(),
        Data::Missing | Data::Json(Value::Null) => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let end = |at: usize, otherwise| arguments.get(at).map_or(Ok(otherwise), |at| position(at, length));
    let (from, to) = (end(1, 0)?, end(2, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match &arguments[0] {
        Data::Json(Value::Array(items)) => Ok(Data::Json(items[from..to].to_vec().into())),
        Data::Json(Value::String(text)) => Ok(Data::text(String::from_utf8_lossy(&text.as_bytes()[from..to]))),
        _ => unreachable!("other types were refused above"),
    }
}

/// What a value is compared as.
fn basic(value: &Data) -> Option<Value> {
    match value {
        Data::Integer(number) => Some((*number).into()),
        Data::Json(value @ (Value::Bool(_) | Value::String(_) | Value::Number(_))) => Some(value.clone()),
        _ => None,
    }
}

fn order(left: &Data, right: &Data) -> Result<Ordering, String> {
    if left.type_name() != right.type_name() {
        return Err("incompatible types for comparison".to_owned());
    }
    match (basic(left), basic(right)) {
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => Ok(a.cmp(&b)),
        (Some(Value::String(a)), Some(Value::String(b))) => Ok(a.cmp(&b)),
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(|| "invalid type for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn compare(name: &str, arguments: &[Data]) -> Result<Data, String> {
    let is_nothing = |value: &Data| matches!(value, Data::Missing | Data::Json(Value::Null));
    let left = &arguments[0];
    let rest = &arguments[1..];
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    let same = |right: &Data| match (is_nothing(left), is_nothing(right)) {
        (false, false) => order(left, right).map(|order| order.is_eq()),
        (left, right) => Ok(left && right),
    };
    let holds = match name {
        "eq" => {
            let mut any = false;
            for right in rest {
                any |= same(right)?;
            }
            any
        }
        "ne" => !same(&rest[0])?,
        _ => {
            if matches!(left, Data::Json(Value::Bool(_))) {
                return Err("invalid type for comparison".to_owned());
            }
            let order = order(left, &rest[0])?;
            match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
        }
    };
    Ok(Data::Json(holds.into()))
}

fn has(arguments: &[Data]) -> bool {
    let mut here = arguments[0].clone();
    for at in &arguments[1..] {
        match index(&[here, at.clone()]) {
            Ok(Data::Missing) | Err(_) => return false,
            Ok(found) => here = found,
        }
    }
    true
}

fn decode(value: &Data) -> Result<Data, String> {
    let Data::Json(Value::String(text)) = value else {
        return Err(format!("wrong type for value; expected string; got {}", value.type_name()));
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|error| format!("base64 decode failed: {error}"))?;
    Ok(Data::text(String::from_utf8_lossy(&bytes)))
}

fn escaped(text: &str, escape: fn(char) -> Option<&'static str>) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match escape(c) {
            Some(escape) => out.push_str(escape),
            None => out.push(c),
        }
        out
    })
}

fn html(c: char) -> Option<&'static str> {
    Some(match c {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&#34;",
        '\'' => "&#39;",
        _ => return None,
    })
}

fn js(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\\\",
        '\'' => "\\'",
        '"' => "\\\"",
        '<' => "\\u003C",
        '>' => "\\u003E",
        '&' => "\\u0026",
        '=' => "\\u003D",
        '\n' => "\\u000A",
        '\r' => "\\u000D",
        '\t' => "\\u0009",
        _ => return None,
    })
}

fn urlquery(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
        out
    })
}
