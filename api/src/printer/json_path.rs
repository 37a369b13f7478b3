//! The part of kubectl's JSONPath that CRDs' `additionalPrinterColumns` may use (apiextensions checks them so): fields,
//! quoted fields, indexes, `[*]`, and filters that compare a field with a text, number or boolean.

use serde_json::Value;

use super::human;
use super::shown::Shown;
use crate::Object;

/// A text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSONPath that columns may use: {0:?}")]
pub struct PathError(String);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Counted from the end when negative.
    Index(i64),
    All,
    /// Items whose field at a path is, or is not, a value.
    Filter {
        path: Vec<Step>,
        equal: bool,
        value: Value,
    },
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Parses `.spec.replicas` or `{.spec.replicas}`.
    ///
    /// # Errors
    /// The text is no path of the supported kind.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        steps(inner).map(Self).ok_or_else(|| PathError(text.to_owned()))
    }

    /// All values that the path leads to.
    pub fn find<'a>(&self, root: &'a Object) -> Vec<&'a Value> {
        match self.0.split_first() {
            Some((Step::Field(name), rest)) => {
                root.get(name).map(|value| follow(rest, vec![value])).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[') {
            let end = closing(bracket)?;
            steps.push(bracketed(&bracket[..end])?);
            rest = &bracket[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut name = String::new();
        let mut characters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => name.push(characters.next()?.1),
                '.' | '[' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        rest = &rest[end..];
        match name.as_str() {
            "" => return None,
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
    }
    Some(steps)
}

/// Where a bracket closes; quotes may hold brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn bracketed(text: &str) -> Option<Step> {
    if let Some(name) = unquoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if text == "*" {
        return Some(Step::All);
    }
    let Some(filter) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) else {
        return text.parse().ok().map(Step::Index);
    };
    let (left, equal, right) = match filter.split_once("==") {
        Some((left, right)) => (left, true, right),
        None => filter.split_once("!=").map(|(left, right)| (left, false, right))?,
    };
    let right = right.trim();
    let value = match unquoted(right) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Filter { path: steps(left.trim().strip_prefix('@')?)?, equal, value })
}

fn follow<'a>(path: &[Step], mut values: Vec<&'a Value>) -> Vec<&'a Value> {
    for step in path {
        values = values.into_iter().flat_map(|value| one(step, value)).collect();
    }
    values
}

fn one<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(object)) => object.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *index < 0 { length + index } else { *index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(object)) => object.values().collect(),
        (Step::Filter { path, equal, value }, Value::Array(items)) => {
            let holds =
                |item: &&Value| follow(path, vec![item]).first().is_some_and(|found| (*found == value) == *equal);
            items.iter().filter(holds).collect()
        }
        _ => Vec::new(),
    }
}

/// The cell of a custom resource's column; null when there is nothing at the path, or something of another type.
pub(super) fn cell(path: &str, ty: &str, object: &Object) -> Shown {
    let found = JsonPath::parse(path).ok().and_then(|path| path.find(object).first().copied());
    let value = match (ty, found.unwrap_or(&Value::Null)) {
        ("string", Value::String(text)) => Value::from(text.as_str()),
        ("string", Value::Null) => Value::Null,
        ("string", other) => Value::from(other.to_string()),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => number.as_f64().map_or(Value::Null, |float| Value::from(float as i64)),
        },
        ("number", Value::Number(number)) => Value::Number(number.clone()),
        ("boolean", Value::Bool(value)) => Value::Bool(*value),
        ("date", Value::String(time)) => match human::seconds(time) {
            Some(at) => return Shown::age(at),
            None => Value::from("<invalid>"),
        },
        _ => Value::Null,
    };
    Shown::Value(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn cells_of_custom_resources() {
        let object = json!({
            "metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "annotations": {"a.b/c": "x"}},
            "spec": {"n": 3, "f": 1.5, "list": ["a", "b"], "on": true},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        let Value::Object(object) = object else { panic!() };
        let now = human::seconds("2020-01-01T00:01:00Z").unwrap();
        for (path, ty, expected) in [
            (".spec.n", "integer", json!(3)),
            (".spec.n", "string", json!("3")),
            (".spec.f", "number", json!(1.5)),
            (".spec.f", "integer", json!(1)),
            (".spec.on", "boolean", json!(true)),
            (".spec.on", "integer", json!(null)),
            (".spec.list[1]", "string", json!("b")),
            (".spec.list[-1]", "string", json!("b")),
            (".spec.list[9]", "string", json!(null)),
            (".spec.list[*]", "string", json!("a")),
            (".status.conditions[?(@.type==\"Ready\")].status", "string", json!("True")),
            (".status.conditions[?(@.type=='No')].status", "string", json!(null)),
            (".metadata.annotations.a\\.b/c", "string", json!("x")),
            (".metadata.annotations['a.b/c']", "string", json!("x")),
            (".metadata.creationTimestamp", "date", json!("60s")),
            (".spec.list[0]", "date", json!("<invalid>")),
            ("..", "string", json!(null)),
        ] {
            assert_eq!(*cell(path, ty, &object).at(now), expected, "{path} as {ty}");
        }
    }
}
