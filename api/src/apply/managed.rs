//! The entries of `metadata.managedFields`: reading, sorting, bounding and writing them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::set;
use crate::Object;

/// How many managers that do not apply are told apart; the oldest are merged beyond that.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT_CHANGES: &str = "ancient-changes";

/// Fields that nobody owns.
static UNOWNED: LazyLock<Object> = LazyLock::new(|| {
    let metadata = json!({".": {}, "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {},
        "f:uid": {}, "f:clusterName": {}, "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {}});
    match json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": metadata}) {
        Value::Object(set) => set,
        _ => Object::new(),
    }
});

/// Takes out of a set what nobody owns.
pub fn strip(fields: &mut Object) {
    set::subtract(fields, &UNOWNED);
}

/// Who owns fields, and through what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub name: String,
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
}

impl Manager {
    /// Whether both are the same manager; whoever applies is so in every version.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }

    /// The order in which upstream's identifiers of managers stand.
    pub fn order(&self) -> (&str, bool, &str, &str) {
        (&self.name, !self.applies, &self.api_version, &self.subresource)
    }

    fn operation(&self) -> &'static str {
        if self.applies { "Apply" } else { "Update" }
    }
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: Manager,
    pub time: String,
    pub fields: Object,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed(pub Vec<Entry>);

impl Managed {
    /// Reads `managedFields`; the error says what is wrong with an entry.
    pub fn decode(entries: Option<Value>) -> Result<Self, String> {
        let mut managed = Self::default();
        let Some(Value::Array(entries)) = entries else { return Ok(managed) };
        for entry in entries {
            let entry = decode_entry(entry)?;
            managed.0.retain(|known| !known.manager.is(&entry.manager));
            managed.0.push(entry);
        }
        Ok(managed)
    }

    pub fn position(&self, manager: &Manager) -> Option<usize> {
        self.0.iter().position(|entry| entry.manager.is(manager))
    }

    /// Takes fields that a write changed or removed from all managers.
    pub fn lose(&mut self, changed: &Object, removed: &Object) {
        for entry in &mut self.0 {
            set::subtract(&mut entry.fields, changed);
            set::subtract(&mut entry.fields, removed);
        }
        self.drop_empty();
    }

    /// Forgets the managers that own nothing.
    pub fn drop_empty(&mut self) {
        self.0.retain(|entry| !set::is_empty(&entry.fields));
    }

    /// Merges the oldest of too many managers that do not apply, per version.
    pub fn bound(&mut self) {
        let updaters = self.0.iter().filter(|entry| !entry.manager.applies).count();
        if updaters <= MAX_UPDATE_MANAGERS {
            return;
        }
        let (mut updaters, rest): (Vec<Entry>, Vec<Entry>) = self.0.drain(..).partition(|entry| !entry.manager.applies);
        self.0 = rest;
        updaters.sort_by(|a, b| (&a.time, a.manager.order()).cmp(&(&b.time, b.manager.order())));
        let mut buckets: Vec<(Entry, usize)> = Vec::new();
        let mut count = updaters.len();
        let mut updaters = updaters.into_iter();
        while count > MAX_UPDATE_MANAGERS {
            let Some(oldest) = updaters.next() else { break };
            let bucket = buckets.iter_mut().find(|(known, _)| known.manager.api_version == oldest.manager.api_version);
            match bucket {
                Some((bucket, merged)) => {
                    *merged += 1;
                    count -= 1;
                    bucket.manager.name = ANCIENT_CHANGES.to_owned();
                    bucket.manager.subresource.clear();
                    set::union(&mut bucket.fields, oldest.fields);
                    bucket.time = oldest.time;
                }
                None => buckets.push((oldest, 1)),
            }
        }
        self.0.extend(buckets.into_iter().map(|(bucket, _)| bucket));
        self.0.extend(updaters);
    }

    /// The entries as they are stored; none when nobody owns anything.
    pub fn encode(mut self) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by(|a, b| {
            let (m, n) = (&a.manager, &b.manager);
            let earlier = m.operation().cmp(n.operation()).then_with(|| a.time.cmp(&b.time));
            let name = || m.name.cmp(&n.name).then_with(|| m.api_version.cmp(&n.api_version));
            earlier.then_with(name).then_with(|| m.subresource.cmp(&n.subresource))
        });
        Some(Value::Array(self.0.into_iter().map(encode_entry).collect()))
    }
}

fn decode_entry(mut entry: Value) -> Result<Entry, String> {
    let fields = entry.get_mut("fieldsV1").map(Value::take).unwrap_or_default();
    let mut text = |key: &str| match entry.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let applies = match text("operation").as_str() {
        "Apply" => true,
        "Update" => false,
        other => return Err(format!("operation must be `Apply` or `Update`: {other}")),
    };
    let manager =
        Manager { name: text("manager"), applies, api_version: text("apiVersion"), subresource: text("subresource") };
    if manager.api_version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match text("fieldsType").as_str() {
        "FieldsV1" => {}
        "" => return Err("missing fieldsType in managed fields entry".to_owned()),
        other => return Err(format!("invalid fieldsType in managed fields entry: {other}")),
    }
    let fields = match fields {
        Value::Null => Object::new(),
        Value::Object(fields) if set::is_valid(&fields) => fields,
        _ => return Err("error decoding set: not a FieldsV1 object".to_owned()),
    };
    Ok(Entry { manager, time: text("time"), fields })
}

fn encode_entry(entry: Entry) -> Value {
    let Entry { manager, time, fields } = entry;
    let operation = manager.operation();
    let mut out = Object::new();
    let mut text = |key: &str, value: String| {
        if !value.is_empty() {
            out.insert(key.to_owned(), Value::String(value));
        }
    };
    text("manager", manager.name);
    text("operation", operation.to_owned());
    text("apiVersion", manager.api_version);
    text("time", time);
    text("fieldsType", "FieldsV1".to_owned());
    text("subresource", manager.subresource);
    out.insert("fieldsV1".to_owned(), Value::Object(fields));
    Value::Object(out)
}
