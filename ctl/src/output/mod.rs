//! What a verb prints: objects in the form that -o asks for, and lines about what was done.

pub(crate) mod columns;
pub(crate) mod go_template;
pub(crate) mod jsonpath;
mod kyaml;
pub(crate) mod table;
pub(crate) mod tabs;

use std::io::Write as _;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

use crate::error::Result;
use crate::flags::Args;
use crate::target::Target;

/// Flags of verbs that can print objects.
pub(crate) const FLAGS: &str = "
  -o, --output=                   json|yaml|kyaml|name|jsonpath=…|go-template=…|custom-columns=…|wide
      --template=                 The template of -o go-template or jsonpath, or its file
      --show-managed-fields       Keep metadata.managedFields in JSON and YAML
      --allow-missing-template-keys  Ignore missing keys in templates (default true)
";

/// Writes to standard output.
pub(crate) fn put(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard output.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    put(&format!("{}\n", text.as_ref()))
}

/// A form for objects; tables are made by the server and printed by [`table`].
#[derive(Clone, Debug)]
pub(crate) enum Form {
    Json,
    Yaml,
    Kyaml,
    Name,
    JsonPath(jsonpath::Template, bool),
    /// Each value that the template leads to, as JSON.
    JsonPathAsJson(jsonpath::Template),
    GoTemplate(go_template::Template, bool),
    Columns(columns::Columns),
}

/// What -o says.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Nothing, or `wide`.
    Table {
        wide: bool,
    },
    Objects(Form),
}

/// The forms that -o may name.
const FORMS: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,\
                     jsonpath-file,kyaml,name,template,templatefile,wide,yaml";

impl Output {
    pub(crate) fn of(args: &Args) -> Result<Self> {
        let template = args.get("template").filter(|text| !text.is_empty());
        let text = match args.get("output").filter(|text| !text.is_empty()) {
            Some(text) => text,
            // A template alone is one of Go's.
            None if template.is_some() => "go-template",
            None => return Ok(Self::Table { wide: false }),
        };
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let template = || rest.or(template).context("template format specified but no template given");
        let file = || {
            let path = template()?;
            std::fs::read_to_string(path).with_context(|| format!("error reading --template {path}, open {path}"))
        };
        let columns = || rest.or(args.get("template")).context(NO_COLUMNS);
        let missing_ok = args.on_unless_off("allow-missing-template-keys");
        let go = |text: &str| go_template::Template::parse(text).map(|template| Form::GoTemplate(template, missing_ok));
        let path = |text: &str| {
            jsonpath::Template::parse(text).map_err(|error| anyhow!("error parsing jsonpath {text}, {error:#}"))
        };
        Ok(Self::Objects(match name {
            "wide" => return Ok(Self::Table { wide: true }),
            "json" => Form::Json,
            "yaml" => Form::Yaml,
            "kyaml" => Form::Kyaml,
            "name" => Form::Name,
            "jsonpath" => Form::JsonPath(path(template()?)?, missing_ok),
            "jsonpath-as-json" => Form::JsonPathAsJson(path(template()?)?),
            "jsonpath-file" => Form::JsonPath(path(&file()?)?, missing_ok),
            "go-template" | "template" => go(template()?)?,
            "go-template-file" | "templatefile" => go(&file()?)?,
            "custom-columns" => Form::Columns(columns::Columns::parse(columns()?)?),
            "custom-columns-file" => Form::Columns(columns::Columns::parse_file(&file()?)?),
            _ => {
                bail!("unable to match a printer suitable for the output format {text:?}, allowed formats are: {FORMS}")
            }
        }))
    }
}

const NO_COLUMNS: &str = "custom-columns format specified but no custom columns given";

/// JSON with four spaces, and the characters that Go escapes.
pub(crate) fn to_json(value: &Value) -> Result<String> {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).context("write JSON")?;
    let text = String::from_utf8(bytes).context("write JSON")?;
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n")
}

