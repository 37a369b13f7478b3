//! Parameters of operations, from `data/parameters.txt` (its form is explained in `xtask/src/generate/parameters.rs`).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

static TEXT: &str = include_str!("../../data/parameters.txt");

/// One parameter, except bodies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameter {
    /// The name under which the v2 document shares it; empty for those that it repeats.
    key: &'static str,
    pub name: &'static str,
    place: &'static str,
    ty: &'static str,
    required: bool,
    description: Cow<'static, str>,
}

struct Parameters {
    by_key: HashMap<&'static str, Parameter>,
    /// Keys of parameters that a path has for itself, by `resource/subresource`.
    of_paths: HashMap<&'static str, Vec<&'static str>>,
}

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(|| {
    let (paths, parameters): (Vec<_>, Vec<_>) = TEXT.lines().partition(|line| line.starts_with(' '));
    let path = |line: &'static str| {
        let mut words = line.split_whitespace();
        (words.next().unwrap_or_default(), words.collect())
    };
    Parameters { by_key: parameters.into_iter().map(parse).collect(), of_paths: paths.into_iter().map(path).collect() }
});

fn parse(line: &'static str) -> (&'static str, Parameter) {
    let mut fields = line.split('\t');
    let mut field = || fields.next().unwrap_or_default();
    let (key, name, place, ty, required) = (field(), field(), field(), field(), field());
    let description = field();
    let description = match description.contains('\\') {
        true => Cow::Owned(description.replace("\\n", "\n").replace("\\\\", "\\")),
        false => Cow::Borrowed(description),
    };
    let shared = if key == name { "" } else { key };
    (key, Parameter { key: shared, name, place, ty, required: !required.is_empty(), description })
}

/// A parameter by its key in the data.
fn known(key: &str) -> Parameter {
    match PARAMETERS.by_key.get(key) {
        Some(parameter) => parameter.clone(),
        None => unreachable!("the generator writes parameter {key}"),
    }
}

/// The parameter of a name that only one has.
pub(super) fn named(name: &str) -> Parameter {
    let mut all = PARAMETERS.by_key.values();
    match all.find(|parameter| parameter.name == name) {
        Some(parameter) => parameter.clone(),
        None => unreachable!("the generator writes parameter {name}"),
    }
}

/// The manager of fields, which apply must name and other writes may.
pub(super) fn field_manager(is_patch: bool) -> Parameter {
    known(if is_patch { "fieldManager-7c6nTn1T" } else { "fieldManager-Qy4HdaTW" })
}

/// The name of an object of a kind, in the path.
pub(super) fn object_name(kind: &str) -> Parameter {
    let description = Cow::Owned(format!("name of the {kind}"));
    Parameter { key: "", name: "name", place: "path", ty: "string", required: true, description }
}

/// The parameters that a path has for itself.
pub(super) fn of_path(path: &str) -> Vec<Parameter> {
    PARAMETERS.of_paths.get(path).into_iter().flatten().map(|key| known(key)).collect()
}

/// All parameters that the v2 document shares, by key.
pub(super) fn shared() -> impl Iterator<Item = (&'static str, &'static Parameter)> {
    PARAMETERS.by_key.values().filter(|parameter| !parameter.key.is_empty()).map(|parameter| (parameter.key, parameter))
}

impl Parameter {
    /// How parameters are sorted.
    pub fn order(&self) -> (&'static str, &'static str) {
        (self.name, self.place)
    }

    /// The parameter where it stands in the v2 document.
    pub fn v2_use(&self) -> Value {
        if self.key.is_empty() { self.v2() } else { json!({"$ref": format!("#/parameters/{}", self.key)}) }
    }

    pub fn v2(&self) -> Value {
        let mut value = self.common();
        value["type"] = json!(self.ty);
        value["uniqueItems"] = json!(true);
        value
    }

    pub fn v3(&self) -> Value {
        let mut value = self.common();
        value["schema"] = json!({"type": self.ty, "uniqueItems": true});
        value
    }

    fn common(&self) -> Value {
        let mut value = json!({"name": self.name, "in": self.place, "description": self.description});
        if self.required {
            value["required"] = json!(true);
        }
        value
    }
}
