//! `apply --server-side`; what the client applied before becomes the server's to keep (KEP-3805).

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use super::RETRIES;
use crate::apply::LAST_APPLIED;
use crate::error::{ApiError, Result, has_reason};
use crate::flags::Args;
use crate::output::DryRun;
use crate::session::{Query, Session};
use crate::target::Target;
use crate::verbs::create::write_query;
use crate::verbs::pods::text;

const APPLY: &str = "application/apply-patch+yaml";
const OWN: &str = "kubectl";

const CONFLICT: &str = "\
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

/// Whether the flags go together.
pub(super) fn check(args: &Args) -> Result<()> {
    if args.on("force-conflicts") && !args.on("server-side") {
        bail!("--force-conflicts only works with --server-side");
    }
    if args.on("server-side") && args.on("force") {
        bail!("--force cannot be used with --server-side");
    }
    if args.on("server-side") && DryRun::of(args)? == DryRun::Client {
        bail!("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)");
    }
    Ok(())
}

/// Applies one object.
pub(super) async fn run(session: &Session, args: &Args, target: &Target, wanted: &Value) -> Result<Value> {
    let dry = DryRun::of(args)?;
    let mut query = write_query(args, dry, OWN)?;
    query.add("force", if args.on("force-conflicts") { "true" } else { "false" });
    let uri = query.on(&target.path());
    let object = match session.patch(&uri, APPLY, wanted).await {
        Err(error) if has_reason(&error, "Conflict") => {
            let why = error.downcast::<ApiError>().map_or_else(|error| format!("{error:#}"), |api| api.message);
            return Err(anyhow!("{why}\n{CONFLICT}"));
        }
        sent => sent?,
    };
    migrated(session, args, target, object, (uri.as_str(), wanted)).await
}

async fn migrated(
    session: &Session,
    args: &Args,
    target: &Target,
    object: Value,
    (uri, wanted): (&str, &Value),
) -> Result<Value> {
    let again = "This is non-fatal and will be retried next time you apply.";
    let object = match remembered(session, args, target, &object).await {
        Ok(newer) => newer.unwrap_or(object),
        Err(error) => {
            eprintln!(
                "Warning: failed to migrate kubectl.kubernetes.io/last-applied-configuration for Server-Side Apply. \
                 {again} Error: {error:#}"
            );
            return Ok(object);
        }
    };
    match upgraded(session, args, target, object.clone()).await {
        Ok(false) => Ok(object),
        Ok(true) => match session.patch(uri, APPLY, wanted).await {
            // Fields that were dropped can go only now.
            Ok(object) => Ok(object),
            Err(error) => {
                eprintln!(
                    "Warning: failed to re-apply configuration after performing Server-Side Apply migration. {again} \
                     Error: {error:#}"
                );
                Ok(object)
            }
        },
        Err(error) => {
            eprintln!(
                "Warning: server rejected managed fields migration to Server-Side Apply. {again} Error: {error:#}"
            );
            Ok(object)
        }
    }
}

fn entries(object: &Value) -> &[Value] {
    object.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether an entry is one of an operation that owns the annotation of what was applied last.
fn remembers(entry: &Value, operation: &str) -> bool {
    let field = format!("f:{LAST_APPLIED}");
    let annotations = entry.pointer("/fieldsV1/f:metadata/f:annotations");
    text(entry, "/operation") == operation && annotations.is_some_and(|fields| fields.get(&field).is_some())
}

/// Gives the annotation an owner of its own, so that it stays; `None` when there is nothing to do.
async fn remembered(session: &Session, args: &Args, target: &Target, object: &Value) -> Result<Option<Value>> {
    let annotation = object.pointer("/metadata/annotations").and_then(|a| a.get(LAST_APPLIED));
    let Some(annotation) = annotation.filter(|_| !entries(object).iter().any(|e| remembers(e, "Apply"))) else {
        return Ok(None);
    };
    let mut only = json!({
        "apiVersion": target.resource.api_version(), "kind": target.resource.kind,
        "metadata": {"name": target.name, "annotations": {LAST_APPLIED: annotation}},
    });
    if !target.namespace.is_empty() {
        only["metadata"]["namespace"] = target.namespace.as_str().into();
    }
    let query = DryRun::of(args)?.query(Query::new().with("fieldManager", "kubectl-last-applied"));
    session.patch(&query.on(&target.path()), APPLY, &only).await.map(Some)
}

/// Makes what managers of client-side apply own this manager's; whether anything was to be done.
async fn upgraded(session: &Session, args: &Args, target: &Target, mut object: Value) -> Result<bool> {
    let manager = args.get("field-manager").unwrap_or(OWN);
    let dry = DryRun::of(args)?;
    let old = entries(&object).iter().filter(|entry| remembers(entry, "Update"));
    let old: Vec<String> = old.map(|entry| text(entry, "/manager").to_owned()).collect();
    for attempt in 0.. {
        let after = old.iter().fold(entries(&object).to_vec(), |entries, old| upgrade(entries, old, manager));
        if after == entries(&object) {
            return Ok(false);
        }
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": after},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": text(&object, "/metadata/resourceVersion")},
        ]);
        let query = dry.query(Query::new().with("fieldManager", manager));
        match session.patch(&query.on(&target.path()), "application/json-patch+json", &patch).await {
            Ok(_) => return Ok(true),
            Err(error) if has_reason(&error, "Conflict") && attempt < RETRIES => object = target.get(session).await?,
            Err(error) => return Err(error),
        }
    }
    unreachable!("the last attempt returns")
}

/// The entries with the fields of `old` (by Update) given to `new` (by Apply).
fn upgrade(mut entries: Vec<Value>, old: &str, new: &str) -> Vec<Value> {
    let is = |entry: &Value, manager: &str, operation: &str| {
        text(entry, "/manager") == manager
            && text(entry, "/operation") == operation
            && text(entry, "/subresource").is_empty()
    };
    let at = match entries.iter().position(|entry| is(entry, new, "Apply")) {
        Some(at) => at,
        None => {
            let Some(at) = entries.iter().position(|entry| is(entry, old, "Update")) else { return entries };
            entries[at]["operation"] = "Apply".into();
            entries[at]["manager"] = new.into();
            at
        }
    };
    let version = text(&entries[at], "/apiVersion").to_owned();
    let same = entries.iter().find(|entry| is(entry, old, "Update") && text(entry, "/apiVersion") == version);
    if let Some(fields) = same.map(|entry| entry["fieldsV1"].clone()) {
        union(&mut entries[at]["fieldsV1"], fields);
    }
    entries.retain(|entry| !is(entry, old, "Update"));
    entries
}

/// The union of two field sets in their serialized form.
fn union(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                union(into.entry(key).or_insert_with(|| json!({})), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_applied_becomes_the_servers() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields});
        let client = entry("kubectl-client-side-apply", "Update", json!({"f:data": {"f:a": {}, "f:b": {}}}));
        let server = entry("kubectl", "Apply", json!({"f:data": {"f:b": {}, "f:c": {}}}));
        let other = entry("else", "Update", json!({"f:data": {"f:d": {}}}));
        let both = entry("kubectl", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}, "f:c": {}}}));
        let upgrade = |entries: &[&Value]| {
            upgrade(entries.iter().map(|e| (*e).clone()).collect(), "kubectl-client-side-apply", "kubectl")
        };
        assert_eq!(upgrade(&[&server, &client, &other]), [both, other.clone()]);
        let taken = entry("kubectl", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}}}));
        assert_eq!(upgrade(&[&client]), [taken]);
        assert_eq!(upgrade(&[&other]), std::slice::from_ref(&other));
    }
}
