//! `explain`: what a kind's fields mean, from the server's OpenAPI v3.

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::pods::text;
use crate::Resource;
use crate::error::{Plain, Result};
use crate::flags::Args;
use crate::output;
use crate::session::Session;

pub(super) const FLAGS: &str = "
      --recursive     All fields, without what they mean
      --api-version=  Of this version
  -o, --output=       plaintext
";

/// Lines are as long as this, indentation included.
const WIDTH: usize = 80;
/// No kind is deeper but those that hold themselves.
const DEEPEST: usize = 20;

pub(super) async fn run(args: &Args) -> Result<()> {
    let [word] = args.words.as_slice() else {
        if !args.words.is_empty() {
            bail!("We accept only this format: explain RESOURCE");
        }
        bail!(
            "You must specify the type of resource to explain. Use \"cox api-resources\" for a complete list of \
             supported resources."
        );
    };
    let session = Session::open(args).await?;
    let (resource, fields) = subject(&session, args, word).await?;
    let root = if resource.group.is_empty() { "api" } else { "apis" };
    let index = session.get("/openapi/v3").await?;
    let key = format!("{root}/{}", resource.api_version());
    let path = index.get("paths").and_then(|paths| paths.get(&key)).map(|entry| text(entry, "/serverRelativeURL"));
    let document = session.get(path.with_context(|| format!("the server has no OpenAPI of {key}"))?).await?;
    let schemas = Schemas(&document);
    let mut schema = schemas.of_kind(&resource.group, &resource.version, &resource.kind)?;
    let mut head = String::new();
    if !resource.group.is_empty() {
        head.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    head.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version));
    let mut described = schema;
    for (at, name) in fields.iter().enumerate() {
        let field = schemas.properties(schema).and_then(|properties| properties.get(*name));
        let Some(field) = field else {
            output::put(&head)?;
            bail!("field {name:?} does not exist");
        };
        if at + 1 == fields.len() {
            head.push_str(&format!("FIELD: {name} <{}>\n", schemas.type_name(field)));
            let values = enumeration(field);
            head.push_str(&if values.is_empty() { "\n".to_owned() } else { format!("ENUM:\n{values}\n") });
            head.push('\n');
        }
        described = field;
        schema = schemas.inner(field);
    }
    let mut out = format!("{head}DESCRIPTION:\n{}    \n", schemas.description(described, schema));
    out.push_str(&fields_text(&schemas, schema, args.on("recursive")));
    out.push('\n');
    output::put(&out)
}

/// The resource and the fields that the word names.
async fn subject<'a>(session: &'a Session, args: &Args, word: &'a str) -> Result<(&'a Resource, Vec<&'a str>)> {
    let mut parts = word.split('.');
    let first = parts.next().unwrap_or_default();
    let mut fields: Vec<&str> = parts.collect();
    let discovery = session.discovery().await?;
    // `deployments.apps.spec`: as much of the word as names a resource.
    let mut resource = discovery.find(first).map_err(|error| Plain(error.to_string()))?;
    for taken in (1..=fields.len()).rev() {
        if let Ok(found) = discovery.find(&format!("{first}.{}", fields[..taken].join(".")))
            && found.group.starts_with(&fields[..taken].join("."))
        {
            resource = found;
            fields.drain(..taken);
            break;
        }
    }
    if let Some(wanted) = args.get("api-version") {
        let of_version = discovery.resources.iter().find(|r| r.kind == resource.kind && r.api_version() == wanted);
        resource =
            of_version.ok_or_else(|| anyhow!("couldn't find resource for {wanted:?}, Kind={}", resource.kind))?;
    }
    Ok((resource, fields))
}

fn enum_values(field: &Value) -> impl Iterator<Item = &str> {
    field.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The list of a schema's fields.
fn fields_text(schemas: &Schemas<'_>, schema: &Value, is_recursive: bool) -> String {
    let mut out = String::new();
    if let Some(properties) = schemas.properties(schema).filter(|properties| !properties.is_empty()) {
        out.push_str("FIELDS:\n");
        match is_recursive {
            true => schemas.names(schema, 1, &mut out, &mut Vec::new()),
            false => {
                for (name, field) in properties {
                    out.push_str(&format!("  {name}\t<{}>{}\n", schemas.type_name(field), required(schema, name)));
                    let values: Vec<&str> = enum_values(field).collect();
                    if !values.is_empty() {
                        out.push_str(&format!("  enum: {}\n", values.join(", ")));
                    }
                    let meaning = if text(field, "/description").is_empty() { schemas.inner(field) } else { field };
                    out.push_str(&schemas.description(field, meaning));
                    out.push('\n');
                }
            }
        }
    }
    out
}

fn enumeration(field: &Value) -> String {
    enum_values(field).map(|value| format!("    {value}\n")).collect()
}

fn required(schema: &Value, name: &str) -> &'static str {
    let mut all = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if all.any(|required| required == name) { " -required-" } else { "" }
}

