//! Tables as the server makes them (`meta.k8s.io/v1 Table`), printed as kubectl prints them.

use serde_json::Value;

use super::tabs;

/// What is asked of the server to get a Table.
pub(crate) const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// How a table is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Style {
    pub wide: bool,
    pub no_headers: bool,
    pub with_namespace: bool,
    pub show_labels: bool,
    /// Labels that are columns of their own.
    pub label_columns: Vec<String>,
    /// Names are shown with their kind before them: `service/web`.
    pub kind: Option<String>,
    /// A column EVENT stands first.
    pub events: bool,
}

/// The columns that are shown of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    shown: Vec<usize>,
    names: Vec<String>,
}

/// Widths of the columns in a stream of rows: they may only grow.
#[derive(Debug, Default)]
pub(crate) struct Widths(Vec<usize>);

impl Head {
    pub(crate) fn of(table: &Value, style: &Style) -> Self {
        let mut head = Self::default();
        let definitions = table.get("columnDefinitions").and_then(Value::as_array);
        for (at, column) in definitions.into_iter().flatten().enumerate() {
            if style.wide || column.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0 {
                let name = column.get("name").and_then(Value::as_str).unwrap_or_default();
                head.shown.push(at);
                head.names.push(name.to_uppercase());
            }
        }
        head
    }

    /// The header, cells divided by tabs.
    pub(crate) fn line(&self, style: &Style) -> Vec<String> {
        let mut cells = Vec::new();
        if style.events {
            cells.push(format!("{:<8}", "EVENT"));
        }
        if style.with_namespace {
            cells.push("NAMESPACE".to_owned());
        }
        cells.extend(self.names.iter().cloned());
        let short = |label: &String| label.rsplit('/').next().unwrap_or_default().to_uppercase();
        cells.extend(style.label_columns.iter().map(short));
        if style.show_labels {
            cells.push("LABELS".to_owned());
        }
        cells
    }

    /// The cells of a row.
    pub(crate) fn row(&self, row: &Value, style: &Style, event: Option<&str>) -> Vec<String> {
        let mut cells = Vec::new();
        if style.events {
            // As wide as the longest of them: they come one by one.
            cells.push(format!("{:<8}", event.unwrap_or_default()));
        }
        let metadata = row.pointer("/object/metadata");
        if style.with_namespace {
            let namespace = metadata.and_then(|m| m.get("namespace")).and_then(Value::as_str);
            cells.push(namespace.unwrap_or_default().to_owned());
        }
        for (position, at) in self.shown.iter().enumerate() {
            let text = row.get("cells").and_then(|cells| cells.get(at)).map(cell).unwrap_or_default();
            cells.push(match &style.kind {
                Some(kind) if position == 0 => format!("{kind}/{text}"),
                _ => text,
            });
        }
        let labels = metadata.and_then(|m| m.get("labels")).and_then(Value::as_object);
        for label in &style.label_columns {
            let value = labels.and_then(|l| l.get(label)).and_then(Value::as_str);
            cells.push(value.unwrap_or("<none>").to_owned());
        }
        if style.show_labels {
            cells.push(labels_text(labels));
        }
        cells
    }
}

fn labels_text(labels: Option<&api::Object>) -> String {
    let Some(labels) = labels.filter(|labels| !labels.is_empty()) else { return "<none>".to_owned() };
    let pairs = labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

/// One cell; of several lines the first is shown.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.split_once(['\n', '\r', '\u{c}', '\u{b}']) {
        Some((first, _)) => format!("{first}..."),
        None => text.replace('\t', "\\t"),
    }
}

/// A whole table.
pub(crate) fn text(table: &Value, style: &Style) -> String {
    let head = Head::of(table, style);
    let mut lines = String::new();
    let mut add = |cells: Vec<String>| {
        lines.push_str(&cells.join("\t"));
        lines.push('\n');
    };
    if !style.no_headers {
        add(head.line(style));
    }
    for row in table.get("rows").and_then(Value::as_array).into_iter().flatten() {
        add(head.row(row, style, None));
    }
    tabs::TABLE.align(&lines)
}

impl Widths {
    /// A line, aligned with those before it.
    pub(crate) fn line(&mut self, cells: &[String]) -> String {
        let mut text = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let length = cell.chars().count();
            if self.0.len() <= at {
                self.0.push(0);
            }
            text.push_str(cell);
            if at + 1 < cells.len() {
                self.0[at] = self.0[at].max(length + tabs::TABLE.padding).max(tabs::TABLE.least);
                text.extend(std::iter::repeat_n(' ', self.0[at] - length));
            }
        }
        text.push('\n');
        text
    }

    /// Makes room for lines that will be printed together.
    pub(crate) fn learn(&mut self, lines: &[Vec<String>]) {
        for line in lines {
            self.line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_shown_as_kubectl_shows_them() {
        let table = json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Age", "priority": 0}, {"name": "IP", "priority": 1},
            ],
            "rows": [
                {"cells": ["web", "5s", "1.2.3.4"], "object": {"metadata": {"namespace": "n", "labels": {"a/b": "c"}}}},
                {"cells": ["longer-name", "10m\nx", null], "object": {"metadata": {"namespace": "n"}}},
            ],
        });
        let plain = Style::default();
        assert_eq!(text(&table, &plain), "NAME          AGE\nweb           5s\nlonger-name   10m...\n");
        let all = Style {
            wide: true,
            with_namespace: true,
            show_labels: true,
            label_columns: vec!["a/b".to_owned()],
            kind: Some("pod".to_owned()),
            ..Style::default()
        };
        let expected = "\
NAMESPACE   NAME              AGE      IP        B        LABELS
n           pod/web           5s       1.2.3.4   c        a/b=c
n           pod/longer-name   10m...   <none>    <none>   <none>
";
        assert_eq!(text(&table, &all), expected);
    }
}
