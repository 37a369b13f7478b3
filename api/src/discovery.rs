//! Discovery documents from the table: `/api`, `/apis`, their groups and versions, and the aggregated form (KEP-3352).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::meta::{Gvk, api_version};
use crate::table::{Resource, Subresource, Table};

/// Places of the groups and of their versions: higher comes first. Other groups are those of CRDs.
const PRIORITIES: [(&str, i32); 24] = [
    ("apiregistration.k8s.io", 20_000),
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("storagemigration.k8s.io", 15_800),
    ("metrics.k8s.io", 100),
];

/// The place of groups that a CRD makes.
const CUSTOM: i32 = 1_000;

fn priority(group: &str) -> i32 {
    let known = PRIORITIES.iter().find(|(name, _)| *name == group);
    known.map_or(CUSTOM, |(_, priority)| *priority)
}

/// How upstream orders versions: stable before beta before alpha, then by number, newest first; others last, by name.
fn version_rank(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..digits].parse().ok()?;
        let (stability, minor) = match &rest[digits..] {
            "" => (3, "0"),
            pre => match (pre.strip_prefix("beta"), pre.strip_prefix("alpha")) {
                (Some(minor), _) => (2, minor),
                (_, Some(minor)) => (1, minor),
                (None, None) => return None,
            },
        };
        Some((stability, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

/// Sorts versions in the order in which upstream prefers them.
pub fn sort_versions(versions: &mut [&str]) {
    versions.sort_by(|a, b| version_rank(b).cmp(&version_rank(a)).then_with(|| a.cmp(b)));
}

/// Served groups with their versions, in upstream's order.
pub fn groups(table: &Table) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in table.served() {
        match groups.last_mut().filter(|(group, _)| *group == row.group) {
            Some((_, versions)) if versions.last() == Some(&row.version.as_str()) => {}
            Some((_, versions)) => versions.push(&row.version),
            None => groups.push((&row.group, vec![&row.version])),
        }
    }
    groups.sort_by(|a, b| priority(b.0).cmp(&priority(a.0)).then_with(|| a.0.cmp(b.0)));
    groups.iter_mut().for_each(|(_, versions)| sort_versions(versions));
    groups
}

fn served<'t>(table: &'t Table, group: &'t str, version: &'t str) -> impl Iterator<Item = &'t Resource> {
    table.served().filter(move |row| row.group == group && row.version == version).map(|row| &**row)
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|_| unreachable!("discovery documents have only text"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AddressByClient<'a> {
    #[serde(rename = "clientCIDR")]
    client_cidr: &'a str,
    server_address: &'a str,
}

/// `/api`: versions of the core group; `address` is the server's, `IP:PORT`.
pub fn api_versions(table: &Table, address: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct ApiVersions<'a> {
        kind: &'a str,
        versions: Vec<&'a str>,
        #[serde(rename = "serverAddressByClientCIDRs")]
        addresses: [AddressByClient<'a>; 1],
    }
    let core = groups(table).into_iter().find(|(group, _)| group.is_empty());
    json(&ApiVersions {
        kind: "APIVersions",
        versions: core.map(|(_, versions)| versions).unwrap_or_default(),
        addresses: [AddressByClient { client_cidr: "0.0.0.0/0", server_address: address }],
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion<'a> {
    group_version: String,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'a str>,
    name: &'a str,
    versions: Vec<GroupVersion<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_version: Option<GroupVersion<'a>>,
}

impl<'a> Group<'a> {
    fn new(name: &'a str, versions: &[&'a str]) -> Self {
        let version = |version: &&'a str| GroupVersion { group_version: api_version(name, version), version };
        let preferred_version = versions.first().map(version);
        let versions = versions.iter().map(version).collect();
        Self { kind: None, api_version: None, name, versions, preferred_version }
    }
}

/// `/apis`: all groups but the core one.
pub fn api_group_list(table: &Table) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct GroupList<'a> {
        kind: &'a str,
        api_version: &'a str,
        groups: Vec<Group<'a>>,
    }
    let named = groups(table).into_iter().filter(|(group, _)| !group.is_empty());
    let groups = named.map(|(group, versions)| Group::new(group, &versions)).collect();
    json(&GroupList { kind: "APIGroupList", api_version: "v1", groups })
}

