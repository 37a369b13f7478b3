//! Values as Go's fmt writes them.

use serde_json::Value;

use super::Data;

/// `%v`
pub(super) fn plain(value: &Data) -> String {
    match value {
        Data::Missing => "<no value>".to_owned(),
        Data::Integer(number) => number.to_string(),
        Data::Json(value) => json(value),
    }
}

fn json(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => float(number.as_f64().unwrap_or_default()),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str());
            let pairs: Vec<String> = pairs.into_iter().map(|(key, item)| format!("{key}:{}", json(item))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// `%g` with as many digits as are needed; exponents below -4 and from 6 on are written as such.
pub(super) fn float(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `fmt.Sprint`: a space between two values of which neither is a text.
pub(super) fn print(values: &[Data]) -> String {
    let mut out = String::new();
    let is_text = |value: &Data| matches!(value, Data::Json(Value::String(_)));
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !is_text(value) && !is_text(&values[at - 1]) {
            out.push(' ');
        }
        out.push_str(&plain(value));
    }
    out
}

/// The flags, width and precision of a verb.
#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// `fmt.Sprintf`
pub(super) fn printf(format: &str, values: &[Data]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+' | '#' | ' ')) {
            spec.left |= flag == '-';
            spec.zero |= flag == '0';
            spec.plus |= flag == '+';
        }
        let mut number = || {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse().ok()
        };
        spec.width = number().unwrap_or(0).min(10_000);
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            spec.precision = Some(digits.parse().unwrap_or(0).min(1000));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                Some(value) => out.push_str(&padded(&one(verb, value, &spec), &spec)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = values.map(|value| format!("{}={}", value.type_name(), plain(value))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn padded(text: &str, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    match (spec.left, spec.zero) {
        (true, _) => format!("{text}{}", " ".repeat(missing)),
        (false, true) => format!("{}{text}", "0".repeat(missing)),
        (false, false) => format!("{}{text}", " ".repeat(missing)),
    }
}

fn one(verb: char, value: &Data, spec: &Spec) -> String {
    let cut = |text: &str| match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    let sign = |text: String| if spec.plus && !text.starts_with('-') { format!("+{text}") } else { text };
    match (verb, value) {
        ('v', value) => plain(value),
        ('T', value) => value.type_name().to_owned(),
        ('s', Data::Json(Value::String(text))) => cut(text),
        ('q', Data::Json(Value::String(text))) => format!("{text:?}"),
        ('t', Data::Json(Value::Bool(on))) => on.to_string(),
        ('d', Data::Integer(number)) => sign(number.to_string()),
        ('x', Data::Integer(number)) => format!("{number:x}"),
        ('c', Data::Integer(number)) => {
            u32::try_from(*number).ok().and_then(char::from_u32).map(String::from).unwrap_or_default()
        }
        ('f' | 'F', Data::Json(Value::Number(number))) => {
            sign(format!("{:.*}", spec.precision.unwrap_or(6), number.as_f64().unwrap_or_default()))
        }
        ('g', Data::Json(Value::Number(number))) => sign(float(number.as_f64().unwrap_or_default())),
        ('s', Data::Json(Value::Array(_) | Value::Object(_))) => plain(value),
        (verb, Data::Missing | Data::Json(Value::Null)) => format!("%!{verb}(<nil>)"),
        (verb, value) => format!("%!{verb}({}={})", value.type_name(), plain(value)),
    }
}
