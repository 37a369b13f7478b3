//! Which fields differ between two objects, found in one walk over both.

use serde_json::Value;
use serde_json::map::Entry;

use super::set;
use super::walk::{self, Shape};
use crate::{Object, Schema};

/// The fields that the right object lacks, has otherwise, or has besides those of the left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub removed: Object,
    pub modified: Object,
    pub added: Object,
}

/// What a value itself is, besides what is below it.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    None,
    Removed,
    Modified,
    Added,
}

impl Comparison {
    /// Compares two objects of a kind.
    pub fn of(schema: &Schema, left: &Object, right: &Object) -> Self {
        let mut all = Self::default();
        all.fields(schema, Some(left), Some(right));
        all
    }

    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Leaves out fields and everything below them.
    pub fn without(mut self, fields: &Object) -> Self {
        set::subtract_below(&mut self.removed, fields);
        set::subtract_below(&mut self.modified, fields);
        set::subtract_below(&mut self.added, fields);
        self
    }

    /// Takes all that the right object sets: modified and added fields.
    pub fn take_changed(&mut self) -> Object {
        let mut changed = std::mem::take(&mut self.modified);
        set::union(&mut changed, std::mem::take(&mut self.added));
        changed
    }

    fn value(&mut self, schema: &Schema, left: Option<&Value>, right: Option<&Value>) -> Mark {
        let Some(shape) = common_shape(schema, left, right) else { return leaf(left, right) };
        match shape {
            Shape::Leaf => return leaf(left, right),
            Shape::Map => {
                if walk::is_hollow(left) && walk::is_hollow(right) {
                    return leaf(left, right);
                }
                self.fields(schema, left.and_then(Value::as_object), right.and_then(Value::as_object));
            }
            Shape::Set | Shape::Keyed(_) => {
                if (walk::is_hollow(left) && walk::is_hollow(right)) || !self.items(schema, shape, left, right) {
                    return leaf(left, right);
                }
            }
        }
        match (left, right) {
            (None, _) => Mark::Added,
            (_, None) => Mark::Removed,
            _ => Mark::None,
        }
    }

    fn fields(&mut self, schema: &Schema, left: Option<&Object>, right: Option<&Object>) {
        for (name, old) in left.into_iter().flatten() {
            let new = right.and_then(|right| right.get(name));
            self.field(schema, name, Some(old), new, right.is_some());
        }
        for (name, new) in right.into_iter().flatten() {
            if left.is_none_or(|left| !left.contains_key(name)) {
                self.field(schema, name, None, Some(new), left.is_some());
            }
        }
    }

    /// A field; `both` says whether the object around it is there on both sides.
    fn field(&mut self, parent: &Schema, name: &str, left: Option<&Value>, right: Option<&Value>, both: bool) {
        let schema = walk::field(parent, name);
        if !both || parent.definition.is_empty() || (left.is_some() && right.is_some()) {
            return self.below(schema, "f:", name, left, right);
        }
        // Null is what upstream's types have for what is not set.
        if left.or(right).is_some_and(Value::is_null) {
            return;
        }
        let implied = walk::implied(schema);
        self.below(schema, "f:", name, left.or(implied), right.or(implied));
    }

    fn below(&mut self, schema: &Schema, prefix: &str, name: &str, left: Option<&Value>, right: Option<&Value>) {
        if left.is_some() && left == right && !matches!(left, Some(Value::Object(_))) {
            return;
        }
        if let (None, Some(new)) = (left, right) {
            let key = [prefix, name].concat();
            return set::attach_node(&mut self.added, &key, all_of(schema, new));
        }
        let mut inner = Self::default();
        let mark = inner.value(schema, left, right);
        if mark == Mark::None && inner.is_same() {
            return;
        }
        let key = [prefix, name].concat();
        self.attach(&key, mark, inner);
    }