/// The names of an object, or of each item of a list: `deployment.apps/web`.
fn names(object: &Value) -> String {
    if let Some(items) = object.get("items").and_then(Value::as_array) {
        return items.iter().map(names).collect();
    }
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind").to_lowercase();
    match text("/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}\n", text("/metadata/name")),
        None => format!("{kind}/{}\n", text("/metadata/name")),
    }
}

/// Takes `metadata.managedFields` out, of list items too.
pub(crate) fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        without_managed_fields(item);
    }
}

impl Form {
    /// The text of an object or list.
    pub(crate) fn text(&self, object: &Value, args: &Args) -> Result<String> {
        let shown = |object: &Value| {
            let mut object = object.clone();
            if !args.on("show-managed-fields") {
                without_managed_fields(&mut object);
            }
            object
        };
        match self {
            Self::Json => to_json(&shown(object)),
            Self::Yaml => Ok(api::yaml::to_string(&shown(object))),
            Self::Kyaml => Ok(kyaml::text(&shown(object))),
            Self::Name => Ok(names(object)),
            Self::JsonPathAsJson(template) => {
                let values = template.values(object).into_iter().cloned().collect();
                to_json(&Value::Array(values))
            }
            Self::GoTemplate(template, missing_ok) => template.expand(object, *missing_ok),
            Self::JsonPath(template, missing_ok) => template.expand(object, *missing_ok),
            Self::Columns(columns) => columns.text(object, !args.on("no-headers")),
        }
    }
}

/// How a verb that changes objects tells of it: a line `pod/x labeled`, or the objects in the form of -o.
pub(crate) struct Told<'a> {
    args: &'a Args,
    form: Option<Form>,
    suffix: &'static str,
    objects: usize,
}

/// Whether and where a dry run is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DryRun {
    No,
    Client,
    Server,
}

/// Flags of verbs that can only try.
pub(crate) const DRY_RUN: &str = "
      --dry-run[=unchanged]  none, client (print what would be sent) or server (send without storing)
";

impl DryRun {
    pub(crate) fn of(args: &Args) -> Result<Self> {
        match args.get("dry-run") {
            None | Some("none" | "false") => Ok(Self::No),
            Some("client") => Ok(Self::Client),
            Some("server") => Ok(Self::Server),
            Some("unchanged" | "true") => {
                eprintln!("W: --dry-run is deprecated and can be replaced with --dry-run=client.");
                Ok(Self::Client)
            }
            Some(other) => bail!("Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."),
        }
    }

    /// The query parameter of a request of such a run.
    pub(crate) fn query(self, query: crate::session::Query) -> crate::session::Query {
        if self == Self::Server { query.with("dryRun", "All") } else { query }
    }
}

impl<'a> Told<'a> {
    pub(crate) fn new(args: &'a Args) -> Result<Self> {
        let form = match Output::of(args)? {
            Output::Table { .. } => None,
            Output::Objects(form) => Some(form),
        };
        let suffix = match DryRun::of(args)? {
            DryRun::No => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        };
        Ok(Self { args, form, suffix, objects: 0 })
    }

    /// Says that something was done to a target whose state is now `object`.
    pub(crate) fn did(&mut self, target: &Target, what: &str, object: &Value) -> Result<()> {
        match &self.form {
            None => line(format!("{} {what}{}", target.shown(), self.suffix)),
            Some(form) => {
                let object = crate::target::with_type(&target.resource, object.clone());
                let text = form.text(&object, self.args)?;
                if matches!(form, Form::Yaml) && self.objects > 0 {
                    put("---\n")?;
                }
                self.objects += 1;
                put(&text)
            }
        }
    }

    pub(crate) fn has_form(&self) -> bool {
        self.form.is_some()
    }
}

/// Objects of several reads as one list.
pub(crate) fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn json_is_written_as_go_writes_it() {
        let text = to_json(&json!({"b": ["<a&b>"], "a": {}})).unwrap();
        assert_eq!(text, "{\n    \"a\": {},\n    \"b\": [\n        \"\\u003ca\\u0026b\\u003e\"\n    ]\n}\n");
    }

    #[test]
    fn names_of_objects_and_lists() {
        let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(names(&list_of(vec![web, pod])), "deployment.apps/web\npod/p\n");
    }
}
