//! `eviction`: a delete of a Pod that respects disruption budgets.

use std::sync::Arc;

use api::labels::Selector;
use api::{Object, Reason, Status, object};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::cache::Cached;
use crate::http::Response;
use crate::pipeline::commit::{self, Prepared};
use crate::pipeline::options::DeleteOptions;
use crate::pipeline::{Call, delete, prepare, update};
use crate::rows::Row;

/// Seconds after which a refused eviction may be tried again.
const RETRY_AFTER: u32 = 10;

/// Answers `POST …/pods/NAME/eviction`.
pub async fn handle(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let eviction = super::admit(call, super::decode_body(call, body)?)?;
    let named = object::name(&eviction);
    if !named.is_empty() && named != call.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options: DeleteOptions = match eviction.get("deleteOptions") {
        None | Some(Value::Null) => DeleteOptions::default(),
        Some(value) => DeleteOptions::embedded(value)?,
    };
    let cached = update::current(call).await?.ok_or_else(|| call.not_found())?;
    let pod = update::decoded(call, &cached)?;
    if !ignores_budgets(&pod) {
        spend_budget(call, &cached, &pod, call.params.dry_run || options.is_dry_run()).await?;
    }
    delete::run(&as_delete(call), &options).await?;
    Ok(super::created(call))
}

/// The same call as a delete of the Pod.
fn as_delete<'c>(call: &'c Call<'_>) -> Call<'c> {
    Call {
        server: call.server,
        row: call.row,
        verb: "delete",
        namespace: call.namespace,
        name: call.name,
        subresource: "",
        user: call.user,
        params: call.params.clone(),
        accept: call.accept,
        headers: call.headers,
        gzip: false,
        warnings: parking_lot::Mutex::default(),
    }
}

/// Pods that are over, going, or not running yet disturb nobody.
fn ignores_budgets(pod: &Object) -> bool {
    let phase = object::str_at(pod, &["status", "phase"]);
    matches!(phase, "Succeeded" | "Failed" | "Pending") || object::is_terminating(pod)
}

fn is_ready(pod: &Object) -> bool {
    let conditions = object::at(pod, &["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn spend_budget(call: &Call<'_>, cached: &Cached, pod: &Object, dry_run: bool) -> Result<(), Status> {
    let rows = call.server.rows.load();
    let Some(row) = rows.find("policy", "v1", "poddisruptionbudgets").cloned() else { return Ok(()) };
    drop(rows);
    for _ in 0..update::ATTEMPTS {
        let found = budgets(call, &row, cached);
        let (budget, budget_object) = match &found[..] {
            [] => return Ok(()),
            [one] => one,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let Some(spent) = decide(call, budget_object, pod)? else { return Ok(()) };
        if dry_run {
            return Ok(());
        }
        let prepared = Prepared::new(call.server, &row, spent)?;
        if commit::put(call.server, &row, prepared, budget.revision).await?.is_some() {
            return Ok(());
        }
        call.server.fresh().await?;
    }
    Err(too_many(RETRY_AFTER, "the disruption budget changes too often"))
}

/// Budgets that select the Pod.
fn budgets(call: &Call<'_>, row: &Row, pod: &Cached) -> Vec<(Arc<Cached>, Object)> {
    let snapshot = row.cache.snapshot(0);
    let mut found = Vec::new();
    for cached in snapshot.range(call.namespace, "") {
        let Ok(budget) = cached.decode() else { continue };
        let selector = object::at(&budget, &["spec", "selector"]);
        if selector.is_some() && Selector::from_label_selector(selector).is_ok_and(|s| s.matches(&*pod.labels)) {
            found.push((cached.clone(), budget));
        }
    }
    found
}

/// The budget with this disruption counted; `None` when the Pod does not count against it.
fn decide(call: &Call<'_>, budget: &Object, pod: &Object) -> Result<Option<Object>, Status> {
    let number = |path: &[&str]| object::at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let (healthy, desired) = (number(&["status", "currentHealthy"]), number(&["status", "desiredHealthy"]));
    if !is_ready(pod) {
        let always = object::str_at(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Ok(None);
        }
    }
    let name = object::name(budget);
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(RETRY_AFTER, &why));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed < 0 {
        return Err(Status::forbidden("policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative"));
    }
    if allowed == 0 {
        let why = match sync_failure(budget) {
            Some(failure) => format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {failure}"
            ),
            None => format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"),
        };
        // Without a time to wait: clients would sit it out silently, where the budget may take any time.
        return Err(too_many(0, &why));
    }
    let mut spent = budget.clone();
    let status = object::child_mut(&mut spent, "status");
    status.insert("disruptionsAllowed".to_owned(), json!(allowed - 1));
    let now = api::time::rfc3339(prepare::now());
    object::child_mut(status, "disruptedPods").insert(call.name.to_owned(), json!(now));
    Ok(Some(spent))
}

/// Why the budget's numbers are not known, if they are not.
fn sync_failure(budget: &Object) -> Option<&str> {
    let conditions = object::at(budget, &["status", "conditions"]).and_then(Value::as_array)?;
    let text = |condition: &Value, key: &str, wanted: &str| condition.get(key).and_then(Value::as_str) == Some(wanted);
    let failed = conditions.iter().find(|condition| {
        text(condition, "type", "DisruptionAllowed")
            && text(condition, "status", "False")
            && text(condition, "reason", "SyncFailed")
    })?;
    failed.get("message").and_then(Value::as_str).filter(|message| !message.is_empty())
}

/// `retry` is in seconds; 0 leaves it to the client.
fn too_many(retry: u32, why: &str) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry);
    debug_assert!(status.is(Reason::TooManyRequests));
    status.details.get_or_insert_default().causes.push(api::status::Cause {
        reason: "DisruptionBudget".to_owned(),
        message: why.to_owned(),
        field: String::new(),
    });
    status
}
