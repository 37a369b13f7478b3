//! `get`: tables that the server makes, or objects in another form; once, or as they change.

mod sort;
mod watch;

use anyhow::bail;
use serde_json::{Value, json};

use crate::Resource;
use crate::error::{self, Exit, Result, has_reason};
use crate::flags::Args;
use crate::manifest;
use crate::output::table::{self, Style};
use crate::output::{self, Form, Output};
use crate::session::{JSON, Query, Session};
use crate::target::{self, Named, with_type};

pub(super) const FLAGS: &str = "
  -A, --all-namespaces       In all namespaces
  -w, --watch                After listing, watch for changes
      --watch-only           Watch for changes without listing first
      --output-watch-events  Say with each change what it is
      --sort-by=             Sort by a JSONPath
      --show-labels          Show all labels as the last column
      --show-kind            Show the kind before each name
  -L, --label-columns=,      Labels to show as columns
      --no-headers           Without the header line
      --ignore-not-found     An object that is not there is no error
      --raw=                 A path to ask the server for
      --subresource=         A subresource of the objects, such as status or scale
      --chunk-size=          Accepted; lists are read in parts of 500
      --server-print[=true]  Let the server make the table; without, there are names and ages only
";

/// What is read: one object, or the list of a namespace or the cluster.
struct Read {
    resource: Resource,
    path: String,
    /// Of a single object.
    name: Option<String>,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    if let Some(path) = args.get("raw") {
        let bytes = session.bytes(http::Method::GET, path, JSON, None).await?;
        return output::put(&String::from_utf8_lossy(&bytes));
    }
    let form = Output::of(args)?;
    let reads = reads(&session, args).await?;
    if args.on("watch") || args.on("watch-only") {
        let [read] = reads.as_slice() else { bail!("you may only specify a single resource type") };
        return watch::run(&session, args, read, &form).await;
    }
    match form {
        Output::Table { wide } => tables(&session, args, &reads, wide).await,
        Output::Objects(form) => objects(&session, args, &reads, &form).await,
    }
}

/// What the words ask for.
async fn reads(session: &Session, args: &Args) -> Result<Vec<Read>> {
    let suffix = args.get("subresource").map(|s| format!("/{s}")).unwrap_or_default();
    let mut reads = Vec::new();
    for manifest in manifest::read(args)? {
        let target = target::of_manifest(session, manifest).await?;
        let path = format!("{}{suffix}", target.path());
        reads.push(Read { resource: target.resource, path, name: Some(target.name) });
    }
    if !reads.is_empty() {
        return Ok(reads);
    }
    if args.words.is_empty() {
        eprintln!(
            "You must specify the type of resource to get. Use \"cox api-resources\" for a complete list of supported \
             resources.\n"
        );
        bail!(
            "Required resource not specified.\nUse \"cox explain <resource>\" for a detailed description of that \
             resource \
             (e.g. cox explain pods).\nSee 'cox get -h' for help and examples"
        );
    }
    let namespace = if args.on("all-namespaces") { "" } else { session.namespace.as_str() };
    for Named { resource, names } in target::named(session, &args.words).await? {
        if names.is_empty() {
            let path = resource.path(namespace);
            reads.push(Read { resource: resource.clone(), path, name: None });
        } else if args.has("selector") {
            bail!("name cannot be provided when a selector is specified");
        } else if namespace.is_empty() && resource.is_namespaced {
            bail!("a resource cannot be retrieved by name across all namespaces");
        }
        for name in names {
            let path = format!("{}{suffix}", resource.path_of(namespace, &name));
            reads.push(Read { resource: resource.clone(), path, name: Some(name) });
        }
    }
    Ok(reads)
}

impl Read {
    async fn fetch(&self, session: &Session, args: &Args, accept: &str, items: &str, query: Query) -> Result<Value> {
        match self.name {
            Some(_) => session.get_as(&query.on(&self.path), accept).await,
            None => {
                let list = session.list_as(&self.path, &merged(query, args), accept, items).await;
                list.map_err(|error| target::list_error(error, &self.resource, args))
            }
        }
    }
}

fn merged(query: Query, args: &Args) -> Query {
    query.with_some("labelSelector", args.get("selector")).with_some("fieldSelector", args.get("field-selector"))
}

/// Failures of single reads; the others are still shown.
#[derive(Default)]
struct Failures(Vec<anyhow::Error>);

impl Failures {
    fn add(&mut self, error: anyhow::Error, args: &Args) {
        if !(args.on("ignore-not-found") && has_reason(&error, "NotFound")) {
            self.0.push(error);
        }
    }

