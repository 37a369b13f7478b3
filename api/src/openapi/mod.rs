//! OpenAPI documents from the table and the schemas' data. They are written when asked for and kept by nobody here:
//! a server that keeps them decides how long.

mod binary;
mod definitions;
mod operations;
mod parameters;
mod rows;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use crate::builtin::definitions as all_definitions;
use crate::discovery;
use crate::table::Table;
use definitions::Descriptions;
use operations::{Content, Operation, PathItem};
use parameters::Parameter;

/// A version of OpenAPI.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

impl Version {
    fn reference(self, definition: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{definition}"),
            Self::V3 => format!("#/components/schemas/{definition}"),
        }
    }

    fn content(self, content: &Content) -> Value {
        match content {
            Content::Definition(name) => json!({"$ref": self.reference(name)}),
            Content::Text => json!({"type": "string"}),
        }
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "unversioned"})
}

fn security() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    }})
}

/// The documents of OpenAPI v3 that a table gives: `api/v1`, `apis/apps`, `apis/apps/v1`, `version`, …
fn documents(table: &Table) -> Vec<String> {
    let mut paths: Vec<String> = operations::elsewhere().into_iter().map(|(path, _)| path.to_owned()).collect();
    for (group, versions) in discovery::groups(table) {
        if !group.is_empty() {
            paths.push(format!("apis/{group}"));
        }
        paths.extend(versions.into_iter().map(|version| version_path(group, version)));
    }
    paths.sort_unstable();
    paths
}

fn version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Group and version of a document's path; the version is empty for a group's document.
fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group] => Some((group, "")),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

/// The paths of one document of OpenAPI v3; `None` when the table gives no such document.
fn items(table: &Table, path: &str) -> Option<Vec<PathItem>> {
    if let Some((_, items)) = operations::elsewhere().into_iter().find(|(known, _)| *known == path) {
        return Some(items);
    }
    let (group, version) = group_version(path)?;
    let (_, versions) = discovery::groups(table).into_iter().find(|(known, _)| *known == group)?;
    match version {
        "" => Some(operations::of_group(group)),
        version if versions.contains(&version) => Some(operations::of_version(table, group, version)),
        _ => None,
    }
}

