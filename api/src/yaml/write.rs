//! JSON values to YAML in the form that kubectl prints: keys sorted as go-yaml does, lists not indented under their
//! key, literal blocks for texts of several lines, quotes only where a plain scalar would read as something else.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::plain::is_text;

/// Lines are folded at the first space after this column.
const WIDTH: usize = 80;

/// Keys longer than this are written in the explicit form, `? key`.
const SIMPLE_KEY: usize = 128;

/// The YAML text of a value, ended by a line end.
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

/// Appends the YAML text of a value, ended by a line end.
pub fn write(out: &mut String, value: &Value) {
    match value {
        Value::Object(object) if !object.is_empty() => mapping(out, object, 0, false),
        Value::Array(items) if !items.is_empty() => sequence(out, items, 0, false),
        other => {
            scalar(out, other, 0);
            out.push('\n');
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n(' ', depth));
}

/// Writes a mapping; `inline` when the first line's start is already written.
fn mapping(out: &mut String, object: &Map<String, Value>, depth: usize, inline: bool) {
    let mut entries: Vec<(&String, &Value)> = object.iter().collect();
    entries.sort_by(|a, b| compare_keys(a.0, b.0));
    for (position, (key, value)) in entries.into_iter().enumerate() {
        if !(inline && position == 0) {
            indent(out, depth);
        }
        if key.len() > SIMPLE_KEY {
            out.push_str("? ");
            key_text(out, key);
            out.push('\n');
            indent(out, depth);
        } else {
            key_text(out, key);
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(out, inner, depth + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, depth, false);
            }
            other => {
                out.push(' ');
                scalar(out, other, depth + 2);
                out.push('\n');
            }
        }
    }
}

/// Writes a sequence; `inline` when the first line's start is already written.
fn sequence(out: &mut String, items: &[Value], depth: usize, inline: bool) {
    for (position, item) in items.iter().enumerate() {
        if !(inline && position == 0) {
            indent(out, depth);
        }
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => mapping(out, inner, depth + 2, true),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, depth + 2, true),
            other => {
                scalar(out, other, depth + 2);
                out.push('\n');
            }
        }
    }
}

fn key_text(out: &mut String, key: &str) {
    match Traits::of(key) {
        _ if key.is_empty() || !is_text(key) => double_quoted(out, key, None),
        traits if traits.lines => double_quoted(out, key, None),
        traits => plain_or_quoted(out, key, &traits, None),
    }
}

fn scalar(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => number_text(out, number),
        Value::String(text) => string(out, text, depth),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// Go's shortest form: an exponent below 1e-4 and from 1e21 on.
fn number_text(out: &mut String, number: &serde_json::Number) {
    let written = match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if float != 0.0 && !(1e-4..1e21).contains(&float.abs()) => {
            let text = format!("{float:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            write!(out, "{digits}e{sign}{exponent:0>2}")
        }
        Some(float) => write!(out, "{float}"),
        None => write!(out, "{number}"),
    };
    written.unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
}

fn string(out: &mut String, text: &str, depth: usize) {
    let traits = Traits::of(text);
    if text.contains('\n') && traits.block_allowed {
        literal(out, text, depth);
    } else if text.contains('\n') || !is_text(text) {
        double_quoted(out, text, Some(depth));
    } else {
        plain_or_quoted(out, text, &traits, Some(depth));
    }
}

/// Writes a text; `fold` is the indentation of further lines where it may have some.
fn plain_or_quoted(out: &mut String, text: &str, traits: &Traits, fold: Option<usize>) {
    if traits.plain_allowed {
        folded(out, text, fold);
    } else if traits.single_allowed {
        out.push('\'');
        folded(out, &text.replace('\'', "''"), fold);
        out.push('\'');
    } else {
        double_quoted(out, text, fold);
    }
}

/// The column at which the next character will stand.
fn column(out: &str) -> usize {
    out.rsplit('\n').next().unwrap_or_default().chars().count()
}

/// Writes a text of one line, folded at single spaces.
fn folded(out: &mut String, text: &str, fold: Option<usize>) {
    let Some(depth) = fold.filter(|_| text.len() + column(out) > WIDTH) else {
        out.push_str(text);
        return;
    };
    let mut at = column(out);
    let mut previous = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let is_single = c == ' ' && previous.is_some_and(|p| p != ' ') && characters.peek().is_some_and(|n| *n != ' ');
        if is_single && at > WIDTH {
            out.push('\n');
            indent(out, depth);
            at = depth;
        } else {
            out.push(c);
            at += 1;
        }
        previous = Some(c);
    }
}

