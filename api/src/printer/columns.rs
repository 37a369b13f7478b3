//! Columns from `data/columns.txt`: a kind's line at the margin (`Kind.group`), its columns below, with one space, as
//! name, type, format, priority and description, separated by tabs.

use crate::schema::Text;
use crate::table::{Cell, Column};

static TEXT: &str = include_str!("../../data/columns.txt");

/// `metadata.name` and `metadata.creationTimestamp` are described alike in every kind.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

fn description(text: &'static str) -> Text {
    match text {
        "$name" => Text::Borrowed(NAME),
        "$created" => Text::Borrowed(CREATED),
        text if text.contains('\\') => Text::Owned(text.replace("\\n", "\n").replace("\\\\", "\\")),
        text => Text::Borrowed(text),
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
    let is_kind = |line: &&str| match line.split_once('.') {
        Some((of, in_group)) => of == kind && in_group == group,
        None => *line == kind && group.is_empty(),
    };
    let mut lines = TEXT.lines();
    lines.find(is_kind)?;
    Some(lines.take_while(|line| line.starts_with(' ')).map(column).collect())
}

/// The columns of a kind without own ones: name and creation time.
pub fn simple() -> Vec<Column> {
    let column = |name, ty, format, description, cell| Column {
        name: Text::Borrowed(name),
        ty: Text::Borrowed(ty),
        format: Text::Borrowed(format),
        description: Text::Borrowed(description),
        priority: 0,
        cell,
    };
    vec![column("Name", "string", "name", NAME, Cell::Name), column("Created At", "date", "", CREATED, Cell::CreatedAt)]
}
