//! Operations of one row: its collection, its objects, their subresources, and the deprecated watch paths.

use super::operations::{
    ACCEPTED, ANY_SUCCESS, Body, CREATED, Content, Media, OK, Operation, PathItem, capitalized, content_of, group_id,
    meta, root, with_article,
};
use super::parameters::{Parameter, field_manager, named, object_name, of_path};
use crate::meta::Gvk;
use crate::table::{Resource, Subresource};

/// Writes operations of one row.
pub(super) struct Writer<'t> {
    row: &'t Resource,
    /// `CoreV1`.
    version_id: String,
    tag: String,
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    root: String,
}

/// Parts in which operations differ.
struct Parts {
    method: &'static str,
    action: &'static str,
    id: String,
    description: String,
}

impl<'t> Writer<'t> {
    pub fn new(row: &'t Resource) -> Self {
        let id = group_id(&row.group);
        Self {
            row,
            version_id: format!("{}{}", capitalized(&id), capitalized(&row.version)),
            tag: format!("{id}_{}", row.version),
            root: root(&row.group, &row.version),
        }
    }

    fn operation(&self, parts: Parts, kind: &Gvk) -> Operation {
        Operation {
            method: parts.method,
            id: parts.id,
            description: parts.description,
            tag: self.tag.clone(),
            action: parts.action,
            kind: Some(kind.clone()),
            consumes: Media::Any,
            produces: Media::Object,
            parameters: Vec::new(),
            body: None,
            answer: None,
            codes: OK,
        }
    }

    /// `createCoreV1NamespacedPod`, with what comes between and after.
    fn id(&self, verb: &str, before: &str, after: &str) -> String {
        let scope = if self.row.namespaced { "Namespaced" } else { "" };
        format!("{verb}{}{before}{scope}{}{after}", self.version_id, self.row.kind)
    }

    fn namespace(&self) -> Vec<Parameter> {
        let mut parameters = vec![named("pretty")];
        if self.row.namespaced {
            parameters.push(named("namespace"));
        }
        parameters
    }

    fn read(&self, kind: &Gvk, after: &str, of: &str) -> Operation {
        let description = format!("read {of}the specified {}", self.row.kind);
        let parts = Parts { method: "get", action: "get", id: self.id("read", "", after), description };
        Operation { answer: Some(content_of(kind)), ..self.operation(parts, kind) }
    }

    fn replace(&self, kind: &Gvk, after: &str, of: &str) -> Operation {
        let description = format!("replace {of}the specified {}", self.row.kind);
        let parts = Parts { method: "put", action: "put", id: self.id("replace", "", after), description };
        Operation {
            answer: Some(content_of(kind)),
            codes: CREATED,
            body: Some(Body { content: content_of(kind), required: true, key: "" }),
            parameters: write_parameters(false),
            ..self.operation(parts, kind)
        }
    }

    fn patch(&self, kind: &Gvk, after: &str, of: &str) -> Operation {
        let description = format!("partially update {of}the specified {}", self.row.kind);
        let parts = Parts { method: "patch", action: "patch", id: self.id("patch", "", after), description };
        Operation {
            answer: Some(content_of(kind)),
            codes: CREATED,
            consumes: Media::Patch,
            body: Some(Body { content: meta("Patch"), required: true, key: "body-78PwaGsr" }),
            parameters: write_parameters(true),
            ..self.operation(parts, kind)
        }
    }

    fn create(&self, kind: &Gvk, after: &str, of: &str) -> Operation {
        let description = format!("create {of}{}", with_article(&self.row.kind));
        let parts = Parts { method: "post", action: "post", id: self.id("create", "", after), description };
        Operation {
            answer: Some(content_of(kind)),
            codes: ANY_SUCCESS,
            body: Some(Body { content: content_of(kind), required: true, key: "" }),
            parameters: write_parameters(false),
            ..self.operation(parts, kind)
        }
    }

    fn delete(&self, kind: &Gvk) -> Operation {
        let description = format!("delete {}", with_article(&self.row.kind));
        let parts = Parts { method: "delete", action: "delete", id: self.id("delete", "", ""), description };
        let answer = if self.row.returns_deleted { content_of(kind) } else { meta("Status") };
        Operation {
            answer: Some(answer),
            codes: ACCEPTED,
            body: Some(delete_options()),
            parameters: delete_parameters(),
            ..self.operation(parts, kind)
        }
    }

