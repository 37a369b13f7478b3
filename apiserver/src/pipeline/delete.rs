//! DELETE: preconditions, grace, finalizers, propagation (upstream's `rest.BeforeDelete` and `Store.Delete`).

use std::sync::Arc;

use api::table::Grace;
use api::{Object, Status, object};
use apiserver_admission::Operation;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::commit::{self, Prepared};
use super::options::{DeleteOptions, Propagation};
use super::update::{ATTEMPTS, current, decoded, has_finalizers};
use super::{Call, options, prepare};
use crate::cache::Cached;
use crate::http::{Response, response};
use crate::quirks;

/// The last second that a time can name: the end of the year 9999.
const LAST: i64 = 253_402_300_799;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What became of the object.
pub enum Outcome {
    /// It is gone; this was its last state.
    Deleted(Object),
    /// It stays, marked, until what holds it lets go.
    Marked(Arc<Cached>),
}

/// Answers a delete request.
pub async fn delete(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let asked = DeleteOptions::read(call, body)?;
    let outcome = run(call, &asked).await?;
    Ok(match outcome {
        Outcome::Marked(object) => {
            let accepted = asked.orphan_dependents == Some(false);
            call.answer(if accepted { StatusCode::ACCEPTED } else { StatusCode::OK }, &object)
        }
        Outcome::Deleted(last) if quirks::returned_when_deleted(&call.row.gvr) => {
            call.answer_object(StatusCode::OK, &last)
        }
        Outcome::Deleted(last) => response::json(StatusCode::OK, call.accept, success(call, &last)),
    })
}

/// The Status of a deletion that is done.
fn success(call: &Call<'_>, last: &Object) -> Bytes {
    let mut details = json!({"name": call.name, "kind": call.row.gvr.resource, "uid": object::uid(last)});
    if !call.row.gvr.group.is_empty() {
        details["group"] = json!(call.row.gvr.group);
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Bytes::from(status.to_string())
}

/// Deletes one object by the rules; anew when another write came between.
pub async fn run(call: &Call<'_>, asked: &DeleteOptions) -> Result<Outcome, Status> {
    let dry_run = call.params.dry_run || asked.is_dry_run();
    let mut admitted = false;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            call.server.fresh().await?;
        }
        let Some(cached) = current(call).await? else { return Err(call.not_found()) };
        let old = decoded(call, &cached)?;
        if !std::mem::replace(&mut admitted, true) {
            prepare::admit_without_object(call, Operation::Delete, Some(&old), &options::of(call, "DeleteOptions"))?;
        }
        check_preconditions(call, asked, &old, &cached)?;
        let (new, step) = plan(call, asked, &old)?;
        match step {
            Step::Nothing => return Ok(Outcome::Marked(cached)),
            Step::Mark if dry_run => {
                let prepared = Prepared::new(call.server, call.row, new)?;
                return prepared.dry(call.server, call.row, cached.revision).map(Outcome::Marked);
            }
            Step::Mark => {
                let prepared = Prepared::new(call.server, call.row, new)?;
                if let Some(marked) = commit::put(call.server, call.row, prepared, cached.revision).await? {
                    return Ok(Outcome::Marked(marked));
                }
            }
            Step::Remove if dry_run => return Ok(Outcome::Deleted(old)),
            Step::Remove => {
                let gone = commit::delete(call.server, call.row, call.namespace, call.name, cached.revision).await?;
                if let Some(revision) = gone {
                    let mut last = new;
                    object::metadata_mut(&mut last).insert("resourceVersion".to_owned(), json!(revision.to_string()));
                    return Ok(Outcome::Deleted(last));
                }
            }
        }
    }
    Err(Status::modified(&call.row.gvr.group, &call.row.gvr.resource, call.name))
}

fn check_preconditions(call: &Call<'_>, asked: &DeleteOptions, old: &Object, cached: &Cached) -> Result<(), Status> {
    let Some(preconditions) = &asked.preconditions else { return Ok(()) };
    // Upstream names the kind here where it names the resource elsewhere.
    let conflict = |why: String| Status::conflict(&call.row.gvk.group, &call.row.gvk.kind, call.name, &why);
    if let Some(uid) = &preconditions.uid
        && *uid != object::uid(old)
    {
        let stored = object::uid(old);
        return Err(conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({stored}). \
             The object might have been deleted and then recreated"
        )));
    }
    if let Some(version) = &preconditions.resource_version
        && *version != cached.revision.to_string()
    {
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            cached.revision
        )));
    }
    Ok(())
}

/// What to do with an object that is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is already on its way.
    Nothing,
    /// Store it with deletionTimestamp and finalizers.
    Mark,
    Remove,
}

