//! kubectl's JSONPath templates: text, `{.path}`, `{range …}{end}`, quoted texts, filters, slices, unions, `..`.

mod parse;

use serde_json::Value;

use crate::error::Result;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    /// What one pair of braces holds.
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `$`, which starts anew.
    Root,
    Field(String),
    /// `[*]` or `.*`
    All,
    /// `..`
    Descend,
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Union(Vec<Vec<Step>>),
    Filter(Operand, &'static str, Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    None,
    Value(Value),
    Path(Vec<Step>),
}

impl Template {
    /// # Errors
    /// A brace or bracket is not closed, or what stands in it is no path.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        parse::template(text).map(Self)
    }

    /// The text for an object.
    ///
    /// # Errors
    /// A member is missing, unless that is allowed.
    pub(crate) fn expand(&self, object: &Value, missing_ok: bool) -> Result<String> {
        let mut out = String::new();
        walk(&self.0, object, object, missing_ok, &mut out)?;
        Ok(out)
    }

    /// All values that the paths of the template lead to.
    pub(crate) fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        for node in &self.0 {
            if let Node::Path(steps) = node {
                found.extend(follow(steps, object, vec![object], true).unwrap_or_default());
            }
        }
        found
    }
}

fn walk(nodes: &[Node], root: &Value, here: &Value, missing_ok: bool, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(steps) => {
                let found = follow(steps, root, vec![here], missing_ok)?;
                out.push_str(&found.into_iter().map(plain).collect::<Vec<_>>().join(" "));
            }
            Node::Range(steps, body) => {
                for item in follow(steps, root, vec![here], missing_ok)? {
                    walk(body, root, item, missing_ok, out)?;
                }
            }
        }
    }
    Ok(())
}

/// A value as it stands in text: texts without quotes, objects and lists as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn follow<'a>(steps: &[Step], root: &'a Value, mut here: Vec<&'a Value>, missing_ok: bool) -> Result<Vec<&'a Value>> {
    for step in steps {
        let mut next = Vec::new();
        for value in here {
            one(step, root, value, missing_ok, &mut next)?;
        }
        here = next;
    }
    Ok(here)
}

fn one<'a>(step: &Step, root: &'a Value, value: &'a Value, missing_ok: bool, out: &mut Vec<&'a Value>) -> Result<()> {
    match (step, value) {
        (Step::Root, _) => out.push(root),
        (Step::Field(name), Value::Object(map)) => match map.get(name) {
            Some(found) => out.push(found),
            None if missing_ok => {}
            None => anyhow::bail!("{name} is not found"),
        },
        (Step::All, Value::Array(items)) => out.extend(items),
        (Step::All, Value::Object(map)) => out.extend(map.values()),
        (Step::Descend, _) => descend(value, out),
        (Step::Index(at), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let position = if *at < 0 { at + length } else { *at };
            match usize::try_from(position).ok().and_then(|at| items.get(at)) {
                Some(item) => out.push(item),
                None if missing_ok => {}
                None => anyhow::bail!("array index out of bounds: index {at}, length {length}"),
            }
        }
        (Step::Slice(from, to, by), Value::Array(items)) => out.extend(slice(items, *from, *to, *by)),
        (Step::Union(paths), _) => {
            for path in paths {
                out.extend(follow(path, root, vec![value], missing_ok)?);
            }
        }
        (Step::Filter(left, operator, right), Value::Array(items)) => {
            out.extend(items.iter().filter(|item| holds(left, operator, right, root, item)));
        }
        _ => {}
    }
    Ok(())
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(map) => map.values().for_each(|item| descend(item, out)),
        _ => {}
    }
}

fn slice(items: &[Value], from: Option<i64>, to: Option<i64>, by: i64) -> impl Iterator<Item = &Value> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let place = |at: i64| usize::try_from(if at < 0 { at + length } else { at }.clamp(0, length)).unwrap_or(0);
    let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
    let by = usize::try_from(by).unwrap_or(1).max(1);
    items.iter().take(to).skip(from).step_by(by)
}

fn holds(left: &Operand, operator: &str, right: &Operand, root: &Value, item: &Value) -> bool {
    let (left, right) = (operand(left, root, item), operand(right, root, item));
    let left = match left {
        Some(left) => left,
        None => return false,
    };
    if operator == "exists" {
        return true;
    }
    let Some(right) = right else { return false };
    let order = match (&left, &right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match operator {
        "==" => order.map_or(left == right, |o| o.is_eq()),
        "!=" => !order.map_or(left == right, |o| o.is_eq()),
        "<" => order.is_some_and(|o| o.is_lt()),
        "<=" => order.is_some_and(|o| o.is_le()),
        ">" => order.is_some_and(|o| o.is_gt()),
        ">=" => order.is_some_and(|o| o.is_ge()),
        _ => false,
    }
}

fn operand(operand: &Operand, root: &Value, item: &Value) -> Option<Value> {
    match operand {
        Operand::None => Some(Value::Null),
        Operand::Value(value) => Some(value.clone()),
        Operand::Path(steps) => follow(steps, root, vec![item], true).ok()?.first().map(|v| (*v).clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// Each expected text is kubectl's for the same template and object.
    #[test]
    fn templates() {
        let object = json!({
            "kind": "List",
            "items": [
                {
                    "metadata": {"name": "a", "labels": {"x.y/z": "l"}}, "n": 1,
                    "c": [{"t": "R", "s": "True"}, {"t": "Q", "s": "No"}],
                },
                {"metadata": {"name": "b"}, "n": 22, "on": true},
            ],
        });
        for (template, expected) in [
            ("{.kind}", "List"),
            ("kind is {.kind}\\n", "kind is List\\n"),
            ("{.kind}{\"\\n\"}", "List\n"),
            ("{.items[*].metadata.name}", "a b"),
            ("{range .items[*]}{.metadata.name}={.n}{'\\t'}{end}", "a=1\tb=22\t"),
            ("{.items[0].n}{.items[-1].n}", "122"),
            ("{.items[0:1].n}", "1"),
            ("{.items[?(@.n>5)].metadata.name}", "b"),
            ("{.items[?(@.metadata.name==\"a\")].n}", "1"),
            ("{.items[?(@.metadata.name!='a')].n}", "22"),
            ("{.items[?(@.on)].n}", "22"),
            ("{.items[0].c[?(@.t==\"R\")].s}", "True"),
            ("{..name}", "a b"),
            ("{.items[0].metadata.labels.x\\.y/z}", "l"),
            ("{.items[0].metadata.labels['x.y/z']}", "l"),
            ("{.items[*]['n', 'on']}", "1 22 true"),
            ("{$.kind}", "List"),
            ("{@.kind}", "List"),
            (".kind", ".kind"),
            ("{.nothing}", ""),
            ("{.items[0].c[0]}", "{\"s\":\"True\",\"t\":\"R\"}"),
        ] {
            let parsed = Template::parse(template).unwrap();
            assert_eq!(parsed.expand(&object, true).unwrap(), expected, "{template}");
        }
        assert!(Template::parse("{.a").is_err());
        assert!(Template::parse("{.a[}").is_err());
        assert!(Template::parse("{range .a}x").is_err());
        assert!(Template::parse("{.nope}").unwrap().expand(&object, false).is_err());
    }
}
