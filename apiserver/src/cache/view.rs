//! What one reader sees of a resource: namespace and selectors.

use api::Status;
use api::fields::FieldSelector;
use api::labels::Selector;

use super::entry::Cached;
use crate::convert;
use crate::rows::Row;

/// A filter over cached objects.
#[derive(Clone, Debug)]
pub struct View {
    /// Empty for all namespaces.
    pub namespace: String,
    labels: Selector,
    fields: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    Own(usize),
}

impl View {
    /// Parses selectors; 400 for malformed ones and for fields that the resource cannot be selected by.
    pub fn new(row: &Row, namespace: &str, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = match labels {
            "" => Selector::everything(),
            text => Selector::parse(text).map_err(|e| Status::bad_request(e.to_string()))?,
        };
        let fields = match fields {
            "" => Vec::new(),
            text => Self::terms(row, text)?,
        };
        Ok(Self { namespace: namespace.to_owned(), labels, fields })
    }

    fn terms(row: &Row, text: &str) -> Result<Vec<Term>, Status> {
        let bad = |e: api::fields::FieldSelectorError| Status::bad_request(e.to_string());
        let selector = FieldSelector::parse(text).map_err(bad)?;
        selector.check_supported(&row.resource.selectable).map_err(bad)?;
        let mut terms = Vec::new();
        for term in selector.terms() {
            let field = match term.field.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                own => match position(row, own) {
                    Some(at) => Field::Own(at),
                    None => return Err(Status::bad_request(format!("field label not supported: {own}"))),
                },
            };
            terms.push(Term { field, value: term.value.clone(), equal: !term.negated });
        }
        Ok(terms)
    }

    /// The one name that the field selector asks for.
    pub fn exact_name(&self) -> Option<&str> {
        self.fields.iter().find(|t| t.equal && matches!(t.field, Field::Name)).map(|t| &*t.value)
    }

    /// Narrows the view to one name (a watch of a single object).
    pub fn only(&mut self, name: &str) {
        self.fields.push(Term { field: Field::Name, value: name.to_owned(), equal: true });
    }

    /// Whether labels or fields are selected by.
    pub fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub fn matches(&self, object: &Cached) -> bool {
        (self.namespace.is_empty() || object.namespace() == self.namespace)
            && (self.labels.is_empty() || self.labels.matches(&*object.labels))
            && self.fields.iter().all(|t| (field(object, t.field) == t.value) == t.equal)
    }
}

/// Where a cached entry has the value of a row's selectable field.
fn position(row: &Row, own: &str) -> Option<usize> {
    let stored = convert::stored_field(row, own);
    row.storage.selectable.iter().position(|s| *s == stored)
}

fn field(object: &Cached, field: Field) -> &str {
    match field {
        Field::Name => object.name(),
        Field::Namespace => object.namespace(),
        Field::Own(at) => object.fields.get(at).map_or("", |v| v),
    }
}