/// A hash of what a document is made of, in upstream's form: it changes with the document, and costs less to make.
fn hash(table: &Table, path: &str) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(path);
    if let Some((group, version)) = group_version(path) {
        for row in table.served().filter(|row| row.group == group) {
            let is_own = row.version == version;
            hash.update(format!("\0{} {} {:?}", row.version, row.plural, is_own.then_some(row)));
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The ETag of a document of OpenAPI v3, without quotes.
pub fn v3_hash(table: &Table, path: &str) -> String {
    hash(table, path)
}

/// `/openapi/v3`: which documents there are, each with its hash.
pub fn v3_index(table: &Table) -> Vec<u8> {
    let entry = |path: String| {
        let url = format!("/openapi/v3/{path}?hash={}", hash(table, &path));
        (path, json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = documents(table).into_iter().map(entry).collect();
    bytes(&json!({"paths": paths}))
}

fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|_| unreachable!("a JSON value can be written"))
}

/// `/openapi/v3/PATH`, with `api/v1`, `apis/apps/v1`, …; `None` when there is no such document.
pub fn v3(table: &Table, path: &str) -> Option<Vec<u8>> {
    let items = items(table, path)?;
    let only = group_version(path).filter(|(_, version)| !version.is_empty());
    let named = items.iter().flat_map(|item| &item.operations).flat_map(contents);
    let positions = definitions::closure(named);
    let mut components = json!({"securitySchemes": security()});
    if !positions.is_empty() {
        let descriptions = Descriptions::inflate();
        let schema = |position: usize| {
            let definition = &all_definitions()[position];
            let value = definitions::value(definition, &mut descriptions.of(position), Version::V3, only);
            (definition.name().to_owned(), value)
        };
        let schemas: Map<String, Value> = positions.into_iter().map(schema).collect();
        components["schemas"] = Value::Object(schemas);
    }
    let paths: Map<String, Value> =
        items.iter().map(|item| (item.path.clone(), path_item(item, Version::V3))).collect();
    Some(bytes(&json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": components})))
}

/// Definitions that an operation names.
fn contents(operation: &Operation) -> Vec<String> {
    let body = operation.body.as_ref().map(|body| &body.content);
    let named = |content: &Content| match content {
        Content::Definition(name) => Some(name.clone()),
        Content::Text => None,
    };
    body.into_iter().chain(operation.answer.as_ref()).filter_map(named).collect()
}

/// `/openapi/v2`: all paths and all definitions. Parts are written one after the other, so that only one at a time is
/// held as a value.
pub fn v2(table: &Table) -> Vec<u8> {
    let mut out = br#"{"swagger":"2.0","info":"#.to_vec();
    out.extend(bytes(&info()));
    out.extend(br#","paths":{"#);
    let mut separator: &[u8] = b"";
    for path in documents(table) {
        for item in items(table, &path).into_iter().flatten() {
            out.extend(separator);
            out.extend(bytes(&Value::from(item.path.as_str())));
            out.push(b':');
            out.extend(bytes(&path_item(&item, Version::V2)));
            separator = b",";
        }
    }
    out.extend(br#"},"definitions":{"#);
    let descriptions = Descriptions::inflate();
    for (position, definition) in all_definitions().iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend(bytes(&Value::from(definition.name())));
        out.push(b':');
        let value = definitions::value(definition, &mut descriptions.of(position), Version::V2, None);
        out.extend(bytes(&value));
    }
    out.extend(br#"},"parameters":"#);
    out.extend(bytes(&shared_parameters()));
    out.extend(br#","securityDefinitions":"#);
    out.extend(bytes(&security()));
    out.extend(br#","security":[{"BearerToken":[]}]}"#);
    out
}

/// The document of [`v2`] in protobuf, which kubectl asks for.
pub fn v2_protobuf(table: &Table) -> Vec<u8> {
    let mut paths = Vec::new();
    for path in documents(table) {
        for item in items(table, &path).into_iter().flatten() {
            binary::path(&mut paths, &item.path, &path_item(&item, Version::V2));
        }
    }
    let mut schemas = Vec::new();
    let descriptions = Descriptions::inflate();
    for (position, definition) in all_definitions().iter().enumerate() {
        let value = definitions::value(definition, &mut descriptions.of(position), Version::V2, None);
        binary::definition(&mut schemas, definition.name(), &value);
    }
    let rest = json!({
        "swagger": "2.0", "info": info(), "parameters": shared_parameters(), "securityDefinitions": security(),
        "security": [{"BearerToken": []}],
    });
    binary::document(&rest, &paths, &schemas)
}

fn shared_parameters() -> Value {
    let mut shared: Map<String, Value> = parameters::shared().map(|(key, p)| (key.to_owned(), p.v2())).collect();
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let body =
        |name: &str| json!({"in": "body", "name": "body", "schema": {"$ref": format!("#/definitions/{meta}.{name}")}});
    let mut patch = body("Patch");
    patch["required"] = json!(true);
    shared.insert("body-78PwaGsr".to_owned(), patch);
    shared.insert("body-2Y1dVQaQ".to_owned(), body("DeleteOptions"));
    Value::Object(shared)
}

/// Parameters that all methods of a path have; they are written once for the path.
fn common(item: &PathItem) -> Vec<Parameter> {
    let Some((first, others)) = item.operations.split_first() else { return Vec::new() };
    let everywhere = |p: &&Parameter| others.iter().all(|operation| operation.parameters.contains(p));
    let mut common: Vec<_> = first.parameters.iter().filter(everywhere).cloned().collect();
    common.sort_by_key(Parameter::order);
    common
}

fn path_item(item: &PathItem, version: Version) -> Value {
    let common = common(item);
    let mut map: Map<String, Value> = item
        .operations
        .iter()
        .map(|operation| (operation.method.to_owned(), operation_value(operation, &common, version)))
        .collect();
    if !common.is_empty() {
        let shown = common.iter().map(|parameter| match version {
            Version::V2 => parameter.v2_use(),
            Version::V3 => parameter.v3(),
        });
        map.insert("parameters".to_owned(), shown.collect());
    }
    Value::Object(map)
}

fn operation_value(operation: &Operation, common: &[Parameter], version: Version) -> Value {
    let mut value = json!({"operationId": operation.id, "tags": [operation.tag]});
    if !operation.description.is_empty() {
        value["description"] = json!(operation.description);
    }
    if let Some(kind) = &operation.kind {
        value["x-kubernetes-action"] = json!(operation.action);
        value["x-kubernetes-group-version-kind"] =
            json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    }
    let mut own: Vec<_> = operation.parameters.iter().filter(|parameter| !common.contains(parameter)).collect();
    own.sort_by_key(|parameter| parameter.order());
    match version {
        Version::V2 => v2_operation(&mut value, operation, &own),
        Version::V3 => v3_operation(&mut value, operation, &own),
    }
    let mut answers: BTreeMap<&str, Value> = BTreeMap::from([("401", json!({"description": "Unauthorized"}))]);
    for (code, description) in operation.codes {
        let mut answer = json!({"description": description});
        if let Some(content) = &operation.answer {
            match version {
                Version::V2 => answer["schema"] = version.content(content),
                Version::V3 => answer["content"] = media(operation.produces.types(), content),
            }
        }
        answers.insert(code, answer);
    }
    value["responses"] = json!(answers);
    value
}

fn media(types: &[&str], content: &Content) -> Value {
    let entry = |ty: &&str| ((*ty).to_owned(), json!({"schema": Version::V3.content(content)}));
    Value::Object(types.iter().map(entry).collect())
}

fn v2_operation(value: &mut Value, operation: &Operation, own: &[&Parameter]) {
    value["schemes"] = json!(["https"]);
    for (key, media) in [("consumes", operation.consumes), ("produces", operation.produces)] {
        if !media.types().is_empty() {
            value[key] = json!(media.types());
        }
    }
    let body = operation.body.as_ref().map(|body| match body.key {
        "" => json!({
            "in": "body", "name": "body", "required": body.required, "schema": Version::V2.content(&body.content),
        }),
        key => json!({"$ref": format!("#/parameters/{key}")}),
    });
    let parameters: Vec<_> = body.into_iter().chain(own.iter().map(|parameter| parameter.v2_use())).collect();
    if !parameters.is_empty() {
        value["parameters"] = json!(parameters);
    }
}

fn v3_operation(value: &mut Value, operation: &Operation, own: &[&Parameter]) {
    if let Some(body) = &operation.body {
        let mut request = json!({"content": media(operation.consumes.types(), &body.content)});
        if body.required {
            request["required"] = json!(true);
        }
        value["requestBody"] = request;
    }
    if !own.is_empty() {
        value["parameters"] = own.iter().map(|parameter| parameter.v3()).collect();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::{builtin, published};

    /// Paths at which two documents differ, with both values.
    fn differences(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                    let null = Value::Null;
                    let at = format!("{at} / {key}");
                    differences(&at, ours.get(key).unwrap_or(&null), theirs.get(key).unwrap_or(&null), found);
                }
            }
            (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
                for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                    differences(&format!("{at} [{index}]"), ours, theirs, found);
                }
            }
            _ if ours != theirs => {
                let short = |value: &Value| value.to_string().chars().take(200).collect::<String>();
                found.push(format!("{at}: {} instead of {}", short(ours), short(theirs)));
            }
            _ => {}
        }
    }

    fn assert_same(name: &str, ours: &[u8], theirs: &Value) {
        let mut found = Vec::new();
        differences(name, &serde_json::from_slice(ours).unwrap(), theirs, &mut found);
        assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
    }

    #[test]
    fn the_v2_document_is_the_published_one() {
        let Some(theirs) = published::document("swagger.json") else { return };
        let mut ours: Value = serde_json::from_slice(&v2(&published::everything())).unwrap();
        // metrics.k8s.io is ours to publish: upstream's is another server's.
        ours["definitions"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("io.k8s.metrics."));
        assert_same("swagger", ours.to_string().as_bytes(), &theirs);
    }

    #[test]
    fn every_v3_document_is_the_published_one() {
        let Some(folder) = published::folder() else { return };
        let table = published::everything();
        let mut paths = documents(&table);
        for entry in std::fs::read_dir(folder.join("openapi-v3")).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let path = file.strip_suffix("_openapi.json").unwrap().replace("__", "/");
            let theirs = published::document(&format!("openapi-v3/{file}")).unwrap();
            assert_same(&path, &v3(&table, &path).unwrap_or_else(|| panic!("no document {path}")), &theirs);
            paths.retain(|known| *known != path);
        }
        // The published folder leaves this one out.
        assert_eq!(paths, [".well-known/openid-configuration"]);
    }

    #[test]
    fn the_index_names_what_is_served_with_hashes_that_follow_the_table() {
        let table = builtin::table();
        let index: Value = serde_json::from_slice(&v3_index(&table)).unwrap();
        let url = |index: &Value, path: &str| index["paths"][path]["serverRelativeURL"].as_str().map(str::to_owned);
        assert!(url(&index, "apis/apps/v1").unwrap().starts_with("/openapi/v3/apis/apps/v1?hash="));
        assert_eq!(url(&index, "apis/scheduling.k8s.io/v1alpha2"), None);
        let fewer = table.without(&crate::Gvr::new("apps", "v1", "daemonsets"));
        let changed: Value = serde_json::from_slice(&v3_index(&fewer)).unwrap();
        assert_ne!(url(&index, "apis/apps/v1"), url(&changed, "apis/apps/v1"));
        assert_eq!(url(&index, "api/v1"), url(&changed, "api/v1"));
    }
}
