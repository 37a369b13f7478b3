//! `get --watch`: the list, then each change as it comes.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Read, merged, sort, style};
use crate::error::{ApiError, Result};
use crate::flags::Args;
use crate::output::table::{self, Head, Widths};
use crate::output::{self, Form, Output};
use crate::session::{JSON, Query, Session};
use crate::target::with_type;
use crate::verbs::pods::Lines;

pub(super) async fn run(session: &Session, args: &Args, read: &Read, form: &Output) -> Result<()> {
    let (path, query) = match &read.name {
        Some(name) => {
            let parent = read.path.rsplit_once('/').map_or(read.path.as_str(), |(parent, _)| parent);
            (parent.to_owned(), Query::new().with("fieldSelector", format!("metadata.name={name}")))
        }
        None => (read.path.clone(), merged(Query::new(), args)),
    };
    let (accept, items) = match form {
        Output::Table { .. } => (table::ACCEPT, "rows"),
        Output::Objects(_) => (JSON, "items"),
    };
    if let Some(name) = &read.name {
        // That it is not there is an error also here.
        session.get(&read.path).await.with_context(|| format!("watch {name}")).map_err(without_context)?;
    }
    let mut list = session.list_as(&path, &query, accept, items).await?;
    if let Some(by) = args.get("sort-by") {
        sort::rows(&mut list, by)?;
    }
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut printer = Printer { args, read, form, head: Head::default(), widths: Widths::default(), has_header: false };
    if !args.on("watch-only") {
        printer.list(&list)?;
    } else if matches!(form, Output::Table { .. }) {
        printer.learn(&list);
    }
    let uri = query.with("watch", "true").with("resourceVersion", version).on(&path);
    let mut lines = Lines::of(session.send(http::Method::GET, &uri, accept, None).await?.into_body());
    while let Some(line) = lines.next().await? {
        let mut event: Value = serde_json::from_slice(&line).context("read a watch event")?;
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        match kind.as_str() {
            "ERROR" => return Err(ApiError::of(500, object.to_string().as_bytes()).into()),
            "BOOKMARK" => {}
            "ADDED" | "MODIFIED" | "DELETED" => printer.event(&kind, object)?,
            other => bail!("an unknown kind of watch event: {other:?}"),
        }
    }
    Ok(())
}

/// The error of the server itself.
fn without_context(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<ApiError>() {
        Ok(api) => api.into(),
        Err(error) => error,
    }
}

struct Printer<'a> {
    args: &'a Args,
    read: &'a Read,
    form: &'a Output,
    head: Head,
    widths: Widths,
    has_header: bool,
}

impl Printer<'_> {
    fn is_wide(&self) -> bool {
        matches!(self.form, Output::Table { wide: true })
    }

    fn learn(&mut self, table: &Value) {
        self.head = Head::of(table, &style(self.args, self.read, self.is_wide(), false));
    }

    fn list(&mut self, list: &Value) -> Result<()> {
        match self.form {
            Output::Table { .. } => {
                self.learn(list);
                self.rows("ADDED", list)
            }
            Output::Objects(form) => {
                for item in list.get("items").and_then(Value::as_array).into_iter().flatten() {
                    self.object(form, "ADDED", item.clone())?;
                }
                Ok(())
            }
        }
    }

    fn event(&mut self, kind: &str, object: Value) -> Result<()> {
        match self.form {
            Output::Table { .. } => self.rows(kind, &object),
            Output::Objects(form) => self.object(form, kind, object),
        }
    }

    fn rows(&mut self, event: &str, table: &Value) -> Result<()> {
        let style = style(self.args, self.read, self.is_wide(), false);
        let mut lines = Vec::new();
        let rows = table.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if !self.has_header && !style.no_headers && !rows.is_empty() {
            self.has_header = true;
            lines.push(self.head.line(&style));
        }
        lines.extend(rows.iter().map(|row| self.head.row(row, &style, Some(event))));
        self.widths.learn(&lines);
        let text: String = lines.iter().map(|cells| self.widths.line(cells)).collect();
        output::put(&text)
    }

    fn object(&self, form: &Form, event: &str, object: Value) -> Result<()> {
        let object = with_type(&self.read.resource, object);
        let shown = if self.args.on("output-watch-events") && matches!(form, Form::Json | Form::Yaml) {
            json!({"type": event, "object": object})
        } else {
            object
        };
        let text = form.text(&shown, self.args)?;
        output::put(&if matches!(form, Form::Yaml) { format!("---\n{text}") } else { text })
    }
}