    fn end(mut self) -> Result<()> {
        let last = self.0.pop();
        for error in &self.0 {
            error::say(error);
        }
        match last {
            Some(error) if self.0.is_empty() => Err(error),
            Some(error) => {
                error::say(&error);
                Err(Exit(1).into())
            }
            None => Ok(()),
        }
    }
}

async fn tables(session: &Session, args: &Args, reads: &[Read], wide: bool) -> Result<()> {
    let mut failures = Failures::default();
    let several = reads.windows(2).any(|pair| pair[0].resource.full_name() != pair[1].resource.full_name());
    // Objects of one type that are named one by one are one table.
    let mut shown: Vec<(&Read, Value)> = Vec::new();
    let query = match args.get("sort-by") {
        Some(_) => Query::new().with("includeObject", "Object"),
        None => Query::new(),
    };
    for read in reads {
        let (accept, items) = match args.get("server-print") {
            Some("false") => (JSON, "items"),
            _ => (table::ACCEPT, "rows"),
        };
        match read.fetch(session, args, accept, items, query.clone()).await {
            Ok(answer) => match (as_table(answer), shown.last_mut()) {
                (mut table, Some((last, whole))) if last.resource.full_name() == read.resource.full_name() => {
                    let more = table.get_mut("rows").and_then(Value::as_array_mut).map(std::mem::take);
                    if let Some(rows) = whole.get_mut("rows").and_then(Value::as_array_mut) {
                        rows.extend(more.unwrap_or_default());
                    }
                }
                (table, _) => shown.push((read, table)),
            },
            Err(error) => failures.add(error, args),
        }
    }
    let mut printed = false;
    for (read, mut table) in shown {
        if let Some(path) = args.get("sort-by") {
            sort::rows(&mut table, path)?;
        }
        if table.get("rows").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            continue;
        }
        if printed && !args.on("no-headers") {
            output::put("\n")?;
        }
        printed = true;
        output::put(&table::text(&table, &style(args, read, wide, several)))?;
    }
    if !printed && failures.0.is_empty() && !args.on("ignore-not-found") {
        nothing(session, args, reads);
    }
    failures.end()
}

/// What is no Table is one of a name and an age.
fn as_table(answer: Value) -> Value {
    if answer.get("kind").and_then(Value::as_str) == Some("Table") {
        return answer;
    }
    let now = jiff::Timestamp::now().as_second();
    let row = |object: &Value| {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let age = api::printer::since(text("/metadata/creationTimestamp"), now);
        json!({"cells": [text("/metadata/name"), age], "object": object})
    };
    let rows: Vec<Value> = match answer.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().map(row).collect(),
        None => vec![row(&answer)],
    };
    json!({"columnDefinitions": [{"name": "Name"}, {"name": "Age"}], "rows": rows})
}

fn style(args: &Args, read: &Read, wide: bool, several: bool) -> Style {
    Style {
        wide,
        no_headers: args.on("no-headers"),
        with_namespace: args.on("all-namespaces") && read.resource.is_namespaced,
        show_labels: args.on("show-labels"),
        label_columns: args.all("label-columns").to_vec(),
        kind: (several || args.on("show-kind")).then(|| read.resource.kind_name()),
        events: args.on("output-watch-events"),
    }
}

fn nothing(session: &Session, args: &Args, reads: &[Read]) {
    let is_namespaced = reads.iter().any(|read| read.resource.is_namespaced);
    if is_namespaced && !args.on("all-namespaces") {
        eprintln!("No resources found in {} namespace.", session.namespace);
    } else {
        eprintln!("No resources found");
    }
}

async fn objects(session: &Session, args: &Args, reads: &[Read], form: &Form) -> Result<()> {
    let mut failures = Failures::default();
    let mut items = Vec::new();
    for read in reads {
        match (read.fetch(session, args, JSON, "items", Query::new()).await, &read.name) {
            (Ok(object), Some(_)) => items.push(object),
            (Ok(mut list), None) => {
                let found = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
                items.extend(found.unwrap_or_default().into_iter().map(|item| with_type(&read.resource, item)));
            }
            (Err(error), _) => failures.add(error, args),
        }
    }
    if let Some(path) = args.get("sort-by") {
        sort::objects(&mut items, path)?;
    }
    let is_single = reads.len() == 1 && reads.iter().all(|read| read.name.is_some());
    let nothing_at_all = items.is_empty() && (is_single || !failures.0.is_empty() || args.on("ignore-not-found"));
    if !nothing_at_all {
        let shown = match items.pop() {
            Some(only) if is_single => only,
            last => {
                items.extend(last);
                output::list_of(items)
            }
        };
        output::put(&form.text(&shown, args)?)?;
    }
    failures.end()
}
