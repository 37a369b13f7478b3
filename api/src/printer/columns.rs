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

/// A description. `$name` and `$created`, which most kinds share, stand in the first lines.
fn description(text: &'static str) -> Text {
    let text = match text.strip_prefix('$') {
        Some(shared) => {
            TEXT.lines().filter_map(|line| line.strip_prefix('$')?.strip_prefix(shared)).next().unwrap_or("")
        }
        None => text,
    };
    let text = text.trim_start_matches('\t');
    if text.contains('\\') {
        return Text::Owned(text.replace("\\n", "\n").replace("\\\\", "\\"));
    }
    Text::Borrowed(text)
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