    fn attach(&mut self, key: &str, mark: Mark, inner: Self) {
        set::attach(&mut self.removed, key, mark == Mark::Removed, inner.removed);
        set::attach(&mut self.modified, key, mark == Mark::Modified, inner.modified);
        set::attach(&mut self.added, key, mark == Mark::Added, inner.added);
    }

    /// Compares lists by items; false when some item cannot be told apart.
    fn items(&mut self, schema: &Schema, shape: Shape<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
        let (Some(left), Some(right)) = (index(schema, shape, left), index(schema, shape, right)) else { return false };
        let (mut l, mut r) = (left.chunk_by(same_key).peekable(), right.chunk_by(same_key).peekable());
        loop {
            let order = match (l.peek(), r.peek()) {
                (Some(a), Some(b)) => a[0].0.cmp(&b[0].0),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return true,
            };
            let old = if order.is_le() { l.next().unwrap_or_default() } else { &[] };
            let new = if order.is_ge() { r.next().unwrap_or_default() } else { &[] };
            self.same_items(walk::item(schema), old, new);
        }
    }

    /// Items with one key: usually one on each side; several are owned as one.
    fn same_items(&mut self, schema: &Schema, old: &[Keyed<'_>], new: &[Keyed<'_>]) {
        let Some((key, _)) = old.first().or(new.first()) else { return };
        let (one, other) = (old.first().map(|item| item.1), new.first().map(|item| item.1));
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => self.below(schema, "", key, one, other),
            (2.., 2..) => {
                if old != new {
                    self.attach(key, Mark::Modified, Self::default());
                }
            }
            (2.., _) => {
                self.below(schema, "", key, None, other);
                self.attach(key, Mark::Removed, Self::default());
            }
            _ => {
                self.below(schema, "", key, one, None);
                self.attach(key, Mark::Added, Self::default());
            }
        }
    }
}

/// The node of a value that is new with all that is in it. Items with the same key are owned as one.
fn all_of(schema: &Schema, value: &Value) -> Object {
    let shape = walk::shape(schema, value);
    let mut node = Object::new();
    match (shape, value) {
        (Shape::Map, Value::Object(map)) => {
            for (name, value) in map {
                node.insert(["f:", name].concat(), all_of(walk::field(schema, name), value).into());
            }
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(list)) => {
            for item in list {
                // A list whose items cannot be told apart is owned as one.
                let Ok(key) = walk::element(schema, shape, item) else { return Object::new() };
                match node.entry(key) {
                    Entry::Vacant(place) => drop(place.insert(all_of(walk::item(schema), item).into())),
                    Entry::Occupied(mut place) => drop(place.insert(Object::new().into())),
                }
            }
        }
        _ => {}
    }
    set::member(node)
}

type Keyed<'a> = (String, &'a Value);

fn same_key(a: &Keyed<'_>, b: &Keyed<'_>) -> bool {
    a.0 == b.0
}

/// The items of a list by their keys, in the order of the keys; items with the same key stay in theirs.
fn index<'a>(schema: &Schema, shape: Shape<'_>, list: Option<&'a Value>) -> Option<Vec<Keyed<'a>>> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut items = Vec::with_capacity(list.len());
    for item in list {
        items.push((walk::element(schema, shape, item).ok()?, item));
    }
    items.sort_by(|a, b| a.0.cmp(&b.0));
    Some(items)
}

/// How both values are divided; `None` when they differ in that.
fn common_shape<'a>(schema: &'a Schema, left: Option<&Value>, right: Option<&Value>) -> Option<Shape<'a>> {
    match (left, right) {
        (Some(left), Some(right)) => {
            let shape = walk::shape(schema, left);
            (walk::shape(schema, right) == shape).then_some(shape)
        }
        (one, other) => one.or(other).map(|value| walk::shape(schema, value)),
    }
}

fn leaf(left: Option<&Value>, right: Option<&Value>) -> Mark {
    match (left, right) {
        (None, Some(_)) => Mark::Added,
        (Some(_), None) => Mark::Removed,
        (Some(left), Some(right)) if left != right => Mark::Modified,
        _ => Mark::None,
    }
}
