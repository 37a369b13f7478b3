//! What can be done at which path: derived from the table's rows, in a form from which both documents are written.

use super::parameters::{Parameter, of_path};
use super::rows::Writer;
use crate::builtin;
use crate::meta::Gvk;
use crate::table::Table;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What an operation takes or gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// A definition by name.
    Definition(String),
    Text,
}

pub(super) fn meta(name: &str) -> Content {
    Content::Definition(format!("{META}.{name}"))
}

/// Media types, as sets that upstream uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    None,
    Any,
    /// One object.
    Object,
    /// A list or a stream of events.
    Stream,
    Log,
    Patch,
    /// Discovery of a group.
    Discovery,
    Json,
    KeySet,
}

impl Media {
    pub fn types(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Any => &["*/*"],
            Self::Object => {
                &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"]
            }
            Self::Stream => &[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
                "application/cbor",
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
                "application/cbor-seq",
            ],
            Self::Log => &[
                "text/plain",
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
                "application/cbor",
            ],
            Self::Patch => &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
                "application/apply-patch+cbor",
            ],
            Self::Discovery => &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"],
            Self::Json => &["application/json"],
            Self::KeySet => &["application/jwk-set+json"],
        }
    }
}

/// A request's body.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub content: Content,
    pub required: bool,
    /// The name under which the v2 document shares it; empty when it does not.
    pub key: &'static str,
}

/// One method of a path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub method: &'static str,
    pub id: String,
    pub description: String,
    pub tag: String,
    /// `x-kubernetes-action`; empty outside resources.
    pub action: &'static str,
    pub kind: Option<Gvk>,
    pub consumes: Media,
    pub produces: Media,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    /// What the answers with these codes hold; the code 401 is everywhere.
    pub answer: Option<Content>,
    pub codes: &'static [(&'static str, &'static str)],
}

/// A path with its methods.
#[derive(Clone, Debug)]
pub(super) struct PathItem {
    pub path: String,
    pub operations: Vec<Operation>,
}

pub(super) const OK: &[(&str, &str)] = &[("200", "OK")];
pub(super) const CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
pub(super) const ACCEPTED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];
pub(super) const ANY_SUCCESS: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];

pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// The group in identifiers: `core`, `apps`, `rbacAuthorization`.
pub(super) fn group_id(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut parts = group.strip_suffix(".k8s.io").unwrap_or(group).split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |id, part| id + &capitalized(part))
}

/// `a Pod`, `an Ingress`, `Endpoints`.
pub(super) fn with_article(kind: &str) -> String {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return kind.to_owned();
    }
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The definition of a kind.
pub(super) fn content_of(gvk: &Gvk) -> Content {
    Content::Definition(builtin::schema_of_kind(gvk).map(|schema| schema.definition.to_string()).unwrap_or_default())
}

pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// Something that one can only get, outside the table.
fn plain(path: &str, id: String, description: &str, tag: String, media: Media, answer: Content) -> PathItem {
    let operation = Operation {
        method: "get",
        id,
        description: description.to_owned(),
        tag,
        action: "",
        kind: None,
        consumes: media,
        produces: media,
        parameters: Vec::new(),
        body: None,
        answer: Some(answer),
        codes: OK,
    };
    PathItem { path: path.to_owned(), operations: vec![operation] }
}

/// The paths of a group version.
pub(super) fn of_version(table: &Table, group: &str, version: &str) -> Vec<PathItem> {
    let rows = table.served().filter(|row| row.group == group && row.version == version);
    let mut items: Vec<_> = rows.flat_map(|row| Writer::new(row).paths()).collect();
    let id = group_id(group);
    items.push(plain(
        &format!("{}/", root(group, version)),
        format!("get{}{}APIResources", capitalized(&id), capitalized(version)),
        "get available resources",
        format!("{id}_{version}"),
        Media::Object,
        meta("APIResourceList"),
    ));
    items
}

/// The path of a group.
pub(super) fn of_group(group: &str) -> Vec<PathItem> {
    let id = group_id(group);
    let name = format!("get{}APIGroup", capitalized(&id));
    vec![plain(&format!("/apis/{group}/"), name, "get information of a group", id, Media::Discovery, meta("APIGroup"))]
}

/// Paths outside groups, by the document of OpenAPI v3 that has them.
pub(super) fn elsewhere() -> Vec<(&'static str, Vec<PathItem>)> {
    let versions = "get available API versions";
    let core = plain(
        "/api/",
        "getCoreAPIVersions".to_owned(),
        versions,
        "core".to_owned(),
        Media::Discovery,
        meta("APIVersions"),
    );
    let groups = plain(
        "/apis/",
        "getAPIVersions".to_owned(),
        versions,
        "apis".to_owned(),
        Media::Discovery,
        meta("APIGroupList"),
    );
    let version = plain(
        "/version/",
        "getCodeVersion".to_owned(),
        "get the version information for this server",
        "version".to_owned(),
        Media::Json,
        Content::Definition("io.k8s.apimachinery.pkg.version.Info".to_owned()),
    );
    vec![
        ("api", vec![core]),
        ("apis", vec![groups]),
        ("version", vec![version]),
        ("logs", logs()),
        (
            ".well-known/openid-configuration",
            vec![issuer_document(
                "/.well-known/openid-configuration/",
                "getServiceAccountIssuerOpenIDConfiguration",
                "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
                "WellKnown",
                Media::Json,
            )],
        ),
        (
            "openid/v1/jwks",
            vec![issuer_document(
                "/openid/v1/jwks/",
                "getServiceAccountIssuerOpenIDKeyset",
                "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
                "openid",
                Media::KeySet,
            )],
        ),
    ]
}

fn issuer_document(path: &str, id: &str, description: &str, tag: &str, media: Media) -> PathItem {
    let mut item = plain(path, id.to_owned(), description, tag.to_owned(), media, Content::Text);
    item.operations.iter_mut().for_each(|operation| operation.consumes = Media::None);
    item
}

fn logs() -> Vec<PathItem> {
    let log = |path: &str, id: &str| {
        let mut item = plain(path, id.to_owned(), "", "logs".to_owned(), Media::None, Content::Text);
        for operation in &mut item.operations {
            operation.answer = None;
            operation.codes = &[];
            operation.parameters = of_path(path);
        }
        item
    };
    vec![log("/logs/", "logFileListHandler"), log("/logs/{logpath}", "logFileHandler")]
}
