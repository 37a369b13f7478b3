//! `create`: objects from files, and generators of common kinds.

pub(super) mod generate;
pub(super) mod rbac;
pub(super) mod workload;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use crate::error::{ApiError, Exit, Result, say};
use crate::flags::Args;
use crate::output::{DryRun, Told};
use crate::session::{JSON, Query, Session};
use crate::target::{self, Target};
use crate::{apply, manifest, output};

pub(super) const FLAGS: &str = "
      --save-config      Remember the object in its annotation, for apply
      --field-manager=   Name of the owner of the fields
      --validate[=strict]  strict, warn or ignore: what the server does about unknown fields
      --raw=             A path to post the file to
      --edit             Not supported: edit the file
      --show-labels      Accepted
";

pub(super) async fn run(args: &Args) -> Result<()> {
    if !args.words.is_empty() {
        bail!("Unexpected args: [{}]\nSee 'cox create -h' for help and examples", args.words.join(" "));
    }
    let session = Session::open(args).await?;
    if let Some(path) = args.get("raw") {
        return raw(&session, args, path).await;
    }
    let manifests = manifest::read(args)?;
    if manifests.is_empty() {
        bail!("must specify one of -f and -k");
    }
    let mut told = Told::new(args)?;
    let mut has_failed = false;
    for manifest in manifests {
        let source = manifest.source.clone();
        if !selected(args, &manifest.object)? {
            continue;
        }
        let made = match target::of_manifest(&session, manifest).await {
            Ok(target) => {
                let made = one(&session, args, &mut told, &target, "created").await;
                made.with_context(|| format!("error when creating {source:?}"))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            say(&error);
            has_failed = true;
        }
    }
    if has_failed { Err(Exit(1).into()) } else { Ok(()) }
}

/// Whether -l chooses an object of a file.
pub(super) fn selected(args: &Args, object: &Value) -> Result<bool> {
    let Some(selector) = args.get("selector") else { return Ok(true) };
    let selector = api::labels::Selector::parse(selector)?;
    Ok(selector.matches(&object.pointer("/metadata/labels").and_then(Value::as_object)))
}

/// Flags of the generators.
pub(super) const GENERATOR_FLAGS: &str = "
      --save-config      Remember the object in its annotation, for apply
      --field-manager=   Name of the owner of the fields
      --validate[=strict]  strict, warn or ignore: what the server does about unknown fields
";

/// Creates what a generator made.
async fn made(args: &Args, object: Value) -> Result<()> {
    let session = Session::open(args).await?;
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let resource = session.discovery().await?.of_kind(&api_version, &kind);
    let resource = resource.with_context(|| format!("the server has no {kind} in {api_version}"))?.clone();
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = if resource.is_namespaced { session.namespace.clone() } else { String::new() };
    let mut object = object;
    if resource.is_namespaced && session.is_namespace_given {
        object["metadata"]["namespace"] = namespace.as_str().into();
    }
    let target = Target { resource, namespace, name, object: Some(object), source: None };
    let made = one(&session, args, &mut Told::new(args)?, &target, "created").await;
    // kubectl wraps the server's error for all but these, and then says no more that it is the server's.
    let is_plain = matches!(kind.as_str(), "Namespace" | "Role" | "ClusterRole");
    made.map_err(|error| match error.downcast_ref::<ApiError>() {
        Some(api) if !is_plain && !api.is("Invalid") => anyhow!("failed to create {}: {api}", kind.to_lowercase()),
        _ => error,
    })
}

/// Creates one object and tells of it.
pub(super) async fn one(
    session: &Session,
    args: &Args,
    told: &mut Told<'_>,
    target: &Target,
    what: &str,
) -> Result<()> {
    let object = target.object.as_ref().context("a target from a file has its object")?;
    let object = if args.on("save-config") { apply::with_memory(object) } else { object.clone() };
    let dry = DryRun::of(args)?;
    let made = match dry {
        DryRun::Client => object,
        _ => {
            let query = write_query(args, dry, "kubectl-create")?;
            session.post(&query.on(&target.resource.path(&target.namespace)), &object).await?
        }
    };
    let mut target = target.clone();
    target.name = made.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    told.did(&target, what, &made)
}

/// The query of a request that writes.
pub(super) fn write_query(args: &Args, dry: DryRun, manager: &str) -> Result<Query> {
    let validation = match args.get("validate") {
        None | Some("strict" | "true") => "Strict",
        Some("warn") => "Warn",
        Some("ignore" | "false") => "Ignore",
        Some(other) => {
            bail!("invalid - validate option {other:?}; must be one of: strict (or true), warn, ignore (or false)")
        }
    };
    let manager = args.get("field-manager").unwrap_or(manager);
    Ok(dry.query(Query::new().with("fieldManager", manager).with("fieldValidation", validation)))
}

async fn raw(session: &Session, args: &Args, path: &str) -> Result<()> {
    let [file] = args.all("filename") else { bail!("--raw can only use a single local file or stdin") };
    let bytes = match file.as_str() {
        "-" => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).context("read standard input")?;
            bytes
        }
        file => std::fs::read(file).with_context(|| format!("read {file}"))?,
    };
    let answer = session.bytes(http::Method::POST, path, JSON, Some((JSON, bytes))).await?;
    output::put(&String::from_utf8_lossy(&answer))
}
