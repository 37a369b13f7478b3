//! `events`: what happened, the latest last.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::pods::{Lines, text};
use crate::error::Result;
use crate::flags::Args;
use crate::output::table::Widths;
use crate::output::{self, Form, Output, tabs};
use crate::session::{JSON, Query, Session};

pub(super) const FLAGS: &str = "
  -A, --all-namespaces  In all namespaces
      --for=            Of this object only, TYPE/NAME
      --types=,         Only of these types, Normal or Warning
  -w, --watch           After listing, go on with what happens
      --no-headers      Without the header line
      --chunk-size=     Accepted
";

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let query = match args.get("for") {
        Some(word) => Query::new().with("fieldSelector", involved(&session, word).await?),
        None => Query::new(),
    };
    for ty in args.all("types") {
        if !["Normal", "Warning"].iter().any(|known| known.eq_ignore_ascii_case(ty)) {
            bail!("valid --types are Normal or Warning");
        }
    }
    let path = match args.on("all-namespaces") {
        true => "/api/v1/events".to_owned(),
        false => format!("/api/v1/namespaces/{}/events", session.namespace),
    };
    let form = match Output::of(args)? {
        Output::Table { .. } => None,
        Output::Objects(form) => Some(form),
    };
    let mut list = session.list(&path, &query).await?;
    let version = text(&list, "/metadata/resourceVersion").to_owned();
    let mut events = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    events.retain(|event| is_wanted(event, args));
    events.sort_by_key(|event| last_seen(event).to_owned());
    if args.on("watch") {
        return watch(&session, args, (path.as_str(), &query, version.as_str()), events, form.as_ref()).await;
    }
    if events.is_empty() && form.is_none() {
        match args.on("all-namespaces") {
            true => eprintln!("No events found."),
            false => eprintln!("No events found in {} namespace.", session.namespace),
        }
        return Ok(());
    }
    match form {
        Some(form) => {
            let items = events.into_iter().map(typed).collect();
            let list = json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": Value::Array(items)});
            output::put(&form.text(&list, args)?)
        }
        None => {
            let lines = head(args).into_iter().chain(events.iter().map(|event| row(event, args)));
            let text: String = lines.map(|cells| cells.join("\t") + "\n").collect();
            output::put(&tabs::TABLE.align(&text))
        }
    }
}

/// The field selector of an object's events.
async fn involved(session: &Session, word: &str) -> Result<String> {
    let parts = word.split_once('/').filter(|(ty, name)| !ty.is_empty() && !name.is_empty() && !name.contains('/'));
    let (ty, name) = parts.context("--for must be in resource/name form")?;
    let resource = session.discovery().await?.find(ty)?;
    let version = resource.api_version();
    Ok(format!("involvedObject.kind={},involvedObject.apiVersion={version},involvedObject.name={name}", resource.kind))
}

fn is_wanted(event: &Value, args: &Args) -> bool {
    let types = args.all("types");
    types.is_empty() || types.iter().any(|ty| ty.eq_ignore_ascii_case(text(event, "/type")))
}

fn typed(mut event: Value) -> Value {
    event["apiVersion"] = "v1".into();
    event["kind"] = "Event".into();
    event
}

/// When an event happened the last time.
fn last_seen(event: &Value) -> &str {
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime"];
    times.into_iter().map(|pointer| text(event, pointer)).find(|time| !time.is_empty()).unwrap_or_default()
}

/// How long ago that was, and how often since when.
pub(super) fn age(event: &Value, now: i64) -> String {
    let since = |pointer: &str| api::printer::since(text(event, pointer), now);
    let first = if text(event, "/eventTime").is_empty() { since("/firstTimestamp") } else { since("/eventTime") };
    let count = |pointer: &str| event.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    match (count("/series/count"), count("/count")) {
        (0, count) if count > 1 => format!("{} (x{count} over {first})", since("/lastTimestamp")),
        (0, _) => first,
        (count, _) => format!("{} (x{count} over {first})", since("/series/lastObservedTime")),
    }
}

fn head(args: &Args) -> Option<Vec<String>> {
    if args.on("no-headers") {
        return None;
    }
    let place = args.on("all-namespaces").then_some("NAMESPACE");
    let names = place.into_iter().chain(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    Some(names.map(str::to_owned).collect())
}

fn row(event: &Value, args: &Args) -> Vec<String> {
    let object = format!("{}/{}", text(event, "/involvedObject/kind"), text(event, "/involvedObject/name"));
    let place = args.on("all-namespaces").then(|| text(event, "/metadata/namespace").to_owned());
    let ty = text(event, "/type").to_owned();
    let message = text(event, "/message").trim().to_owned();
    let cells =
        [age(event, jiff::Timestamp::now().as_second()), ty, text(event, "/reason").to_owned(), object, message];
    place.into_iter().chain(cells).collect()
}

async fn watch(
    session: &Session,
    args: &Args,
    (path, query, version): (&str, &Query, &str),
    listed: Vec<Value>,
    form: Option<&Form>,
) -> Result<()> {
    let mut widths = Widths::default();
    let mut print = |event: Value| match form {
        Some(form) => output::put(&form.text(&typed(event), args)?),
        None => output::put(&widths.line(&row(&event, args))),
    };
    if form.is_none()
        && let Some(head) = head(args)
    {
        output::put(&Widths::default().line(&head))?;
    }
    for event in listed {
        print(event)?;
    }
    let uri = query.clone().with("watch", "true").with("resourceVersion", version).on(path);
    let mut lines = Lines::of(session.send(http::Method::GET, &uri, JSON, None).await?.into_body());
    while let Some(line) = lines.next().await? {
        let mut change: Value = serde_json::from_slice(&line).context("read a watch event")?;
        let event = change.get_mut("object").map(Value::take).unwrap_or_default();
        match text(&change, "/type") {
            "ADDED" | "MODIFIED" if is_wanted(&event, args) => print(event)?,
            "ERROR" => bail!("{}", text(&event, "/message")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_and_since_when() {
        let once = json!({"firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:00:00Z"});
        let often = json!({
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:00:50Z", "count": 3,
        });
        let series = json!({
            "eventTime": "1970-01-01T00:00:00.000000Z",
            "series": {"count": 4, "lastObservedTime": "1970-01-01T00:00:55.000000Z"},
        });
        for (event, expected) in [(once, "60s"), (often, "10s (x3 over 60s)"), (series, "5s (x4 over 60s)")] {
            assert_eq!(age(&event, 60), expected);
        }
    }
}