/// The schemas of one document.
struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    fn of_kind(&self, group: &str, version: &str, kind: &str) -> Result<&'a Value> {
        let all = self.0.pointer("/components/schemas").and_then(Value::as_object);
        let is_it = |schema: &&Value| {
            let mut kinds =
                schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array).into_iter().flatten();
            kinds.any(|gvk| {
                text(gvk, "/group") == group && text(gvk, "/version") == version && text(gvk, "/kind") == kind
            })
        };
        all.into_iter()
            .flat_map(|map| map.values())
            .find(is_it)
            .with_context(|| format!("GVR ({group}/{version}, {kind}) not found in OpenAPI schema"))
    }

    /// The schema that a reference leads to.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        let name = reference.and_then(|reference| reference.rsplit('/').next());
        let all = self.0.pointer("/components/schemas");
        name.and_then(|name| all?.get(name)).unwrap_or(schema)
    }

    /// The schema whose fields a field has: that of its items where it is a list or a map.
    fn inner(&self, field: &'a Value) -> &'a Value {
        let mut schema = self.resolve(field);
        while let Some(next) =
            schema.get("items").or_else(|| schema.get("additionalProperties").filter(|p| p.is_object()))
        {
            schema = self.resolve(next);
        }
        schema
    }

    fn properties(&self, schema: &'a Value) -> Option<&'a serde_json::Map<String, Value>> {
        self.resolve(schema).get("properties").and_then(Value::as_object)
    }

    /// `string`, `[]Container`, `map[string]string`
    fn type_name(&self, field: &'a Value) -> String {
        let reference = field.get("$ref").or_else(|| field.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        let resolved = self.resolve(field);
        if let Some(items) = resolved.get("items") {
            return format!("[]{}", self.type_name(items));
        }
        if let Some(values) = resolved.get("additionalProperties").filter(|values| values.is_object()) {
            return format!("map[string]{}", self.type_name(values));
        }
        let is_scalar = matches!(resolved.get("type").and_then(Value::as_str), Some(ty) if ty != "object");
        if let Some(reference) = reference.filter(|_| !is_scalar) {
            return reference.rsplit(['.', '/']).next().unwrap_or_default().to_owned();
        }
        match resolved.get("type").and_then(Value::as_str) {
            Some("object") | None => "Object".to_owned(),
            Some(other) => other.to_owned(),
        }
    }

    /// What a field means, and what its type is where both are said.
    fn description(&self, field: &'a Value, schema: &'a Value) -> String {
        let own = text(field, "/description");
        let of_type = text(schema, "/description");
        let mut parts: Vec<&str> = Vec::new();
        for part in [own, of_type] {
            if !part.is_empty() && !parts.contains(&part) {
                parts.push(part);
            }
        }
        if parts.is_empty() {
            parts.push("<no description>");
        }
        parts.into_iter().map(|part| wrapped(part, 4)).collect()
    }

    /// All fields below a schema.
    fn names(&self, schema: &'a Value, depth: usize, out: &mut String, above: &mut Vec<*const Value>) {
        let resolved = self.resolve(schema);
        if above.contains(&std::ptr::from_ref(resolved)) || depth > DEEPEST {
            return;
        }
        above.push(resolved);
        for (name, field) in self.properties(resolved).into_iter().flatten() {
            out.push_str(&"  ".repeat(depth));
            out.push_str(&format!("{name}\t<{}>{}\n", self.type_name(field), required(resolved, name)));
            let values: Vec<&str> = enum_values(field).collect();
            if !values.is_empty() {
                out.push_str(&format!("{}enum: {}\n", "  ".repeat(depth), values.join(", ")));
            }
            self.names(self.inner(field), depth + 1, out, above);
        }
        above.pop();
    }
}

/// Words in lines that are indented; lines of the text stay lines.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    for paragraph in text.split('\n') {
        // Spaces of the text stay, but where a line is broken.
        let (mut line, mut width, mut spaces) = (String::new(), 0, String::new());
        let mut rest = paragraph;
        while !rest.is_empty() {
            let blank = rest.len() - rest.trim_start().len();
            spaces.push_str(&rest[..blank]);
            rest = &rest[blank..];
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            let length = word.chars().count();
            // A word that fits into no line begins a new one, too.
            if width + spaces.chars().count() + length.min(WIDTH - indent - 1) > WIDTH - indent && !word.is_empty() {
                out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
                (line, width) = (String::new(), 0);
                spaces.clear();
            }
            width += spaces.chars().count() + length;
            line.push_str(&std::mem::take(&mut spaces));
            line.push_str(word);
        }
        out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
    }
    out
}