/// How a text may be written (libyaml's analysis of a scalar).
struct Traits {
    lines: bool,
    plain_allowed: bool,
    single_allowed: bool,
    block_allowed: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// A character that makes a plain scalar read as structure where it stands.
fn is_indicator(c: char, is_first: bool, after_blank: bool, before_blank: bool) -> bool {
    match c {
        '#' => is_first || after_blank,
        ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => is_first,
        '?' | '-' => is_first && before_blank,
        ':' => before_blank,
        _ => false,
    }
}

impl Traits {
    fn of(text: &str) -> Self {
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut lines, mut special) = (false, false);
        let (mut break_space, mut space_break) = (false, false);
        let mut previous = None;
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            let before_blank = characters.peek().is_none_or(|next| is_blank(*next));
            let after_blank = previous.is_none_or(|p: char| is_blank(p) || is_break(p));
            indicators |= is_indicator(c, previous.is_none(), after_blank, before_blank);
            special |= !is_printable(c);
            lines |= is_break(c);
            break_space |= c == ' ' && previous.is_some_and(is_break);
            space_break |= is_break(c) && previous == Some(' ');
            previous = Some(c);
        }
        let first_is_edge = text.chars().next().is_some_and(|c| c == ' ' || is_break(c));
        let last_is_edge = previous.is_some_and(|c| c == ' ' || is_break(c));
        let quoting = space_break || special;
        Self {
            lines,
            plain_allowed: !(indicators || lines || first_is_edge || last_is_edge || break_space || quoting),
            single_allowed: !(break_space || quoting),
            block_allowed: !(quoting || text.ends_with(' ') || text.is_empty()),
        }
    }
}

/// A literal block, `|`, with the indentation hint and the chomping mark that it needs.
fn literal(out: &mut String, text: &str, depth: usize) {
    out.push('|');
    if text.starts_with(|c: char| c == ' ' || is_break(c)) {
        out.push('2');
    }
    let without = text.strip_suffix('\n');
    match without {
        None => out.push('-'),
        Some(rest) if rest.is_empty() || rest.ends_with('\n') => out.push('+'),
        Some(_) => {}
    }
    for line in without.unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
    }
}

fn double_quoted(out: &mut String, text: &str, fold: Option<usize>) {
    out.push('"');
    let mut previous = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let next = characters.peek().copied();
        let may_fold = c == ' ' && previous.is_some_and(|p| p != ' ') && next.is_some();
        previous = Some(c);
        if let Some(depth) = fold.filter(|_| may_fold && column(out) > WIDTH) {
            out.push('\n');
            indent(out, depth);
            if next == Some(' ') {
                out.push('\\');
            }
            continue;
        }
        let escape = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' | '\\' => c,
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            c if is_printable(c) && c != '\u{feff}' => {
                out.push(c);
                continue;
            }
            c => {
                let code = u32::from(c);
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
                written.unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
                continue;
            }
        };
        out.push('\\');
        out.push(escape);
    }
    out.push('"');
}

/// go-yaml's order of keys: letters after other characters, numbers by value.
fn compare_keys(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let common = left.iter().zip(&right).take_while(|(l, r)| l == r).count();
    let (Some(l), Some(r)) = (left.get(common), right.get(common)) else { return left.len().cmp(&right.len()) };
    match (l.is_alphabetic(), r.is_alphabetic()) {
        (true, true) => return l.cmp(r),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let number = |text: &[char], mut value: i64| {
        let digits = text[common..].iter().take_while(|c| c.is_numeric());
        let mut length = 0;
        for digit in digits {
            value = value.wrapping_mul(10).wrapping_add(i64::from(u32::from(*digit)) - 48);
            length += 1;
        }
        (value, length)
    };
    let in_number = *l == '0' || *r == '0';
    let before = left[..common].iter().rev().take_while(|c| c.is_numeric()).any(|c| *c != '0');
    let start = i64::from(in_number && before);
    let (left_number, right_number) = (number(&left, start), number(&right, start));
    left_number.cmp(&right_number).then(l.cmp(r))
}
