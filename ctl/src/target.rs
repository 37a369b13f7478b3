//! Which objects a verb is about: TYPE NAME…, TYPE/NAME…, TYPE[,TYPE] with -l, --field-selector or --all, or -f files.

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use crate::discovery::Resource;
use crate::error::{ApiError, Result, has_reason};
use crate::flags::Args;
use crate::manifest::{self, Manifest};
use crate::session::{Query, Session};

/// Flags of verbs that pick objects by selectors.
pub(crate) const SELECT: &str = "
  -l, --selector=        Selector (label query) to filter on
      --field-selector=  Selector (field query) to filter on
";

pub(crate) const ALL: &str = "
      --all              Select all objects of the type in the namespace
  -A, --all-namespaces   In all namespaces
";

/// One object that a verb is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub resource: Resource,
    /// Empty for objects of the cluster.
    pub namespace: String,
    pub name: String,
    /// As it was read: from a file, or by a selector.
    pub object: Option<Value>,
    /// The file it was read from.
    pub source: Option<String>,
}

/// A resource type and the names that were given with it.
#[derive(Debug)]
pub(crate) struct Named {
    pub resource: Resource,
    pub names: Vec<String>,
}

impl Target {
    /// `deployment.apps/web`
    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.resource.kind_name(), self.name)
    }

    pub(crate) fn path(&self) -> String {
        self.resource.path_of(&self.namespace, &self.name)
    }

    pub(crate) async fn get(&self, session: &Session) -> Result<Value> {
        session.get(&self.path()).await
    }

    /// The object as the server has it; `None` when it has none.
    pub(crate) async fn get_if_exists(&self, session: &Session) -> Result<Option<Value>> {
        match self.get(session).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if has_reason(&error, "NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of an object that was read from the server.
    pub(crate) fn of(resource: &Resource, object: Value) -> Self {
        let text = |key: &str| {
            object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        Self { resource: resource.clone(), namespace, name, object: Some(object), source: None }
    }
}

/// Reads TYPE and NAME words; an empty list of names is a type alone.
pub(crate) async fn named(session: &Session, words: &[String]) -> Result<Vec<Named>> {
    let discovery = session.discovery().await?;
    let mut all: Vec<Named> = Vec::new();
    if words.iter().any(|word| word.contains('/')) {
        for word in words {
            let Some((ty, name)) = word.split_once('/') else {
                bail!(
                    "there is no need to specify a resource type as a separate argument when passing arguments in \
                       resource/name form (e.g. 'cox get resource/<resource_name>' instead of 'cox get resource \
                       resource/<resource_name>'"
                );
            };
            if name.is_empty() || name.contains('/') || ty.is_empty() {
                bail!("arguments in resource/name form may not have more than one slash");
            }
            let resource = discovery.find(ty)?;
            all.push(Named { resource: resource.clone(), names: vec![name.to_owned()] });
        }
        return Ok(all);
    }
    let Some((types, names)) = words.split_first() else { return Ok(all) };
    for ty in types.split(',').filter(|ty| !ty.is_empty()) {
        let category = discovery.category(ty);
        let found = if category.is_empty() { vec![discovery.find(ty)?] } else { category };
        all.extend(found.into_iter().map(|r| Named { resource: r.clone(), names: names.to_vec() }));
    }
    Ok(all)
}

/// The targets of a verb that changes or shows single objects.
///
/// # Errors
/// No object is named, a type is not served, or a file cannot be read.
pub(crate) async fn targets(session: &Session, args: &Args, words: &[String]) -> Result<Vec<Target>> {
    let manifests = manifest::read(args)?;
    if !manifests.is_empty() {
        let mut targets = Vec::new();
        for manifest in manifests {
            targets.push(of_manifest(session, manifest).await?);
        }
        return Ok(targets);
    }
    if words.is_empty() {
        bail!(
            "You must provide one or more resources by argument or filename.\nExample resource specifications \
             include:\n   \
             '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'"
        );
    }
    let by_selector = args.has("selector") || args.has("field-selector") || args.on("all");
    let mut targets = Vec::new();
    for Named { resource, names } in named(session, words).await? {
        if names.is_empty() && !by_selector {
            bail!("resource(s) were provided, but no name was specified");
        }
        if !names.is_empty() {
            if by_selector {
                bail!("name cannot be provided when a selector is specified");
            }
            let namespace = if resource.is_namespaced { session.namespace.clone() } else { String::new() };
            targets.extend(names.into_iter().map(|name| Target {
                resource: resource.clone(),
                namespace: namespace.clone(),
                name,
                object: None,
                source: None,
            }));
            continue;
        }
        let namespace = if args.on("all-namespaces") { "" } else { session.namespace.as_str() };
        let query = selectors(args);
        let list = session.list(&resource.path(namespace), &query).await;
        let mut list = list.map_err(|error| list_error(error, &resource, args))?;
        for item in list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default() {
            targets.push(Target::of(&resource, with_type(&resource, item)));
        }
    }
    Ok(targets)
}

/// Why a list was refused, with what was asked for.
pub(crate) fn list_error(error: anyhow::Error, resource: &Resource, args: &Args) -> anyhow::Error {
    match error.downcast::<ApiError>() {
        Ok(mut api) => {
            if api.is("BadRequest") || api.is("NotFound") {
                let what = format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural);
                let part = |name: &str| args.get(name).unwrap_or_default();
                let (labels, fields) = (part("selector"), part("field-selector"));
                api.message = match (labels, fields) {
                    ("", "") => format!("Unable to list {what:?}: {}", api.message),
                    _ => format!(
                        "Unable to find {what:?} that match label selector {labels:?}, field selector {fields:?}: {}",
                        api.message
                    ),
                };
            }
            api.into()
        }
        Err(error) => error,
    }
}

/// The query parameters of -l and --field-selector.
pub(crate) fn selectors(args: &Args) -> Query {
    Query::new().with_some("labelSelector", args.get("selector")).with_some("fieldSelector", args.get("field-selector"))
}

/// Items of lists of built-in kinds come without their kind.
pub(crate) fn with_type(resource: &Resource, mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| resource.api_version().into());
        map.entry("kind").or_insert_with(|| resource.kind.clone().into());
    }
    object
}

/// The target that an object from a file describes; its namespace is filled in.
pub(crate) async fn of_manifest(session: &Session, manifest: Manifest) -> Result<Target> {
    let Manifest { mut object, source } = manifest;
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let meta = |key: &str| object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default();
    let (name, own) = (meta("name").to_owned(), meta("namespace").to_owned());
    let discovery = session.discovery().await?;
    let resource = discovery.of_kind(&api_version, &kind).ok_or_else(|| {
        anyhow!(
            "resource mapping not found for name: {name:?} namespace: {own:?} from {source:?}: no matches for kind \
             {kind:?} in version {api_version:?}\nensure CRDs are installed first"
        )
    })?;
    let mut namespace = String::new();
    if resource.is_namespaced {
        if session.is_namespace_given && !own.is_empty() && own != session.namespace {
            bail!(
                "the namespace from the provided object {own:?} does not match the namespace {:?}. You must pass \
                 '--namespace={own}' to perform this operation.",
                session.namespace
            );
        }
        namespace = if own.is_empty() { session.namespace.clone() } else { own };
        let map = object.as_object_mut().context("a manifest is an object")?;
        api::object::metadata_mut(map).insert("namespace".to_owned(), namespace.clone().into());
    }
    Ok(Target { resource: resource.clone(), namespace, name, object: Some(object), source: Some(source) })
}