fn plan(call: &Call<'_>, asked: &DeleteOptions, old: &Object) -> Result<(Object, Step), Status> {
    let mut new = old.clone();
    let graceful = match grace(call, asked, &mut new, old)? {
        Graceful::Pending => return Ok((new, Step::Nothing)),
        Graceful::Seconds(seconds) => seconds > 0,
        Graceful::No => false,
    };
    let finalizers_changed =
        settle_finalizers(asked.propagation(), quirks::orphans_by_default(&call.row.gvr), &mut new);
    if has_finalizers(&new) {
        if !graceful && !object::is_terminating(&new) {
            mark(&mut new, 0);
        }
        if object::at(&new, &["spec", "finalizers"]).is_some() {
            // Namespaces say in their phase that they go.
            object::child_mut(&mut new, "status").insert("phase".to_owned(), json!("Terminating"));
        }
        let step = if new == *old && !finalizers_changed { Step::Nothing } else { Step::Mark };
        return Ok((new, step));
    }
    if graceful {
        return Ok((new, Step::Mark));
    }
    Ok((new, Step::Remove))
}

enum Graceful {
    /// A grace period is running already, and is not shortened by this request.
    Pending,
    Seconds(i64),
    No,
}

/// Marks the object for its grace period, as the kind says.
fn grace(call: &Call<'_>, asked: &DeleteOptions, new: &mut Object, old: &Object) -> Result<Graceful, Status> {
    let Some(hook) = call.row.resource.hooks.grace else { return Ok(Graceful::No) };
    if object::is_terminating(old) {
        let running = object::metadata(old).and_then(|m| m.get("deletionGracePeriodSeconds")).and_then(Value::as_i64);
        return Ok(match (running, asked.grace_period_seconds) {
            (None, _) => Graceful::No,
            (Some(running), Some(wanted)) if wanted < running => {
                let wanted = wanted.max(0);
                let end = api::time::parse_rfc3339(object::meta_str(old, "deletionTimestamp")).unwrap_or(0);
                mark_at(new, end.saturating_sub(running).saturating_add(wanted), wanted);
                Graceful::Seconds(wanted)
            }
            (Some(_), _) => Graceful::Pending,
        });
    }
    match hook(new, asked.grace_period_seconds)? {
        Grace::Immediate => {
            mark(new, 0);
            Ok(Graceful::Seconds(0))
        }
        Grace::Seconds(seconds) => {
            mark(new, seconds);
            Ok(Graceful::Seconds(seconds))
        }
    }
}

/// Sets deletionTimestamp and grace period, and counts the generation.
fn mark(object: &mut Object, seconds: i64) {
    mark_at(object, prepare::now().saturating_add(seconds), seconds);
    let metadata = object::metadata_mut(object);
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|g| *g > 0) {
        metadata.insert("generation".to_owned(), json!(generation + 1));
    }
}

fn mark_at(object: &mut Object, at: i64, seconds: i64) {
    let metadata = object::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), json!(api::time::rfc3339(at.min(LAST))));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(seconds));
}

/// Puts the garbage collector's finalizers in order; whether that changed them.
fn settle_finalizers(asked: Option<Propagation>, orphans_by_default: bool, new: &mut Object) -> bool {
    let before: Vec<String> = object::metadata(new)
        .and_then(|m| m.get("finalizers"))
        .and_then(Value::as_array)
        .map(|f| f.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let had = |name: &str| before.iter().any(|f| f == name);
    let orphan = match asked {
        Some(propagation) => propagation == Propagation::Orphan,
        None => had(ORPHAN) || (orphans_by_default && !had(FOREGROUND)),
    };
    let foreground = match asked {
        Some(propagation) => propagation == Propagation::Foreground,
        None => had(FOREGROUND) && !orphan,
    };
    let mut after: Vec<String> = before.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    if orphan {
        after.push(ORPHAN.to_owned());
    }
    if foreground {
        after.push(FOREGROUND.to_owned());
    }
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    if sorted(&after) == sorted(&before) {
        return false;
    }
    let metadata = object::metadata_mut(new);
    if after.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(after));
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finalizers_follow_the_policy() {
        use Propagation::{Background, Foreground, Orphan};
        for (had, asked, default, expected) in [
            (&[][..], None, false, &[][..]),
            (&[], None, true, &["orphan"]),
            (&[], Some(Foreground), false, &["foregroundDeletion"]),
            (&["x"], Some(Orphan), false, &["x", "orphan"]),
            (&["orphan", "x"], Some(Background), true, &["x"]),
            (&["orphan"], None, false, &["orphan"]),
            (&["foregroundDeletion"], None, true, &["foregroundDeletion"]),
        ] {
            let mut object = Object::new();
            object::metadata_mut(&mut object).insert("finalizers".to_owned(), json!(had));
            settle_finalizers(asked, default, &mut object);
            let after: Vec<String> = object::metadata(&object)
                .and_then(|m| m.get("finalizers"))
                .map(|f| serde_json::from_value(f.clone()).unwrap())
                .unwrap_or_default();
            assert_eq!(after, expected, "{had:?} {asked:?} {default}");
        }
    }
}