/// `/apis/GROUP`; `None` when it is not served.
pub fn api_group(table: &Table, group: &str) -> Option<Vec<u8>> {
    let (name, versions) = groups(table).into_iter().find(|(name, _)| *name == group)?;
    Some(json(&Group { kind: Some("APIGroup"), api_version: Some("v1"), ..Group::new(name, &versions) }))
}

/// A hash that changes when objects of the resource are stored in another form.
pub fn storage_version_hash(row: &Resource) -> String {
    let stored = format!("{}/{}/{}", row.storage_group, row.storage_version, row.kind);
    STANDARD.encode(&Sha256::digest(stored.as_bytes())[..8])
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource<'a> {
    name: String,
    singular_name: &'a str,
    namespaced: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    kind: &'a str,
    verbs: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    short_names: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    categories: &'a [String],
    #[serde(skip_serializing_if = "String::is_empty")]
    storage_version_hash: String,
}

/// Group, version and kind of what a subresource takes; group and version are empty when they are the row's own.
fn foreign<'a>(row: &'a Resource, subresource: &'a Subresource) -> (&'a str, &'a str, &'a str) {
    match &subresource.kind {
        None => ("", "", &row.kind),
        Some(Gvk { group, version, kind }) if *group == row.group && *version == row.version => ("", "", kind),
        Some(Gvk { group, version, kind }) => (group, version, kind),
    }
}

/// `/api/VERSION` and `/apis/GROUP/VERSION`; `None` when it is not served.
pub fn api_resource_list(table: &Table, group: &str, version: &str) -> Option<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ResourceList<'a> {
        kind: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        api_version: Option<&'a str>,
        group_version: String,
        resources: Vec<ApiResource<'a>>,
    }
    let mut resources = Vec::new();
    for row in served(table, group, version) {
        resources.push(ApiResource {
            name: row.plural.clone(),
            singular_name: &row.singular,
            namespaced: row.namespaced,
            group: "",
            version: "",
            kind: &row.kind,
            verbs: &row.verbs,
            short_names: &row.short_names,
            categories: &row.categories,
            storage_version_hash: if row.is_stored() { storage_version_hash(row) } else { String::new() },
        });
        for subresource in &row.subresources {
            let (group, version, kind) = foreign(row, subresource);
            resources.push(ApiResource {
                name: format!("{}/{}", row.plural, subresource.name),
                singular_name: "",
                namespaced: row.namespaced,
                group,
                version,
                kind,
                verbs: &subresource.verbs,
                short_names: &[],
                categories: &[],
                storage_version_hash: String::new(),
            });
        }
    }
    if resources.is_empty() {
        return None;
    }
    let api_version = (!group.is_empty()).then_some("v1");
    let group_version = crate::meta::api_version(group, version);
    Some(json(&ResourceList { kind: "APIResourceList", api_version, group_version, resources }))
}

#[derive(Serialize)]
struct ResponseKind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedSubresource<'a> {
    subresource: &'a str,
    response_kind: ResponseKind<'a>,
    verbs: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedResource<'a> {
    resource: &'a str,
    response_kind: ResponseKind<'a>,
    scope: &'a str,
    singular_resource: &'a str,
    verbs: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    short_names: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    categories: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<AggregatedSubresource<'a>>,
}