    fn delete_collection(&self, kind: &Gvk) -> Operation {
        let parts = Parts {
            method: "delete",
            action: "deletecollection",
            id: self.id("delete", "Collection", ""),
            description: format!("delete collection of {}", self.row.kind),
        };
        let parameters = delete_parameters().into_iter().chain(list_parameters());
        let is_for_watches = |p: &Parameter| matches!(p.name, "allowWatchBookmarks" | "watch");
        Operation {
            answer: Some(meta("Status")),
            body: Some(delete_options()),
            parameters: parameters.filter(|p| !is_for_watches(p)).collect(),
            ..self.operation(parts, kind)
        }
    }

    fn list(&self, kind: &Gvk, everywhere: bool) -> Operation {
        let verbs = if self.row.has_verb("watch") { "list or watch" } else { "list" };
        let id = match everywhere {
            true => format!("list{}{}ForAllNamespaces", self.version_id, self.row.kind),
            false => self.id("list", "", ""),
        };
        let description = format!("{verbs} objects of kind {}", self.row.kind);
        let parts = Parts { method: "get", action: "list", id, description };
        let list = Gvk { kind: self.row.list_kind.clone(), ..kind.clone() };
        Operation {
            answer: Some(content_of(&list)),
            produces: Media::Stream,
            parameters: list_parameters().collect(),
            ..self.operation(parts, kind)
        }
    }

    fn watch(&self, kind: &Gvk, id: String, is_list: bool) -> Operation {
        let of = match is_list {
            true => "watch individual changes to a list of",
            false => "watch changes to an object of kind",
        };
        let instead = match is_list {
            true => "instead.",
            false => "instead, filtered to a single item with the 'fieldSelector' parameter.",
        };
        let description =
            format!("{of} {}. deprecated: use the 'watch' parameter with a list operation {instead}", self.row.kind);
        let action = if is_list { "watchlist" } else { "watch" };
        let parts = Parts { method: "get", action, id, description };
        Operation {
            answer: Some(meta("WatchEvent")),
            produces: Media::Stream,
            parameters: list_parameters().collect(),
            ..self.operation(parts, kind)
        }
    }

    pub fn paths(&self) -> Vec<PathItem> {
        let (row, root) = (self.row, &self.root);
        let kind = row.gvk();
        let scope = if row.namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("{scope}{}", row.plural);
        let mut items = Vec::new();
        let mut add = |path: String, operations: Vec<Option<Operation>>, parameters: Vec<Parameter>| {
            let mut operations: Vec<_> = operations.into_iter().flatten().collect();
            operations.iter_mut().for_each(|operation| operation.parameters.extend(parameters.iter().cloned()));
            if !operations.is_empty() {
                items.push(PathItem { path, operations });
            }
        };
        let has = |verb: &str, operation: Operation| row.has_verb(verb).then_some(operation);
        let on_collection = vec![
            has("list", self.list(&kind, false)),
            has("create", self.create(&kind, "", "")),
            has("deletecollection", self.delete_collection(&kind)),
        ];
        add(format!("{root}/{collection}"), on_collection, self.namespace());
        let on_object = vec![
            has("get", self.read(&kind, "", "")),
            has("update", self.replace(&kind, "", "")),
            has("patch", self.patch(&kind, "", "")),
            has("delete", self.delete(&kind)),
        ];
        let name = |kind: &str| self.namespace().into_iter().chain([object_name(kind)]).collect();
        add(format!("{root}/{collection}/{{name}}"), on_object, name(&row.kind));
        if row.namespaced {
            let list = vec![has("list", self.list(&kind, true))];
            add(format!("{root}/{}", row.plural), list, vec![named("pretty")]);
            let id = format!("watch{}{}ListForAllNamespaces", self.version_id, row.kind);
            let watch = vec![has("watch", self.watch(&kind, id, true))];
            add(format!("{root}/watch/{}", row.plural), watch, vec![named("pretty")]);
        }
        let watch_list = vec![has("watch", self.watch(&kind, self.id("watch", "", "List"), true))];
        add(format!("{root}/watch/{collection}"), watch_list, self.namespace());
        let watch_one = vec![has("watch", self.watch(&kind, self.id("watch", "", ""), false))];
        add(format!("{root}/watch/{collection}/{{name}}"), watch_one, name(&row.kind));
        for subresource in &row.subresources {
            items.extend(self.subresource(subresource, &format!("{root}/{collection}/{{name}}")));
        }
        items
    }

