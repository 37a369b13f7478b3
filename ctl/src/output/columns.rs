//! `-o custom-columns=NAME:.path,…`: a table of one's own.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::jsonpath::{Template, plain};
use super::tabs;
use crate::error::Result;

/// Headers and what stands under them.
#[derive(Clone, Debug)]
pub(crate) struct Columns(Vec<(String, Template)>);

impl Columns {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            bail!("custom-columns format specified but no custom columns given");
        }
        let mut columns = Vec::new();
        for part in text.split(',') {
            let wrong = || format!("unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>");
            let (name, path) = part.split_once(':').with_context(wrong)?;
            columns.push((name.to_owned(), Template::parse(&relaxed(path)?)?));
        }
        Ok(Self(columns))
    }

    /// A file whose first line has the headers and whose second line has the paths.
    pub(crate) fn parse_file(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let mut words = || lines.next().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let (names, paths) = (words().unwrap_or_default(), words().unwrap_or_default());
        if names.is_empty() || names.len() != paths.len() {
            bail!("number of headers ({}) and field specifications ({}) don't match", names.len(), paths.len());
        }
        let column = |(name, path): (String, String)| Ok((name, Template::parse(&relaxed(&path)?)?));
        Ok(Self(names.into_iter().zip(paths).map(column).collect::<Result<_>>()?))
    }

    pub(crate) fn text(&self, object: &Value, with_headers: bool) -> Result<String> {
        let mut text = String::new();
        if with_headers {
            text.push_str(&self.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("\t"));
            text.push('\n');
        }
        let one = std::slice::from_ref(object);
        for item in object.get("items").and_then(Value::as_array).map_or(one, Vec::as_slice) {
            let cells: Vec<String> = self.0.iter().map(|(_, path)| cell(path, item)).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        Ok(tabs::TABLE.align(&text))
    }
}

fn cell(path: &Template, object: &Value) -> String {
    let found = path.values(object);
    if found.is_empty() {
        return "<none>".to_owned();
    }
    found
        .iter()
        .map(|value| if value.is_null() { "<none>".to_owned() } else { plain(value) })
        .collect::<Vec<_>>()
        .join(",")
}

/// `x`, `.x` and `{.x}` are the same path.
pub(crate) fn relaxed(path: &str) -> Result<String> {
    let inner = match path.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').with_context(|| format!("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or '{{.name1.name2}}': {path}"))?,
        None => path,
    };
    Ok(if inner.starts_with('.') || inner.starts_with('[') || inner.is_empty() {
        format!("{{{inner}}}")
    } else {
        format!("{{.{inner}}}")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn columns() {
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "spec": {"c": [{"image": "x"}, {"image": "y"}], "n": 3}},
            {"metadata": {"name": "b"}},
        ]});
        let columns = Columns::parse("NAME:.metadata.name,IMAGES:spec.c[*].image,N:{.spec.n}").unwrap();
        let expected = "NAME   IMAGES   N\na      x,y      3\nb      <none>   <none>\n";
        assert_eq!(columns.text(&list, true).unwrap(), expected);
        assert_eq!(columns.text(&list["items"][1], false).unwrap(), "b     <none>   <none>\n");
        assert!(Columns::parse("NAME").is_err());
    }
}
