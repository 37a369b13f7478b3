//! `--sort-by`: objects and rows in the order of a field.

use std::cmp::Ordering;

use api::quantity::Quantity;
use serde_json::Value;

use crate::error::Result;
use crate::output::columns::relaxed;
use crate::output::jsonpath::Template;

/// Sorts a table's rows by a field of their objects.
pub(super) fn rows(table: &mut Value, path: &str) -> Result<()> {
    let template = Template::parse(&relaxed(path)?)?;
    if let Some(rows) = table.get_mut("rows").and_then(Value::as_array_mut) {
        let null = Value::Null;
        rows.sort_by(|a, b| {
            let object =
                |row: &Value| template.values(row.get("object").unwrap_or(&null)).first().map(|v| (*v).clone());
            compare(object(a).as_ref(), object(b).as_ref())
        });
    }
    Ok(())
}

pub(super) fn objects(items: &mut [Value], path: &str) -> Result<()> {
    let template = Template::parse(&relaxed(path)?)?;
    items.sort_by(|a, b| compare(template.values(a).first().copied(), template.values(b).first().copied()));
    Ok(())
}

/// Missing values first; numbers and quantities by value, texts by their parts of digits and others.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => match (Quantity::parse(a), Quantity::parse(b)) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => natural(a, b),
        },
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        for c in text.chars() {
            match parts.last_mut() {
                Some(last) if last.ends_with(|l: char| l.is_ascii_digit()) == c.is_ascii_digit() => last.push(c),
                _ => parts.push(c.to_string()),
            }
        }
        parts
    };
    for (a, b) in parts(a).iter().zip(&parts(b)) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn fields_order_objects() {
        let sorted = |values: Vec<Value>| {
            let mut items: Vec<Value> = values.into_iter().map(|v| json!({"x": v})).collect();
            items.push(json!({}));
            objects(&mut items, ".x").unwrap();
            items.into_iter().skip(1).map(|v| v["x"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(vec![json!(10), json!(9)]), [json!(9), json!(10)]);
        assert_eq!(sorted(vec![json!("pod-10"), json!("pod-9")]), [json!("pod-9"), json!("pod-10")]);
        assert_eq!(sorted(vec![json!("1Gi"), json!("10Mi")]), [json!("10Mi"), json!("1Gi")]);
    }
}
