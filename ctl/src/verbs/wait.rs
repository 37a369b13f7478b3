//! `wait`: until objects are gone, there, have a condition, or a value at a path.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::pods::{Lines, items, text};
use crate::error::{ApiError, Exit, Result, has_reason};
use crate::flags::Args;
use crate::output::Told;
use crate::output::columns::relaxed;
use crate::output::jsonpath::{Template, plain};
use crate::session::{JSON, Query, Session};
use crate::target::{self, Target};

pub(super) const FLAGS: &str = "
      --for=      delete, create, condition=NAME[=VALUE], or jsonpath={PATH}[=VALUE]
      --timeout=  How long to wait, 30s if not given; 0 looks once, a negative one waits a week
";

const DEFAULT: Duration = Duration::from_secs(30);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between two looks for an object that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is waited for.
enum For {
    Delete,
    Create,
    Condition(String, String),
    Path(Template, Option<String>),
}

impl For {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Self::Delete);
        }
        if lower == "create" {
            return Ok(Self::Create);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Self::Condition(name.to_owned(), value.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches(['\'', '"']);
            // A shell that does not take them away leaves quotes around the path.
            let end = rest.rfind('}').map_or(0, |at| at + 1);
            let (path, value) = match rest[end..].split_once('=') {
                Some((before, value)) => {
                    (&rest[..end + before.len()], Some(value.trim_matches(['\'', '"']).to_owned()))
                }
                None => (rest, None),
            };
            let path = path.trim_matches(['\'', '"']);
            if path.is_empty() {
                bail!("jsonpath expression cannot be empty");
            }
            return Ok(Self::Path(Template::parse(&relaxed(path)?)?, value));
        }
        if text.is_empty() {
            bail!("unrecognized condition: []");
        }
        bail!("unrecognized condition: {text:?}")
    }

    /// Whether an object, or its absence, is what is waited for.
    fn holds(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Delete, object) => object.is_none(),
            (Self::Create, object) => object.is_some(),
            (_, None) => false,
            (Self::Condition(name, value), Some(object)) => {
                let is_it = |c: &&Value| text(c, "/type").eq_ignore_ascii_case(name);
                let current = items(object, "/status/conditions").find(is_it);
                current.is_some_and(|condition| {
                    text(condition, "/status").eq_ignore_ascii_case(value) && is_observed(object, condition)
                })
            }
            (Self::Path(path, value), Some(object)) => {
                let found = path.values(object);
                match value {
                    Some(value) => found.iter().any(|v| plain(v) == *value),
                    None => found.iter().any(|v| !v.is_null() && v.as_str() != Some("")),
                }
            }
        }
    }
}

/// A condition that speaks of an older generation does not count.
fn is_observed(object: &Value, condition: &Value) -> bool {
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_i64);
    let observed = number(condition, "/observedGeneration").or_else(|| number(object, "/status/observedGeneration"));
    match (observed, number(object, "/metadata/generation")) {
        (Some(observed), Some(generation)) => observed >= generation,
        _ => true,
    }
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let wanted = For::parse(args.get("for").unwrap_or_default())?;
    let timeout = match args.seconds("timeout")? {
        None => DEFAULT,
        Some(seconds) if seconds < 0.0 => WEEK,
        Some(seconds) => Duration::from_secs_f64(seconds),
    };
    let deadline = Instant::now() + timeout;
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let targets = loop {
        let targets = target::targets(&session, args, &args.words).await?;
        if !(targets.is_empty() && matches!(wanted, For::Create)) || Instant::now() > deadline {
            break targets;
        }
        sleep(LOOK_AGAIN).await;
    };
    if targets.is_empty() && !matches!(wanted, For::Delete) {
        bail!("no matching resources found");
    }
    let mut has_failed = false;
    for target in targets {
        let done = match timeout_at(deadline, one(&session, &target, &wanted)).await {
            Ok(done) => done?,
            Err(_) => {
                match wanted {
                    For::Create => eprintln!("error: timed out waiting for the condition"),
                    _ if timeout.is_zero() => {
                        eprintln!("error: condition not met for {}/{}", target.resource.plural, target.name);
                    }
                    _ => eprintln!(
                        "error: timed out waiting for the condition on {}/{}",
                        target.resource.plural, target.name
                    ),
                }
                has_failed = true;
                continue;
            }
        };
        // Of what never was there is nothing to say.
        if let Some(object) = done {
            told.did(&target, "condition met", &object)?;
        }
    }
    if has_failed { Err(Exit(1).into()) } else { Ok(()) }
}

