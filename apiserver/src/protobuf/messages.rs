//! The messages by name: field numbers, JSON names and kinds, from `data/protobuf.txt`.
//!
//! A line without indentation names a message; each line below it is `number jsonName kind`. `^` as a name means that
//! the message's fields stand in the outer object. Kinds: `s` text, `y` bytes, `b` boolean, `i` integer, `d` double,
//! `q` quantity, `t` and `u` times, `o` int-or-string, `r` raw JSON, `D` duration, `e` wrapped list of text, `@NAME` a
//! message; with `*` a pointer, whose zero means something, `[]` a list, `{}` a map from text.

use std::collections::HashMap;
use std::sync::OnceLock;

static TEXT: &str = include_str!("../../data/protobuf.txt");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bytes,
    Bool,
    Int,
    Double,
    Quantity,
    Time,
    MicroTime,
    IntOrString,
    Raw,
    Duration,
    Texts,
    Message(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    Pointer,
    List,
    Map,
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub number: u64,
    /// `^` for inlined messages.
    pub name: &'static str,
    pub kind: Kind,
    pub shape: Shape,
}

/// Fields of a message, by number.
pub type Message = Vec<Field>;

fn parse() -> HashMap<&'static str, Message> {
    let mut messages: HashMap<&'static str, Message> = HashMap::new();
    let mut current = "";
    for line in TEXT.lines() {
        match line.strip_prefix(' ') {
            None => {
                current = line;
                messages.entry(line).or_default();
            }
            Some(rest) => {
                if let (Some(field), Some(message)) = (field(rest), messages.get_mut(current)) {
                    message.push(field);
                }
            }
        }
    }
    messages
}

fn field(line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let (number, name, kind) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (kind, shape) = if let Some(kind) = kind.strip_suffix("[]") {
        (kind, Shape::List)
    } else if let Some(kind) = kind.strip_suffix("{}") {
        (kind, Shape::Map)
    } else if let Some(kind) = kind.strip_suffix('*') {
        (kind, Shape::Pointer)
    } else {
        (kind, Shape::One)
    };
    let kind = match kind.trim_end_matches('*') {
        "s" => Kind::Text,
        "y" => Kind::Bytes,
        "b" => Kind::Bool,
        "i" => Kind::Int,
        "d" => Kind::Double,
        "q" => Kind::Quantity,
        "t" => Kind::Time,
        "u" => Kind::MicroTime,
        "o" => Kind::IntOrString,
        "r" => Kind::Raw,
        "D" => Kind::Duration,
        "e" => Kind::Texts,
        message => Kind::Message(message.strip_prefix('@')?),
    };
    Some(Field { number, name, kind, shape })
}

/// A message by name, `apps/v1.Deployment`.
pub fn get(name: &str) -> Option<&'static Message> {
    static MESSAGES: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    MESSAGES.get_or_init(parse).get(name)
}

/// The name of a kind's message: packages are called by the group's first label, `core` for the core group.
pub fn name_of(api_version: &str, kind: &str) -> String {
    let (group, version) = api::meta::split_api_version(api_version).unwrap_or(("", api_version));
    let package = match group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    };
    format!("{package}/{version}.{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood_and_every_message_is_there() {
        let messages = parse();
        let fields = TEXT.lines().filter(|l| l.starts_with(' ')).count();
        assert_eq!(messages.values().map(Vec::len).sum::<usize>(), fields);
        for field in messages.values().flatten() {
            if let Kind::Message(name) = field.kind {
                assert!(messages.contains_key(name), "{name}");
            }
        }
    }
}
