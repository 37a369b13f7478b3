//! Mutations: of bytes, of text with a vocabulary, of JSON as a tree.

use serde_json::{Map, Value, json};

use crate::rng::Rng;

/// What an input is made of, and so how it is changed.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Bytes,
    /// Text, and words that mean something in it.
    Text(&'static [&'static str]),
    /// JSON; a part of the inputs is changed as text, so that it is none.
    Json,
}

/// Inputs are not made longer than this, in bytes.
const MAX: usize = 256 << 10;

/// A new input from two of the corpus.
pub fn mutate(shape: Shape, base: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut input = base.to_vec();
    if let Shape::Json = shape
        && !rng.one_in(4)
        && let Ok(mut value) = serde_json::from_slice::<Value>(base)
    {
        let donor = serde_json::from_slice::<Value>(other).unwrap_or_default();
        for _ in 0..=rng.below(3) {
            tree(&mut value, &donor, rng);
        }
        return serde_json::to_vec(&value).unwrap_or_default();
    }
    for _ in 0..=rng.below(4) {
        match shape {
            Shape::Text(words) if !rng.one_in(3) => text(&mut input, words, rng),
            Shape::Json if !rng.one_in(3) => text(&mut input, JSON, rng),
            _ => bytes(&mut input, other, rng),
        }
    }
    input.truncate(MAX);
    input
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-",
    "0",
    "1e999",
    "1E-999",
    "-0",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "\"a\":",
    "{\"a\":",
    "[[[[[[[[",
    "\u{feff}",
    "\"\"",
    ".5",
    "1.",
    "\\x",
    "//",
    "NaN",
];

fn bytes(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(input.len() + 1);
    let length = rng.below(1 + (input.len() - at).min(64));
    match rng.below(9) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..at + length)),
        2 => {
            let copy = input[at..at + length].to_vec();
            input.splice(at..at, copy);
        }
        3 => {
            let from = rng.below(other.len() + 1);
            let piece = &other[from..from + rng.below(1 + (other.len() - from).min(256))];
            input.splice(at..at + length, piece.iter().copied());
        }
        4 => {
            let times = 1 << rng.below(15);
            let copy = input[at..at + length.min(8)].repeat(times);
            input.splice(at..at, copy.into_iter().take(MAX));
        }
        5 => {
            const WORDS: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, u64::MAX];
            let word = WORDS[rng.below(WORDS.len())];
            let bytes = if rng.one_in(2) { word.to_le_bytes() } else { word.to_be_bytes() };
            let end = (at + [1, 2, 4, 8][rng.below(4)]).min(input.len());
            input.splice(at..end, bytes.into_iter().take(end - at));
        }
        _ => {
            for _ in 0..=rng.below(4) {
                let at = rng.below(input.len());
                if let Some(byte) = input.get_mut(at) {
                    *byte = if rng.one_in(2) { *byte ^ (1 << rng.below(8)) } else { rng.word() as u8 };
                }
            }
        }
    }
}

fn text(input: &mut Vec<u8>, words: &[&str], rng: &mut Rng) {
    const ODD: [&str; 10] =
        ["\0", "\u{7f}", "\u{80}", "\u{2028}", "\u{1f600}", "\u{202e}", " ", "\n", "\t", "-9223372036854775808"];
    let word = if rng.one_in(5) { ODD[rng.below(ODD.len())] } else { rng.pick(words).copied().unwrap_or("") };
    let at = rng.below(input.len() + 1);
    let times = if rng.one_in(6) { 1 << rng.below(15) } else { 1 };
    let end = if rng.one_in(2) { at } else { at + rng.below(1 + (input.len() - at).min(8)) };
    input.splice(at..end, word.as_bytes().repeat(times).into_iter().take(MAX));
}

/// Changes one place of a tree.
fn tree(value: &mut Value, donor: &Value, rng: &mut Rng) {
    let inner = match value {
        Value::Object(map) if !map.is_empty() && !rng.one_in(6) => {
            let at = rng.below(map.len());
            if rng.one_in(8) {
                return object(map, at, donor, rng);
            }
            map.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() && !rng.one_in(6) => {
            if rng.one_in(6) {
                let item = items[rng.below(items.len())].clone();
                let times = if rng.one_in(5) { 500 } else { 1 };
                return items.extend(std::iter::repeat_n(item, times));
            }
            let at = rng.below(items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) => tree(inner, donor, rng),
        None => *value = replacement(value, donor, rng),
    }
}

fn object(map: &mut Map<String, Value>, at: usize, donor: &Value, rng: &mut Rng) {
    let key = map.keys().nth(at).cloned().unwrap_or_default();
    let value = map.get(&key).cloned().unwrap_or_default();
    match rng.below(4) {
        0 => drop(map.remove(&key)),
        1 => drop(map.insert(format!("{key}x"), value)),
        2 => drop(map.insert(key, somewhere(donor, rng).clone())),
        _ => {
            const NAMES: [&str; 6] = ["", "$patch", "$setElementOrder/containers", "a/b", "~1", "metadata"];
            map.insert(NAMES[rng.below(NAMES.len())].to_owned(), value);
        }
    }
}

/// Any place of a tree.
fn somewhere<'v>(value: &'v Value, rng: &mut Rng) -> &'v Value {
    let inner = match value {
        Value::Object(map) => map.values().nth(rng.below(map.len())),
        Value::Array(items) => items.get(rng.below(items.len())),
        _ => None,
    };
    match inner {
        Some(inner) if !rng.one_in(3) => somewhere(inner, rng),
        _ => value,
    }
}

fn replacement(value: &Value, donor: &Value, rng: &mut Rng) -> Value {
    match rng.below(12) {
        0 => Value::Null,
        1 => json!(i64::MIN),
        2 => json!(u64::MAX),
        3 => json!(-1),
        4 => json!(1.5e300),
        5 => json!(""),
        6 => json!("x".repeat(1 << rng.below(14))),
        7 => json!([]),
        8 => json!({}),
        9 => json!([value]),
        10 => {
            let depth = rng.below(120);
            (0..depth).fold(value.clone(), |inner, at| if at % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
        }
        _ => somewhere(donor, rng).clone(),
    }
}
