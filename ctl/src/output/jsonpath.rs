//! kubectl's JSONPath templates: text, `{.path}`, `{range …}{end}`, quoted texts, filters, slices, unions, `..`.

mod parse;

use std::cell::Cell;

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
        Walk::new(object, missing_ok).nodes(&self.0, object, &mut out)?;
        Ok(out)
    }

    /// All values that the paths of the template lead to.
    pub(crate) fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        for node in &self.0 {
            if let Node::Path(steps) = node {
                found.extend(Walk::new(object, true).follow(steps, vec![object]).unwrap_or_default());
            }
        }
        found
    }
}

/// Values that any template may look at, and as many for each value of the object: `..` behind `..`, and ranges in
/// ranges, would come to more of them than there is time for.
const VISITS: u64 = 1_000_000;
const VISITS_OF_EACH: u64 = 1000;
/// So many letters of text count as one value.
const LETTERS: usize = 64;

/// One expansion.
#[derive(Clone)]
struct Walk<'a> {
    root: &'a Value,
    missing_ok: bool,
    left: Cell<u64>,
    /// Whether the object's size was looked at, as small templates need not.
    counted: Cell<bool>,
}

fn size(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

impl<'a> Walk<'a> {
    fn new(root: &'a Value, missing_ok: bool) -> Self {
        Self { root, missing_ok, left: Cell::new(VISITS), counted: Cell::new(false) }
    }

    fn visit(&self, count: usize) -> Result<()> {
        let count = count as u64;
        if count > self.left.get() && !self.counted.replace(true) {
            self.left.set(self.left.get().saturating_add(size(self.root).saturating_mul(VISITS_OF_EACH)));
        }
        match self.left.get().checked_sub(count) {
            Some(left) => self.left.set(left),
            None => anyhow::bail!("the template finds too much: it is not expanded to its end"),
        }
        Ok(())
    }

    fn nodes(&self, nodes: &[Node], here: &'a Value, out: &mut String) -> Result<()> {
        for node in nodes {
            self.visit(1)?;
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Path(steps) => {
                    let found = self.follow(steps, vec![here])?;
                    for (at, value) in found.into_iter().enumerate() {
                        let text = plain(value);
                        self.visit(text.len() / LETTERS)?;
                        out.push_str(if at == 0 { "" } else { " " });
                        out.push_str(&text);
                    }
                }
                Node::Range(steps, body) => {
                    for item in self.follow(steps, vec![here])? {
                        self.nodes(body, item, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn follow(&self, steps: &[Step], mut here: Vec<&'a Value>) -> Result<Vec<&'a Value>> {
        for step in steps {
            let mut next = Vec::new();
            for value in here {
                let before = next.len();
                self.one(step, value, &mut next)?;
                self.visit(next.len() - before + 1)?;
            }
            here = next;
        }
        Ok(here)
    }

    fn one(&self, step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) -> Result<()> {
        match (step, value) {
            (Step::Root, _) => out.push(self.root),
            (Step::Field(name), Value::Object(map)) => match map.get(name) {
                Some(found) => out.push(found),
                None if self.missing_ok => {}
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
                    None if self.missing_ok => {}
                    None => anyhow::bail!("array index out of bounds: index {at}, length {length}"),
                }
            }
            (Step::Slice(from, to, by), Value::Array(items)) => out.extend(slice(items, *from, *to, *by)),
            (Step::Union(paths), _) => {
                for path in paths {
                    out.extend(self.follow(path, vec![value])?);
                }
            }
            (Step::Filter(left, operator, right), Value::Array(items)) => {
                self.visit(items.len())?;
                out.extend(items.iter().filter(|item| self.holds(left, operator, right, item)));
            }
            _ => {}
        }
        Ok(())
    }

    fn holds(&self, left: &Operand, operator: &str, right: &Operand, item: &'a Value) -> bool {
        let (left, right) = (self.operand(left, item), self.operand(right, item));
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

    fn operand(&self, operand: &Operand, item: &'a Value) -> Option<Value> {
        match operand {
            Operand::None => Some(Value::Null),
            Operand::Value(value) => Some(value.clone()),
            Operand::Path(steps) => self.found(steps, item),
        }
    }

    /// The first value that a path of a filter leads to; what is missing is no error there.
    fn found(&self, steps: &[Step], item: &'a Value) -> Option<Value> {
        let walk = Walk { missing_ok: true, ..self.clone() };
        let found = walk.follow(steps, vec![item]);
        self.left.set(walk.left.get());
        found.ok()?.first().map(|value| (*value).clone())
    }
}

/// A value as it stands in text: texts without quotes, objects and lists as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    #[test]
    fn what_would_never_end_is_refused() {
        let object = json!({"a": [[1, 2, 3], [4, 5, 6], {"b": {"c": [7, 8, 9]}}]});
        let wide = format!("{{{}}}", "..".repeat(60));
        let deep = format!("{}{{@}}{}", "{range ..}".repeat(60), "{end}".repeat(60));
        for text in [wide, deep] {
            let error = Template::parse(&text).unwrap().expand(&object, true).unwrap_err().to_string();
            assert!(error.contains("finds too much"), "{error}");
        }
        // A large object is no reason.
        let large = json!({"items": (0..200_000).map(|n| json!({"a": n})).collect::<Vec<_>>()});
        let text = Template::parse("{range .items[*]}{.a}{\"\\n\"}{end}{..a}").unwrap().expand(&large, true).unwrap();
        assert!(text.starts_with("0\n1\n") && text.ends_with(" 199999"));
    }

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
