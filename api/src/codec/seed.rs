//! The schema-led pass: serde visitors that build an object and check each value against its schema on the way.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::go_json::go_float;
use super::{FieldValidation, go_names, scalars};
use crate::Object;
use crate::schema::{Schema, Type};

/// One step of the path to the value at hand.
enum Step<'s> {
    /// A field of a struct; `owner` is the struct's definition.
    Field {
        owner: &'s str,
        name: &'s str,
    },
    /// An entry of a map.
    Key(String),
    Index(usize),
}

/// State of one pass.
pub(super) struct Context<'s> {
    mode: FieldValidation,
    path: Vec<Step<'s>>,
    problems: Vec<String>,
    failure: Option<String>,
    /// A number in the failure, as it was understood.
    number: Option<String>,
    /// Whether a value was passed over unread.
    skipped: bool,
}

impl<'s> Context<'s> {
    pub fn new(mode: FieldValidation) -> Self {
        Self { mode, path: Vec::new(), problems: Vec::new(), failure: None, number: None, skipped: false }
    }

    /// Decodes a whole object; null is the empty one.
    pub fn object<'de, D: Deserializer<'de>>(&mut self, schema: &'s Schema, from: D) -> Result<Object, D::Error> {
        let value = Seed { context: self, schema }.deserialize(from)?;
        Ok(match value {
            Some(Value::Object(object)) => object,
            _ => Object::new(),
        })
    }

    /// Whether the pass found nothing wrong: if it failed, the bytes did.
    pub fn is_unhurt(&self) -> bool {
        self.failure.is_none()
    }

    pub fn has_skipped(&self) -> bool {
        self.skipped
    }

    /// Unknown and duplicate fields.
    pub fn into_problems(self) -> Vec<String> {
        self.problems
    }

    /// What made the pass fail, unless the bytes did. `literal` is the number that it failed at as it is written, if it
    /// was one: what it says is not always what was understood.
    pub fn into_failure(self, literal: Option<&str>) -> Option<String> {
        let failure = self.failure?;
        Some(match (self.number, literal) {
            (Some(number), Some(literal)) => {
                failure.replacen(&format!("number {number} "), &format!("number {literal} "), 1)
            }
            _ => failure,
        })
    }

    fn path_to(&self, field: &str) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Field { name, .. } => push_name(&mut path, name),
                Step::Key(key) => push_name(&mut path, key),
            }
        }
        push_name(&mut path, field);
        path
    }

    fn note(&mut self, what: &str, field: &str) {
        if self.mode != FieldValidation::Ignore {
            let problem = format!("{what} field \"{}\"", self.path_to(field));
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    fn fail<E: serde::de::Error>(&mut self, message: String) -> E {
        let error = E::custom(&message);
        self.failure.get_or_insert(message);
        error
    }

    /// The value is of another type than the field, in the words of Go's decoder.
    fn wrong_type<E: serde::de::Error>(&mut self, what: &str, schema: &Schema) -> E {
        let mut path = String::new();
        let (mut owner, mut named) = ("", "");
        for step in &self.path {
            match step {
                Step::Field { owner: of, name } => {
                    let (ty, embedded) = go_names::of_field(of, name);
                    if !embedded.is_empty() {
                        push_name(&mut path, embedded);
                    }
                    push_name(&mut path, name);
                    (owner, named) = (of, ty);
                }
                Step::Index(_) => named = named.strip_prefix("[]").unwrap_or_default(),
                Step::Key(_) => named = "",
            }
        }
        let ty = if named.is_empty() { scalars::go_type(schema) } else { named.to_owned() };
        self.fail(if path.is_empty() {
            format!("json: cannot unmarshal {what} into Go value of type {ty}")
        } else {
            let owner = scalars::short_name(owner);
            format!("json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {ty}")
        })
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// What null becomes where a value must be.
fn zero(schema: &Schema) -> Value {
    match schema.ty {
        Type::String => Value::from(""),
        Type::Integer | Type::Number => Value::from(0),
        Type::Boolean => Value::from(false),
        Type::IntOrString => Value::from("0"),
        Type::Object => Value::Object(Object::new()),
        Type::Array | Type::Any => Value::Null,
    }
}

/// Whether Go would call it empty.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// Decodes one value. `None` means that it is not set.
struct Seed<'c, 's> {
    context: &'c mut Context<'s>,
    schema: &'s Schema,
}

impl<'de, 's> DeserializeSeed<'de> for Seed<'_, 's> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        if self.schema.ty == Type::Any {
            let value = Value::deserialize(from)?;
            return Ok(if value.is_null() { None } else { Some(value) });
        }
        from.deserialize_any(self)
    }
}

