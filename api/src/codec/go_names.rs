//! Names that Go's decoder puts into its messages and that no schema has: named types of scalars and lists, and structs
//! that are embedded in others. From `data/go-names.txt`: a definition a line, its fields as `field=type<embedded`.

static TEXT: &str = include_str!("../../data/go-names.txt");

/// What Go calls the type of a field, and the embedded structs that the field stands in; empty where a schema tells it.
pub(super) fn of_field(definition: &str, field: &str) -> (&'static str, &'static str) {
    let line = TEXT.lines().find(|line| line.split_once(' ').is_some_and(|(name, _)| name == definition));
    let named = |word: &&'static str| word.strip_prefix(field).is_some_and(|rest| rest.starts_with(['=', '<']));
    let Some(word) = line.and_then(|line| line.split(' ').find(named)) else { return ("", "") };
    let (rest, embedded) = word.split_once('<').unwrap_or((word, ""));
    (rest.split_once('=').map_or("", |(_, ty)| ty), embedded)
}