async fn one(session: &Session, target: &Target, wanted: &For) -> Result<Option<Value>> {
    if matches!(wanted, For::Create) {
        loop {
            if let Some(object) = target.get_if_exists(session).await? {
                return Ok(Some(object));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
    if matches!(wanted, For::Delete) {
        let Some(before) = target.get_if_exists(session).await? else { return Ok(None) };
        let uid = text(&before, "/metadata/uid").to_owned();
        until_gone(session, target, &uid, None).await?;
        return Ok(Some(before));
    }
    // That it is not there is an error, not something to wait for.
    target.get(session).await?;
    let uid = target.object.as_ref().map(|o| text(o, "/metadata/uid").to_owned()).unwrap_or_default();
    until(session, target, |object| {
        let is_same = object.is_none_or(|o| uid.is_empty() || text(o, "/metadata/uid") == uid);
        wanted.holds(object.filter(|_| is_same))
    })
    .await
}

/// Waits until an object is gone, or another one has its name.
pub(super) async fn until_gone(session: &Session, target: &Target, uid: &str, limit: Option<Duration>) -> Result<()> {
    let gone = until(session, target, |object| {
        object.is_none_or(|object| !uid.is_empty() && text(object, "/metadata/uid") != uid)
    });
    match limit {
        None => gone.await.map(drop),
        Some(limit) => match tokio::time::timeout(limit, gone).await {
            Ok(done) => done.map(drop),
            Err(_) => {
                eprintln!("error: timed out waiting for the condition on {}/{}", target.resource.plural, target.name);
                Err(Exit(1).into())
            }
        },
    }
}

/// Follows an object until it is as wanted: reads it, then watches from there.
pub(super) async fn until(
    session: &Session,
    target: &Target,
    mut holds: impl FnMut(Option<&Value>) -> bool,
) -> Result<Option<Value>> {
    let path = target.resource.path(&target.namespace);
    let query = Query::new().with("fieldSelector", format!("metadata.name={}", target.name));
    loop {
        let list = match session.get(&query.on(&path)).await {
            // A user who may read this object only still gets an answer, by looking again and again.
            Err(error) if has_reason(&error, "Forbidden") => {
                let object = target.get_if_exists(session).await?;
                if holds(object.as_ref()) {
                    return Ok(object);
                }
                sleep(LOOK_AGAIN).await;
                continue;
            }
            list => list?,
        };
        let object = items(&list, "/items").next().cloned();
        if holds(object.as_ref()) {
            return Ok(object);
        }
        let version = text(&list, "/metadata/resourceVersion");
        let uri = query.clone().with("watch", "true").with("resourceVersion", version).on(&path);
        if let Some(found) = follow(session, &uri, &mut holds).await? {
            return Ok(found);
        }
    }
}

/// Reads watch events until one is as wanted; `None` when the watch ended before.
async fn follow(
    session: &Session,
    uri: &str,
    holds: &mut impl FnMut(Option<&Value>) -> bool,
) -> Result<Option<Option<Value>>> {
    let mut lines = Lines::of(session.send(http::Method::GET, uri, JSON, None).await?.into_body());
    while let Some(line) = lines.next().await? {
        let mut event: Value = serde_json::from_slice(&line).context("read a watch event")?;
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        let now = match text(&event, "/type") {
            "DELETED" => None,
            "ADDED" | "MODIFIED" => Some(object),
            "ERROR" if object.get("code").and_then(Value::as_u64) == Some(410) => return Ok(None),
            "ERROR" => return Err(ApiError::of(500, object.to_string().as_bytes()).into()),
            _ => continue,
        };
        if holds(now.as_ref()) {
            return Ok(Some(now));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_waited_for() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {"type": "Old", "status": "True", "observedGeneration": 1},
                ],
            },
        });
        for (text, expected) in [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=false", false),
            ("condition=Old", false),
            ("condition=Nothing", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Running", true),
            ("jsonpath=.status.phase=Pending", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(For::parse(text).unwrap().holds(Some(&object)), expected, "{text}");
        }
        assert!(For::parse("delete").unwrap().holds(None));
        assert!(For::parse("nope").is_err());
    }
}