impl<'a> AggregatedResource<'a> {
    /// Upstream leaves group and version out of what is the group version's own, except for custom resources.
    fn new(row: &'a Resource) -> Self {
        let is_custom = priority(&row.group) == CUSTOM;
        let own = if is_custom { (row.group.as_str(), row.version.as_str()) } else { ("", "") };
        let subresource = |subresource: &'a Subresource| {
            let (group, version, kind) = foreign(row, subresource);
            let (group, version) = if version.is_empty() { own } else { (group, version) };
            let response_kind = ResponseKind { group, version, kind };
            AggregatedSubresource { subresource: &subresource.name, response_kind, verbs: &subresource.verbs }
        };
        Self {
            resource: &row.plural,
            response_kind: ResponseKind { group: own.0, version: own.1, kind: &row.kind },
            scope: if row.namespaced { "Namespaced" } else { "Cluster" },
            singular_resource: &row.singular,
            verbs: &row.verbs,
            short_names: &row.short_names,
            categories: &row.categories,
            subresources: row.subresources.iter().map(subresource).collect(),
        }
    }
}

/// `APIGroupDiscoveryList` in version v2: of the core group for `/api`, of all others for `/apis`.
pub fn aggregated_v2(table: &Table, core: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Metadata<'a> {
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
    }
    #[derive(Serialize)]
    struct Version<'a> {
        version: &'a str,
        resources: Vec<AggregatedResource<'a>>,
        freshness: &'a str,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        metadata: Metadata<'a>,
        versions: Vec<Version<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        kind: &'a str,
        api_version: &'a str,
        metadata: Metadata<'a>,
        items: Vec<Item<'a>>,
    }
    let version = |group, version| {
        let resources = served(table, group, version).map(AggregatedResource::new).collect();
        Version { version, resources, freshness: "Current" }
    };
    let wanted = groups(table).into_iter().filter(|(group, _)| group.is_empty() == core);
    let items = wanted.map(|(name, versions)| Item {
        metadata: Metadata { name },
        versions: versions.into_iter().map(|v| version(name, v)).collect(),
    });
    json(&List {
        kind: "APIGroupDiscoveryList",
        api_version: "apidiscovery.k8s.io/v2",
        metadata: Metadata { name: "" },
        items: items.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;
    use crate::builtin;

    fn read(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn aggregated_discovery_is_the_published_one() {
        let Some(published) = crate::published::document("discovery-aggregated-v2.json") else { return };
        let ours = read(&aggregated_v2(&crate::published::everything(), false));
        let by_group = |document: &Value| {
            let items = document["items"].as_array().unwrap().clone();
            items.into_iter().map(|item| (item["metadata"]["name"].to_string(), item)).collect::<Vec<_>>()
        };
        for (ours, published) in by_group(&ours).into_iter().zip(by_group(&published)) {
            assert_eq!(ours, published);
        }
        assert_eq!(ours, published);
    }

    #[test]
    fn what_is_off_is_not_shown() {
        let table = builtin::table();
        assert!(api_resource_list(&table, "scheduling.k8s.io", "v1alpha2").is_none());
        assert!(api_group(&table, "storagemigration.k8s.io").is_none());
        assert!(api_group(&table, "nothing").is_none());
        assert_eq!(read(&api_versions(&table, "1.2.3.4:6443"))["versions"], json!(["v1"]));
        assert_eq!(read(&api_group_list(&table))["groups"].as_array().unwrap().len(), 20);
    }

    #[test]
    fn a_list_of_resources_has_subresources_and_hashes() {
        let list = read(&api_resource_list(&builtin::table(), "", "v1").unwrap());
        let resources = list["resources"].as_array().unwrap();
        let named = |name: &str| resources.iter().find(|r| r["name"] == name).unwrap();
        assert_eq!(named("pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
        assert_eq!(
            *named("pods/eviction"),
            json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true,
                "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"],
            })
        );
        assert!(named("bindings").get("storageVersionHash").is_none());
    }

    #[test]
    fn versions_are_ordered_by_preference() {
        let mut versions = ["v1alpha1", "foo", "v1", "v2beta1", "v10", "v2", "v1beta2", "bar"];
        sort_versions(&mut versions);
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo"]);
    }
}
