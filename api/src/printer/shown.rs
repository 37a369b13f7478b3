//! What cells show. Ages change by themselves, so a row is prepared once per object and filled in when it is sent.

use std::borrow::Cow;

use serde_json::Value;

use super::human;

/// What one cell shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Value(Value),
    /// A text with the age of a time in it.
    Age {
        before: String,
        /// Unix seconds.
        at: i64,
        after: &'static str,
    },
}

impl<T: Into<Value>> From<T> for Shown {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl Shown {
    /// How long ago a time is, in Unix seconds.
    pub fn age(at: i64) -> Self {
        Self::Age { before: String::new(), at, after: "" }
    }

    /// How long ago an RFC 3339 time is; `<unknown>` when it is none.
    pub fn since(time: &str) -> Self {
        human::seconds(time).map_or_else(|| Self::from("<unknown>"), Self::age)
    }

    /// The cell's value at a time, in Unix seconds.
    pub fn at(&self, now: i64) -> Cow<'_, Value> {
        match self {
            Self::Value(value) => Cow::Borrowed(value),
            Self::Age { before, at, after } => {
                Cow::Owned(Value::from(format!("{before}{}{after}", human::duration(now - at))))
            }
        }
    }
}

/// The cells of an object as JSON, with gaps where ages belong. It may be kept as long as the object is.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    json: Box<str>,
    /// Where ages belong in the text, and of which times, in Unix seconds.
    ages: Box<[(usize, i64)]>,
}

impl Row {
    pub(super) fn new(cells: &[Shown]) -> Self {
        let mut json = String::from("[");
        let mut ages = Vec::new();
        for (position, cell) in cells.iter().enumerate() {
            if position > 0 {
                json.push(',');
            }
            match cell {
                Shown::Value(value) => json.push_str(&value.to_string()),
                Shown::Age { before, at, after } => {
                    let quoted = Value::from(before.as_str()).to_string();
                    json.push_str(quoted.strip_suffix('"').unwrap_or(&quoted));
                    ages.push((json.len(), *at));
                    json.push_str(after);
                    json.push('"');
                }
            }
        }
        json.push(']');
        Self { json: json.into(), ages: ages.into() }
    }

    /// Writes the cells as a JSON array, as they are at a time in Unix seconds.
    pub fn write(&self, now: i64, out: &mut Vec<u8>) {
        let mut from = 0;
        for (to, at) in &self.ages {
            out.extend_from_slice(self.json[from..*to].as_bytes());
            out.extend_from_slice(human::duration(now - at).as_bytes());
            from = *to;
        }
        out.extend_from_slice(self.json[from..].as_bytes());
    }
}