impl<'de, 's> Visitor<'de> for Seed<'_, 's> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        match self.schema.ty {
            Type::Boolean => Ok(Some(Value::Bool(value))),
            _ => Err(self.refuse("bool")),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        self.integer(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => self.float(value as f64, value.to_string()),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        self.float(value, go_float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        self.text(value, |value| value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Self::Value, E> {
        self.text(value, |value| value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let items = match (&self.schema.items, self.schema.ty) {
            (Some(items), Type::Array) => items,
            _ => return Err(self.refuse("array")),
        };
        let mut list = Vec::new();
        loop {
            self.context.path.push(Step::Index(list.len()));
            let next = from.next_element_seed(Seed { context: self.context, schema: items })?;
            self.context.path.pop();
            match next {
                Some(value) => list.push(value.unwrap_or_else(|| zero(items))),
                None => break,
            }
        }
        Ok(Some(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Self::Value, A::Error> {
        match (self.schema.ty, &self.schema.additional) {
            (Type::Object, Some(values)) if self.schema.properties.is_empty() => self.context.map(values, from),
            (Type::Object, _) => self.context.fields(self.schema, from),
            _ => Err(self.refuse("object")),
        }
    }
}

impl<'s> Seed<'_, 's> {
    /// The error for a value of a type that the schema never takes. Quantities have their own decoder and words.
    fn refuse<E: serde::de::Error>(self, what: &str) -> E {
        match self.schema.ty {
            Type::IntOrString if !scalars::is_int_or_string(self.schema) => self.context.fail(scalars::bad_quantity()),
            _ => self.context.wrong_type(what, self.schema),
        }
    }

    fn integer<E: serde::de::Error>(self, value: i64) -> Result<Option<Value>, E> {
        let is_small = i32::try_from(value).is_ok();
        match self.schema.ty {
            Type::Integer if is_small || self.schema.format != "int32" => Ok(Some(Value::from(value))),
            Type::Number => Ok(Some(Value::from(value))),
            Type::IntOrString if !scalars::is_int_or_string(self.schema) => self.quantity(&value.to_string()),
            Type::IntOrString if is_small => Ok(Some(Value::from(value))),
            Type::Integer | Type::IntOrString => Err(self.number(&value.to_string())),
            _ => Err(self.context.wrong_type("number", self.schema)),
        }
    }

    fn float<E: serde::de::Error>(self, value: f64, literal: String) -> Result<Option<Value>, E> {
        match self.schema.ty {
            Type::Number => Ok(Number::from_f64(value).map(Value::Number)),
            Type::IntOrString if !scalars::is_int_or_string(self.schema) => self.quantity(&literal),
            Type::Integer | Type::IntOrString => Err(self.number(&literal)),
            _ => Err(self.context.wrong_type("number", self.schema)),
        }
    }

    /// The error for a number that does not fit.
    fn number<E: serde::de::Error>(self, number: &str) -> E {
        self.context.number = Some(number.to_owned());
        self.context.wrong_type(&format!("number {number}"), self.schema)
    }

    fn quantity<E: serde::de::Error>(self, text: &str) -> Result<Option<Value>, E> {
        match scalars::quantity(text) {
            Ok(canonical) => Ok(Some(Value::String(canonical))),
            Err(message) => Err(self.context.fail(message)),
        }
    }

    fn text<E, T>(self, value: T, own: impl Fn(T) -> String) -> Result<Option<Value>, E>
    where
        E: serde::de::Error,
        T: AsRef<str>,
    {
        let checked = match (self.schema.ty, self.schema.format.as_ref()) {
            (Type::String, "byte") => scalars::base64(value.as_ref()),
            (Type::String, "date-time") => scalars::time(value.as_ref(), &self.schema.definition),
            (Type::String, _) => return Ok(Some(Value::String(own(value)))),
            (Type::IntOrString, "int-or-string") => return Ok(Some(Value::String(own(value)))),
            (Type::IntOrString, _) => scalars::quantity(value.as_ref()).map(Some),
            _ => return Err(self.context.wrong_type("string", self.schema)),
        };
        match checked {
            Ok(Some(canonical)) => Ok(Some(Value::String(canonical))),
            Ok(None) => Ok(Some(Value::String(own(value)))),
            Err(message) => Err(self.context.fail(message)),
        }
    }
}

impl<'s> Context<'s> {
    /// Decodes a map of one type of values.
    fn map<'de, A: MapAccess<'de>>(&mut self, values: &'s Schema, mut from: A) -> Result<Option<Value>, A::Error> {
        let mut object = Object::new();
        while let Some(key) = from.next_key::<String>()? {
            self.path.push(Step::Key(key));
            let value = from.next_value_seed(Seed { context: self, schema: values })?;
            let Some(Step::Key(key)) = self.path.pop() else { unreachable!("pushed just above") };
            let value = value.unwrap_or_else(|| zero(values));
            if object.contains_key(&key) {
                self.note("duplicate", &key);
            }
            object.insert(key, value);
        }
        Ok(Some(Value::Object(object)))
    }

    /// Decodes an object with known fields.
    fn fields<'de, A: MapAccess<'de>>(&mut self, schema: &'s Schema, mut from: A) -> Result<Option<Value>, A::Error> {
        let mut object = Object::new();
        while let Some(key) = from.next_key::<String>()? {
            let Some((name, field)) = schema.properties.get_key_value(&key) else {
                self.unknown(schema, key, &mut object, &mut from)?;
                continue;
            };
            self.path.push(Step::Field { owner: &schema.definition, name });
            let value = from.next_value_seed(Seed { context: self, schema: field })?;
            self.path.pop();
            let former = match value.filter(|value| !(field.omit_empty && is_zero(value))) {
                Some(value) => object.insert(key, value),
                None => object.remove(&key),
            };
            if former.is_some() {
                self.note("duplicate", name);
            }
        }
        Ok(Some(Value::Object(object)))
    }

    fn unknown<'de, A: MapAccess<'de>>(
        &mut self,
        schema: &'s Schema,
        key: String,
        object: &mut Object,
        from: &mut A,
    ) -> Result<(), A::Error> {
        if schema.preserve_unknown {
            object.insert(key, from.next_value()?);
            return Ok(());
        }
        from.next_value::<IgnoredAny>()?;
        self.skipped = true;
        self.note("unknown", &key);
        Ok(())
    }
}
