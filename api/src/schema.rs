//! What an object of a kind looks like: one type for built-in kinds (from the generated table) and CRDs.
//!
//! Pruning, defaulting, strict decoding, structural validation, strategic merge patch, server-side apply, OpenAPI and
//! `explain` are all functions over a [`Schema`].

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::builtin::Definition;

/// A text of a schema: borrowed from the generated data for built-in kinds, owned for CRDs.
pub type Text = Cow<'static, str>;

/// The JSON type that a value must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// A number or a text (`x-kubernetes-int-or-string`); quantities are of this type too.
    IntOrString,
    /// Anything: RawExtension, JSON, FieldsV1.
    Any,
}

/// `x-kubernetes-list-type`, and for built-in kinds the older patch strategy, told apart where they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// Items are told apart by the values of these keys.
    Map(Vec<Text>),
}

/// `x-kubernetes-patch-strategy` of a list or object field (strategic merge patch).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub retain_keys: bool,
}

/// The schema of one value. Built-in definitions are shared by `Arc`, so a schema is cheap to hold.
#[derive(Clone, Debug)]
pub struct Schema {
    pub ty: Type,
    /// `int32`, `int64`, `double`, `byte`, `date-time`, or empty.
    pub format: Text,
    /// Whether JSON null stands for "not set" (all pointer fields of built-in kinds do).
    pub nullable: bool,
    /// Whether a zero value, an empty list or an empty map is the same as none and is not kept (Go's `omitempty` of
    /// what is no pointer). Only built-in kinds have such fields.
    pub omit_empty: bool,
    pub default: Option<Value>,
    /// Known fields of an object, by name.
    pub properties: Fields,
    pub required: Vec<Text>,
    /// The schema of every other field of an object (`additionalProperties`).
    pub additional: Option<Arc<Schema>>,
    /// The schema of an array's items.
    pub items: Option<Arc<Schema>>,
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`: server-side apply treats the object as one value.
    pub atomic_map: bool,
    pub patch_strategy: PatchStrategy,
    /// The key that strategic merge patch tells a list's items apart by; empty for lists of scalars.
    pub patch_merge_key: Text,
    /// `x-kubernetes-preserve-unknown-fields`: unknown fields are kept.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: the value is a whole object with apiVersion, kind and metadata.
    pub embedded: bool,
    /// The named definition that this schema is (`io.k8s.api.core.v1.Pod`); empty for inline ones.
    pub definition: Text,
    /// Enumerated values, patterns, bounds and CEL rules of CRDs, as they stand in the CRD's schema.
    pub constraints: Option<Arc<Value>>,
}

/// Anything goes.
impl Default for Schema {
    fn default() -> Self {
        Self { preserve_unknown: true, nullable: true, ..Self::of(Type::Any) }
    }
}

impl Schema {
    /// A schema of a type with nothing else said.
    pub fn of(ty: Type) -> Self {
        Self {
            ty,
            format: Text::Borrowed(""),
            nullable: false,
            omit_empty: false,
            default: None,
            properties: Fields::default(),
            required: Vec::new(),
            additional: None,
            items: None,
            list_type: ListType::Atomic,
            atomic_map: false,
            patch_strategy: PatchStrategy::default(),
            patch_merge_key: Text::Borrowed(""),
            preserve_unknown: false,
            embedded: false,
            definition: Text::Borrowed(""),
            constraints: None,
        }
    }

    /// The schema of an object's field, known or additional.
    pub fn field(&self, name: &str) -> Option<&Arc<Schema>> {
        self.properties.get(name).or(self.additional.as_ref())
    }
}

/// Known fields of an object, sorted by name. Those of a built-in definition are parsed when they are first looked at,
/// which also lets definitions refer to themselves (`JSONSchemaProps`).
#[derive(Clone, Default)]
pub struct Fields(Inner);

#[derive(Clone)]
enum Inner {
    Own(Vec<(Text, Arc<Schema>)>),
    Builtin(&'static Definition),
}

impl Default for Inner {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Fields {
    pub(crate) fn of_definition(definition: &'static Definition) -> Self {
        Self(Inner::Builtin(definition))
    }

    fn sorted(&self) -> &[(Text, Arc<Schema>)] {
        match &self.0 {
            Inner::Own(fields) => fields,
            Inner::Builtin(definition) => definition.fields(),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Schema>> {
        self.get_key_value(name).map(|(_, schema)| schema)
    }

    /// The field with its name as the schema holds it, which for built-in kinds lives for ever.
    pub fn get_key_value(&self, name: &str) -> Option<(&Text, &Arc<Schema>)> {
        let fields = self.sorted();
        let at = fields.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        fields.get(at).map(|(name, schema)| (name, schema))
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn insert(&mut self, name: impl Into<Text>, schema: Arc<Schema>) {
        let mut fields = self.sorted().to_vec();
        let name = name.into();
        match fields.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(at) => fields[at].1 = schema,
            Err(at) => fields.insert(at, (name, schema)),
        }
        self.0 = Inner::Own(fields);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Schema>)> {
        self.sorted().iter().map(|(name, schema)| (name.as_ref(), schema))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    pub fn values(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.iter().map(|(_, schema)| schema)
    }

    /// Names and defaults of the fields that have one.
    pub fn defaults(&self) -> impl Iterator<Item = (&str, &Value)> {
        let (own, builtin): (&[_], &[_]) = match &self.0 {
            Inner::Own(fields) => (fields, &[]),
            Inner::Builtin(definition) => (&[], definition.defaulted()),
        };
        let fields =
            own.iter().map(|(name, schema)| (name.as_ref(), schema)).chain(builtin.iter().map(|(n, s)| (*n, s)));
        fields.filter_map(|(name, schema)| schema.default.as_ref().map(|default| (name, default)))
    }

    pub fn len(&self) -> usize {
        self.sorted().len()
    }

    pub fn is_empty(&self) -> bool {
        self.sorted().is_empty()
    }
}

impl<N: Into<Text>> FromIterator<(N, Arc<Schema>)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, Arc<Schema>)>>(fields: I) -> Self {
        let mut fields: Vec<_> = fields.into_iter().map(|(name, schema)| (name.into(), schema)).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|a, b| a.0 == b.0);
        Self(Inner::Own(fields))
    }
}

/// A built-in definition shows as its name: it may refer to itself.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Own(fields) => f.debug_map().entries(fields.iter().map(|(n, s)| (n, s))).finish(),
            Inner::Builtin(definition) => f.write_str(definition.name()),
        }
    }
}
