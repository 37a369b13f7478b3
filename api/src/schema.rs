//! What an object of a kind looks like: one type for built-in kinds (from the generated table) and CRDs.
//!
//! Pruning, defaulting, strict decoding, structural validation, strategic merge patch, server-side apply, OpenAPI and
//! `explain` are all functions over a [`Schema`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

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
    Map(Vec<String>),
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
    pub format: String,
    /// Whether JSON null stands for "not set" (all pointer fields of built-in kinds do).
    pub nullable: bool,
    pub default: Option<Value>,
    /// Known fields of an object, by name.
    pub properties: BTreeMap<String, Arc<Schema>>,
    pub required: Vec<String>,
    /// The schema of every other field of an object (`additionalProperties`).
    pub additional: Option<Arc<Schema>>,
    /// The schema of an array's items.
    pub items: Option<Arc<Schema>>,
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`: server-side apply treats the object as one value.
    pub atomic_map: bool,
    pub patch_strategy: PatchStrategy,
    /// The key that strategic merge patch tells a list's items apart by; empty for lists of scalars.
    pub patch_merge_key: String,
    /// `x-kubernetes-preserve-unknown-fields`: unknown fields are kept.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: the value is a whole object with apiVersion, kind and metadata.
    pub embedded: bool,
    /// The named definition that this schema is (`io.k8s.api.core.v1.Pod`); empty for inline ones.
    pub definition: String,
    /// Enumerated values, patterns, bounds and CEL rules of CRDs, as they stand in the CRD's schema.
    pub constraints: Option<Arc<Value>>,
}

impl Schema {
    /// A schema of a type with nothing else said.
    pub fn of(ty: Type) -> Self {
        Self {
            ty,
            format: String::new(),
            nullable: false,
            default: None,
            properties: BTreeMap::new(),
            required: Vec::new(),
            additional: None,
            items: None,
            list_type: ListType::Atomic,
            atomic_map: false,
            patch_strategy: PatchStrategy::default(),
            patch_merge_key: String::new(),
            preserve_unknown: false,
            embedded: false,
            definition: String::new(),
            constraints: None,
        }
    }

    /// The schema of an object's field, known or additional.
    pub fn field(&self, name: &str) -> Option<&Arc<Schema>> {
        self.properties.get(name).or(self.additional.as_ref())
    }
}

/// Definitions by name, as published (`io.k8s.api.core.v1.Pod`).
#[derive(Clone, Debug, Default)]
pub struct SchemaSet {
    pub definitions: BTreeMap<String, Arc<Schema>>,
}
