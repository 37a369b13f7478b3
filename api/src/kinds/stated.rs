//! Defaults as data, `data/defaults.txt`: for kinds whose defaults are constants.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::json::{int, text};
use super::prepare;
use crate::Object;
use crate::table::Hooks;

static TEXT: &str = include_str!("../../data/defaults.txt");

/// One line of the file.
struct Default {
    path: &'static str,
    field: &'static str,
    value: Value,
    /// Zero and empty count as missing.
    of_zero: bool,
    /// A sibling, and the text that it must have.
    condition: Option<(&'static str, &'static str)>,
}

/// The lines by API version and kind.
static DEFAULTS: LazyLock<BTreeMap<(&'static str, &'static str), Vec<Default>>> = LazyLock::new(|| {
    let mut all: BTreeMap<_, Vec<Default>> = BTreeMap::new();
    for line in TEXT.lines().filter(|line| !line.starts_with('#')) {
        let (key, default) = read(line).unwrap_or_else(|| unreachable!("no default is {line:?}"));
        all.entry(key).or_default().push(default);
    }
    all
});

fn read(line: &'static str) -> Option<((&'static str, &'static str), Default)> {
    let mut words = line.split(' ');
    let key = (words.next()?, words.next()?);
    let (path, field, value) = (words.next()?, words.next()?, words.next()?);
    let (of_zero, value) = value.strip_prefix('~').map_or((false, value), |value| (true, value));
    let condition = words.next().map(|word| word.split_once('=').unwrap_or((word, "")));
    Some((key, Default { path, field, value: serde_json::from_str(value).ok()?, of_zero, condition }))
}

/// The hooks of a kind that has lines in the file.
pub fn hooks(kind: &str) -> Hooks {
    let prepare: Option<fn(&mut Object, Option<&Object>, &str)> = match kind {
        "CSIDriver" => Some(prepare_driver),
        "ResourceClaim" => {
            Some(|new, old, subresource| prepare::with_status(new, old, subresource, || Value::Object(Object::new())))
        }
        "ResourceClaimTemplate" => Some(prepare::nothing),
        "ValidatingAdmissionPolicy" | "FlowSchema" | "PriorityLevelConfiguration" => {
            Some(|new, old, subresource| prepare::counted(new, old, subresource, || Value::Object(Object::new())))
        }
        _ => Some(prepare::counted_spec),
    };
    Hooks { default: Some(apply), prepare, ..Hooks::default() }
}

/// A driver's generation counts from its first change of what kubelets have to know.
fn prepare_driver(new: &mut Object, old: Option<&Object>, _subresource: &str) {
    let Some(old) = old else { return };
    let known = |driver: &Object| {
        let spec = driver.get("spec");
        ["tokenRequests", "requiresRepublish", "seLinuxMount"].map(|key| spec.and_then(|spec| spec.get(key)).cloned())
    };
    let before = crate::object::metadata(old).and_then(|metadata| int(metadata, "generation")).unwrap_or(0);
    let generation = before + i64::from(known(new) != known(old));
    if generation > 0 {
        crate::object::metadata_mut(new).insert("generation".to_owned(), generation.into());
    }
}

/// Sets an object's defaults.
fn apply(object: &mut Object) {
    let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    let own = DEFAULTS.iter().find(|((of_version, of_kind), _)| *of_version == api_version && *of_kind == kind);
    let Some((_, defaults)) = own else { return };
    for default in defaults {
        visit(object, default.path, &|parent| default.set(parent));
    }
}

/// Calls `change` on every object at a path.
fn visit(object: &mut Object, path: &str, change: &impl Fn(&mut Object)) {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let next = |object: &mut Object| if rest.is_empty() { change(object) } else { visit(object, rest, change) };
    match first.strip_suffix("[]") {
        Some(list) => super::json::each_mut(object, list, next),
        None => super::json::object_mut(object, first).into_iter().for_each(next),
    }
}

impl Default {
    fn set(&self, parent: &mut Object) {
        let is_missing = match parent.get(self.field) {
            None | Some(Value::Null) => true,
            Some(Value::Number(number)) => self.of_zero && number.as_i64() == Some(0),
            Some(Value::String(text)) => self.of_zero && text.is_empty(),
            Some(Value::Array(items)) => self.of_zero && items.is_empty(),
            Some(_) => false,
        };
        if is_missing && self.condition.is_none_or(|(sibling, wanted)| text(parent, sibling) == wanted) {
            parent.insert(self.field.to_owned(), self.value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use crate::meta::{Gvk, split_api_version};

    #[test]
    fn every_line_names_a_field_of_a_kind() {
        for ((api_version, kind), defaults) in DEFAULTS.iter() {
            let (group, version) = split_api_version(api_version).unwrap_or_default();
            let hooks = crate::kinds::hooks(group, version, kind);
            assert!(hooks.default.is_some_and(|hook| std::ptr::fn_addr_eq(hook, apply as fn(&mut Object))), "{kind}");
            for default in defaults {
                let mut schema = builtin::schema_of_kind(&Gvk::new(group, version, kind));
                for part in default.path.split('.') {
                    let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
                    let field = schema.as_ref().and_then(|schema| schema.field(name));
                    schema = if is_list { field.and_then(|field| field.items.clone()) } else { field.cloned() };
                }
                assert!(schema.is_some_and(|s| s.field(default.field).is_some()), "{kind} {}", default.path);
            }
        }
    }
}