    fn subresource(&self, subresource: &Subresource, parent: &str) -> Vec<PathItem> {
        let kind = subresource.kind.clone().unwrap_or_else(|| self.row.gvk());
        let path = format!("{parent}/{}", subresource.name);
        if kind.kind.ends_with("Options") {
            return self.connections(subresource, &kind, path);
        }
        let after = capitalized(&subresource.name);
        let of = format!("{} of ", subresource.name);
        let operation = |verb: &String| match verb.as_str() {
            "get" => Some(self.read(&kind, &after, &of)),
            "update" => Some(self.replace(&kind, &after, &of)),
            "patch" => Some(self.patch(&kind, &after, &of)),
            "create" => Some(self.create(&kind, &after, &of)),
            _ => None,
        };
        let mut operations: Vec<_> = subresource.verbs.iter().filter_map(operation).collect();
        for operation in &mut operations {
            operation.parameters.extend(self.namespace());
            operation.parameters.push(object_name(&kind.kind));
            operation.parameters.extend(of_path(&format!("{}/{}", self.row.plural, subresource.name)));
            if subresource.name == "log" {
                operation.produces = Media::Log;
                operation.answer = Some(Content::Text);
            }
        }
        vec![PathItem { path, operations }]
    }

    /// Subresources that connect to something: any method, and for proxies any path below.
    fn connections(&self, subresource: &Subresource, kind: &Gvk, path: String) -> Vec<PathItem> {
        let is_proxy = subresource.name == "proxy";
        let methods: &[&'static str] = match is_proxy {
            true => &["get", "put", "post", "delete", "options", "head", "patch"],
            false => &["get", "post"],
        };
        let after = capitalized(&subresource.name);
        let item = |path: String, after: &str, own: String| {
            let operation = |method: &&'static str| {
                let parts = Parts {
                    method,
                    action: "connect",
                    id: self.id("connect", &capitalized(method), after),
                    description: format!(
                        "connect {} requests to {} of {}",
                        method.to_uppercase(),
                        subresource.name,
                        self.row.kind
                    ),
                };
                let mut parameters = vec![object_name(&kind.kind)];
                parameters.extend(self.row.namespaced.then(|| named("namespace")));
                parameters.extend(of_path(&own));
                let answer = Some(Content::Text);
                Operation { answer, produces: Media::Any, parameters, ..self.operation(parts, kind) }
            };
            PathItem { path, operations: methods.iter().map(operation).collect() }
        };
        let own = format!("{}/{}", self.row.plural, subresource.name);
        let mut items = vec![item(path.clone(), &after, own.clone())];
        if is_proxy {
            items.push(item(format!("{path}/{{path}}"), &format!("{after}WithPath"), format!("{own}/{{path}}")));
        }
        items
    }
}

fn write_parameters(is_patch: bool) -> Vec<Parameter> {
    let mut parameters = vec![named("dryRun"), named("fieldValidation"), field_manager(is_patch)];
    parameters.extend(is_patch.then(|| named("force")));
    parameters
}

fn delete_options() -> Body {
    Body { content: meta("DeleteOptions"), required: false, key: "body-2Y1dVQaQ" }
}

fn delete_parameters() -> Vec<Parameter> {
    let names = [
        "dryRun",
        "gracePeriodSeconds",
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "orphanDependents",
        "propagationPolicy",
    ];
    names.map(named).to_vec()
}

fn list_parameters() -> impl Iterator<Item = Parameter> {
    let names = [
        "allowWatchBookmarks",
        "continue",
        "fieldSelector",
        "labelSelector",
        "limit",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "shardSelector",
        "timeoutSeconds",
        "watch",
    ];
    names.into_iter().map(named)
}
