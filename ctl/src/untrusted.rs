//! What reads texts of users and answers of servers, for the fuzz targets.

use serde_json::{Value, json};

use crate::manifest;
use crate::output::columns::Columns;
use crate::output::{go_template, jsonpath};

/// What templates are expanded with.
fn object() -> Value {
    json!({"kind": "Pod", "metadata": {"name": "a", "labels": {"x": "1", "y.z": "2"}},
        "items": [{"a": [1, 2, 3], "b": {"c": "d"}}, {"a": [], "b": null}, 7, "text"]})
}

/// A `-o jsonpath=` template.
pub fn jsonpath(text: &str) {
    if let Ok(template) = jsonpath::Template::parse(text) {
        drop(template.expand(&object(), true));
        std::hint::black_box(template.values(&object()).len());
    }
}

/// `-o custom-columns=`, of the command line and of a file.
pub fn columns(text: &str) {
    for parsed in [Columns::parse(text), Columns::parse_file(text)] {
        drop(parsed.and_then(|columns| columns.text(&object(), true)));
    }
}

/// A `-o go-template=` template.
pub fn go_template(text: &str) {
    drop(go_template::Template::parse(text).and_then(|template| template.expand(&object(), true)));
}

/// A file of `-f`.
pub fn manifest(bytes: &[u8]) {
    drop(manifest::parse(bytes, "fuzz", &mut Vec::new()));
}

/// A kubeconfig.
pub fn kubeconfig(text: &str) {
    drop(kube::config::Kubeconfig::from_yaml(text).and_then(|one| one.clone().merge(one)));
}
