//! Columns from `data/columns.txt`: descriptions that many share, then for each kind its line at the margin
//! (`Kind.group`), its columns below, with one space, as name, type, format, priority and description, by tabs.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::schema::Text;
use crate::table::{Cell, Column};

static TEXT: &str = include_str!("../../data/columns.txt");

/// The lines of each kind's columns, by group and kind.
static KINDS: LazyLock<HashMap<(&'static str, &'static str), &'static str>> = LazyLock::new(|| {
    let mut kinds = HashMap::new();
    let mut rest = TEXT;
    while let Some((kind, after)) = rest.split_once('\n') {
        let end = after.lines().take_while(|line| line.starts_with(' ')).map(|line| line.len() + 1).sum::<usize>();
        let (columns, others) = after.split_at(end.min(after.len()));
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        kinds.insert((group, kind), columns);
        rest = others;
    }
    kinds
});

/// Descriptions that most kinds share, by the name under which they stand in the first lines (`$name`, `$created`).
static SHARED: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let shared = TEXT.lines().take_while(|line| line.starts_with('$')).filter_map(|line| line.split_once('\t'));
    shared.map(|(name, text)| (name, unescaped(text))).collect()
});

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\\\", "\\")
}

fn description(text: &'static str) -> Text {
    match SHARED.get(text) {
        Some(shared) => Text::Borrowed(shared),
        None if text.contains('\\') => Text::Owned(unescaped(text)),
        None => Text::Borrowed(text),
    }
}

fn column(line: &'static str) -> Column {
    let mut fields = line.trim_start().split('\t');
    let mut field = || fields.next().unwrap_or_default();
    Column {
        name: Text::Borrowed(field()),
        ty: Text::Borrowed(field()),
        format: Text::Borrowed(field()),
        priority: field().parse().unwrap_or(0),
        description: description(field()),
        cell: Cell::Computed,
    }
}

/// The columns of a built-in kind; `None` when it has none of its own.
pub fn of_kind(group: &str, kind: &str) -> Option<Vec<Column>> {
    let lines = KINDS.get(&(group, kind))?;
    Some(lines.lines().map(column).collect())
}

/// The columns of a kind without own ones: name and creation time.
pub fn simple() -> Vec<Column> {
    let column = |name, ty, format, text, cell| Column {
        name: Text::Borrowed(name),
        ty: Text::Borrowed(ty),
        format: Text::Borrowed(format),
        description: description(text),
        priority: 0,
        cell,
    };
    vec![
        column("Name", "string", "name", "$name", Cell::Name),
        column("Created At", "date", "", "$created", Cell::CreatedAt),
    ]
}
