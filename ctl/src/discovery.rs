//! What the server serves: resources by their names, short names, kinds and categories.

use anyhow::anyhow;
use serde_json::Value;

use crate::error::Result;
use crate::session::Session;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One resource of one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub is_namespaced: bool,
    pub verbs: Vec<String>,
    /// `status`, `scale`, …
    pub subresources: Vec<String>,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        api::meta::api_version(&self.group, &self.version)
    }

    /// `deployments.apps`
    pub(crate) fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `deployment.apps`, as it is written before an object's name.
    pub(crate) fn kind_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// The path of all objects, or of those in one namespace.
    pub(crate) fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let api_version = self.api_version();
        match namespace {
            "" => format!("{root}/{api_version}/{}", self.plural),
            _ if !self.is_namespaced => format!("{root}/{api_version}/{}", self.plural),
            _ => format!("{root}/{api_version}/namespaces/{namespace}/{}", self.plural),
        }
    }

    pub(crate) fn path_of(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.path(namespace))
    }

    pub(crate) fn has_subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|s| s == name)
    }

    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

/// Everything that is served, groups in the server's order, preferred versions first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    pub resources: Vec<Resource>,
}

impl Discovery {
    pub(crate) async fn fetch(session: &Session) -> Result<Self> {
        let core = session.get_as("/api", AGGREGATED).await?;
        let groups = session.get_as("/apis", AGGREGATED).await?;
        let mut resources = Vec::new();
        for list in [core, groups] {
            for group in items(&list, "items") {
                add_group(&mut resources, group);
            }
        }
        Ok(Self { resources })
    }

    /// The resource that a word names: `pods`, `po`, `Pod`, `deployments.apps`, `deployments.v1.apps`.
    pub(crate) fn find(&self, word: &str) -> Result<&Resource> {
        self.lookup(word).ok_or_else(|| match word.split_once('.') {
            Some((name, group)) if !group.is_empty() => {
                anyhow!("the server doesn't have a resource type {name:?} in group {group:?}")
            }
            _ => anyhow!("the server doesn't have a resource type {word:?}"),
        })
    }

    fn lookup(&self, word: &str) -> Option<&Resource> {
        let lower = word.to_lowercase();
        let named = |resource: &Resource, name: &str| {
            resource.plural == name || resource.singular == name || resource.kind.to_lowercase() == name
        };
        let short = |resource: &Resource, name: &str| resource.short_names.iter().any(|s| s == name);
        if let Some((name, group)) = lower.split_once('.') {
            let in_version = group.split_once('.').unwrap_or((group, ""));
            let exact = self
                .resources
                .iter()
                .find(|r| (named(r, name) || short(r, name)) && r.version == in_version.0 && r.group == in_version.1);
            let by_group = |r: &&Resource| (named(r, name) || short(r, name)) && r.group.starts_with(group);
            return exact.or_else(|| self.resources.iter().find(by_group));
        }
        let by_name = self.resources.iter().find(|r| named(r, &lower));
        by_name.or_else(|| self.resources.iter().find(|r| short(r, &lower)))
    }

    /// The resources of a category such as `all`.
    pub(crate) fn category(&self, word: &str) -> Vec<&Resource> {
        let mut found: Vec<&Resource> = Vec::new();
        for resource in self.resources.iter().filter(|r| r.categories.iter().any(|c| c == word)) {
            if !found.iter().any(|f| f.group == resource.group && f.plural == resource.plural) {
                found.push(resource);
            }
        }
        found
    }

    /// The resource of an object's kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// The preferred version of a kind, for owner references and generators.
    pub(crate) fn of_group_kind(&self, group: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind == kind && r.group == group)
    }
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn add_group(resources: &mut Vec<Resource>, group: &Value) {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |value: &Value, key: &str| -> Vec<String> {
        items(value, key).filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let name = group.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    for version in items(group, "versions") {
        for resource in items(version, "resources") {
            let kind = resource.get("responseKind").cloned().unwrap_or_default();
            let plural = text(resource, "resource");
            let singular = match text(resource, "singularResource") {
                empty if empty.is_empty() => text(&kind, "kind").to_lowercase(),
                name => name,
            };
            resources.push(Resource {
                group: name.to_owned(),
                version: text(version, "version"),
                kind: text(&kind, "kind"),
                plural,
                singular,
                short_names: texts(resource, "shortNames"),
                categories: texts(resource, "categories"),
                is_namespaced: text(resource, "scope") == "Namespaced",
                verbs: texts(resource, "verbs"),
                subresources: items(resource, "subresources").map(|s| text(s, "subresource")).collect(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn discovery() -> Discovery {
        let resource = |group: &str, version: &str, kind: &str, short: &[&str], namespaced: bool| Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            singular: kind.to_lowercase(),
            short_names: short.iter().map(|s| (*s).to_owned()).collect(),
            categories: vec!["all".to_owned()],
            is_namespaced: namespaced,
            ..Resource::default()
        };
        Discovery {
            resources: vec![
                resource("", "v1", "Pod", &["po"], true),
                resource("", "v1", "Node", &["no"], false),
                resource("", "v1", "Event", &["ev"], true),
                resource("events.k8s.io", "v1", "Event", &["ev"], true),
                resource("autoscaling", "v2", "Horizontal", &["hpa"], true),
                resource("autoscaling", "v1", "Horizontal", &["hpa"], true),
            ],
        }
    }

    #[test]
    fn words_name_resources() {
        let discovery = discovery();
        for (word, path) in [
            ("po", "/api/v1/namespaces/n/pods"),
            ("Pod", "/api/v1/namespaces/n/pods"),
            ("nodes", "/api/v1/nodes"),
            ("ev", "/api/v1/namespaces/n/events"),
            ("events.events.k8s.io", "/apis/events.k8s.io/v1/namespaces/n/events"),
            ("ev.events", "/apis/events.k8s.io/v1/namespaces/n/events"),
            ("hpa", "/apis/autoscaling/v2/namespaces/n/horizontals"),
            ("horizontals.v1.autoscaling", "/apis/autoscaling/v1/namespaces/n/horizontals"),
            ("pods.v1.", "/api/v1/namespaces/n/pods"),
        ] {
            assert_eq!(discovery.find(word).unwrap().path("n"), path, "{word}");
        }
        let error = discovery.find("foo").unwrap_err().to_string();
        assert_eq!(error, "the server doesn't have a resource type \"foo\"");
        assert_eq!(discovery.category("all").len(), 5);
    }
}
