//! The grammar of JSONPath templates.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Node, Operand, Step};
use crate::error::Result;

/// Reads a template.
pub(super) fn template(text: &str) -> Result<Vec<Node>> {
    // One list of nodes for the template, and one for each range that is open.
    let mut open: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
    let mut rest = text;
    while !rest.is_empty() {
        let Some(start) = rest.find('{') else {
            push(&mut open, Node::Text(rest.to_owned()))?;
            break;
        };
        if start > 0 {
            push(&mut open, Node::Text(rest[..start].to_owned()))?;
        }
        rest = &rest[start + 1..];
        let end = closing(rest, '}').with_context(|| match rest.rfind('[') > rest.rfind(']') {
            true => "unterminated array",
            false => "unclosed action",
        })?;
        let inner = rest[..end].trim();
        rest = &rest[end + 1..];
        if let Some(quoted) = unquoted(inner) {
            push(&mut open, Node::Text(quoted))?;
        } else if let Some(path) = inner.strip_prefix("range").filter(|p| !p.starts_with(|c: char| c.is_alphanumeric()))
        {
            open.push((steps(path.trim())?, Vec::new()));
        } else if inner == "end" {
            let (path, body) = open.pop().context("unexpected end")?;
            if open.is_empty() {
                bail!("not in range, nothing to end");
            }
            push(&mut open, Node::Range(path, body))?;
        } else {
            push(&mut open, Node::Path(steps(inner)?))?;
        }
    }
    if open.len() > 1 {
        bail!("unterminated range: {{end}} is missing");
    }
    Ok(open.pop().map(|(_, nodes)| nodes).unwrap_or_default())
}

fn push(open: &mut [(Vec<Step>, Vec<Node>)], node: Node) -> Result<()> {
    open.last_mut().context("not in range, nothing to end")?.1.push(node);
    Ok(())
}

/// Where a brace or bracket that is open closes; quotes may hold some.
fn closing(text: &str, close: char) -> Option<usize> {
    let (mut quote, mut depth, mut escaped) = (None, 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match (quote, c) {
            (_, '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c == close && depth == 0 => return Some(at),
            (None, '{' | '[' | '(') => depth += 1,
            (None, '}' | ']' | ')') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

/// The text in quotes, its escapes resolved.
fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        if c == quote {
            return None;
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            other => out.push(other),
        }
    }
    Some(out)
}

fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    if let Some(after) = rest.strip_prefix('$') {
        steps.push(Step::Root);
        rest = after;
    }
    rest = rest.strip_prefix('@').unwrap_or(rest);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after, ']').context("unterminated array")?;
            steps.push(bracket(after[..end].trim())?);
            rest = &after[end + 1..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Descend);
            rest = after;
            if rest.starts_with('[') {
                continue;
            }
        } else {
            rest = rest.strip_prefix('.').with_context(|| format!("unrecognized identifier {rest}"))?;
        }
        let (name, after) = field(rest);
        rest = after;
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
    }
    Ok(steps)
}

/// A field's name and what stands after it; `\.` is a dot of the name.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => name.extend(characters.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c if c.is_whitespace() => return (name, ""),
            c => name.push(c),
        }
    }
    (name, "")
}

fn bracket(text: &str) -> Result<Step> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return condition(filter.trim());
    }
    if let Some(name) = unquoted(text) {
        return Ok(Step::Field(name));
    }
    let parts = split(text, ',');
    if parts.len() > 1 {
        let path = |part: &&str| match unquoted(part.trim()) {
            Some(name) => Ok(vec![Step::Field(name)]),
            None if part.trim().starts_with(['.', '@', '$']) => steps(part),
            None => bracket(part.trim()).map(|step| vec![step]),
        };
        return parts.iter().map(path).collect::<Result<_>>().map(Step::Union);
    }
    let wrong = || format!("invalid array index {text}");
    if text.contains(':') {
        let numbers = text.split(':').map(|part| match part.trim() {
            "" => Ok(None),
            number => number.parse().map(Some).with_context(wrong),
        });
        let numbers: Vec<Option<i64>> = numbers.collect::<Result<_>>()?;
        let at = |i: usize| numbers.get(i).copied().flatten();
        return Ok(Step::Slice(at(0), at(1), at(2).unwrap_or(1)));
    }
    text.parse().map(Step::Index).with_context(wrong)
}

/// Parts between a divider that stands outside quotes and brackets.
fn split(text: &str, divider: char) -> Vec<&str> {
    let (mut parts, mut from, mut quote, mut depth) = (Vec::new(), 0, None, 0);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            (None, c) if c == divider && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn condition(text: &str) -> Result<Step> {
    const OPERATORS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => {
                if let Some(operator) = OPERATORS.into_iter().find(|o| text[at..].starts_with(o)) {
                    let (left, right) = (&text[..at], &text[at + operator.len()..]);
                    return Ok(Step::Filter(operand(left)?, operator, operand(right)?));
                }
            }
        }
    }
    Ok(Step::Filter(operand(text)?, "exists", Operand::None))
}

fn operand(text: &str) -> Result<Operand> {
    let text = text.trim();
    if let Some(quoted) = unquoted(text) {
        return Ok(Operand::Value(Value::String(quoted)));
    }
    if text.starts_with(['@', '$', '.']) {
        return steps(text).map(Operand::Path);
    }
    let value = serde_json::from_str(text).with_context(|| format!("invalid operand {text} of a filter"))?;
    Ok(Operand::Value(value))
}
