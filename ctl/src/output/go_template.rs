//! Go's text templates, as far as templates over JSON can use them: actions, pipelines, variables, if, range, with,
//! define, template, break, continue, and the functions that Go and kubectl offer.

mod exec;
mod format;
mod functions;
mod parse;
mod scan;

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::Value;

use crate::error::Result;

/// A parsed template with the templates that it defines.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    body: Vec<Node>,
    defined: BTreeMap<String, Vec<Node>>,
}

/// What stands outside and between braces.
#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Template(String, Option<Pipe>),
    Break,
    Continue,
}

/// `$a, $b := command | command`
#[derive(Clone, Debug)]
struct Pipe {
    variables: Vec<String>,
    /// `=` instead of `:=`: a variable that is there gets another value.
    assigns: bool,
    commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
struct Operand {
    kind: Kind,
    /// As it stands in the template, and where: errors name it.
    text: String,
    line: usize,
    column: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    Dot,
    Nil,
    Constant(Data),
    /// `.a.b`
    Field(Vec<String>),
    /// `$a.b`
    Variable(String, Vec<String>),
    Function(String),
    /// `(pipeline).a.b`
    Parenthesis(Box<Pipe>, Vec<String>),
}

/// What a template works with. Numbers of the object are floats, as Go reads JSON; those of the template may be
/// integers.
#[derive(Clone, Debug, PartialEq)]
enum Data {
    /// What a map does not have; written `<no value>`.
    Missing,
    Integer(i64),
    Json(Value),
}

impl Data {
    fn text(text: impl Into<String>) -> Self {
        Self::Json(Value::String(text.into()))
    }

    fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Json(Value::Null) => false,
            Self::Integer(number) => *number != 0,
            Self::Json(Value::Bool(on)) => *on,
            Self::Json(Value::Number(number)) => number.as_f64() != Some(0.0),
            Self::Json(Value::String(text)) => !text.is_empty(),
            Self::Json(Value::Array(items)) => !items.is_empty(),
            Self::Json(Value::Object(map)) => !map.is_empty(),
        }
    }

    /// Go's name of the type.
    fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Json(Value::Null) => "<nil>",
            Self::Integer(_) => "int",
            Self::Json(Value::Bool(_)) => "bool",
            Self::Json(Value::Number(_)) => "float64",
            Self::Json(Value::String(_)) => "string",
            Self::Json(Value::Array(_)) => "[]interface {}",
            Self::Json(Value::Object(_)) => "map[string]interface {}",
        }
    }
}

impl Template {
    /// # Errors
    /// What is wrong with the text, as Go says it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parsed = parse::template(text);
        let (body, defined) = parsed.map_err(|why| anyhow!("error parsing template {text}, template: output:{why}"))?;
        Ok(Self { text: text.to_owned(), body, defined })
    }

    /// The text for an object.
    ///
    /// # Errors
    /// A function was called with what it does not take, or a member is missing and that is not allowed.
    pub(crate) fn expand(&self, object: &Value, missing_ok: bool) -> Result<String> {
        let run = exec::run(self, object, missing_ok);
        run.map_err(|why| anyhow!("error executing template {:?}: template: output:{why}", self.text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn expand(template: &str) -> Result<String> {
        let object = json!({
            "name": "web", "n": 3, "big": 1_234_567, "half": 0.5, "on": true, "none": null, "empty": [],
            "labels": {"b": "2", "a": "1", "x.y/z": "q"},
            "items": [{"k": "one", "v": 1}, {"k": "two"}],
        });
        Template::parse(template)?.expand(&object, true)
    }

    /// Each expected text is Go's.
    #[test]
    fn templates() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.name}} {{.n}} {{.big}} {{.half}} {{.on}}", "web 3 1.234567e+06 0.5 true"),
            ("{{.nope}} {{.nope.deeper}} {{.none}}", "<no value> <no value> <no value>"),
            ("{{.labels}} {{.items}}", "map[a:1 b:2 x.y/z:q] [map[k:one v:1] map[k:two]]"),
            ("{{index .labels \"x.y/z\"}}{{index .items 1 \"k\"}}{{(index .items 0).k}}", "qtwoone"),
            ("a {{- .name -}} b{{/* nothing */}}", "awebb"),
            ("{{if .nope}}x{{else if eq .name \"web\"}}y{{else}}z{{end}}", "y"),
            ("{{range .items}}{{.k}},{{end}}{{range .empty}}x{{else}}none{{end}}", "one,two,none"),
            ("{{range $i, $e := .items}}{{$i}}{{$e.k}}{{end}}", "0one1two"),
            ("{{range $k, $v := .labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;x.y/z=q;"),
            ("{{range .items}}{{if eq .k \"two\"}}{{break}}{{end}}{{.k}}{{end}}", "one"),
            ("{{range .items}}{{if eq .k \"one\"}}{{continue}}{{end}}{{.k}}{{end}}", "two"),
            ("{{with .labels}}{{.a}}{{$.name}}{{end}}{{with .nope}}x{{else}}y{{end}}", "1weby"),
            ("{{$a := 1}}{{$a}}{{$a = \"x\"}}{{$a}}", "1x"),
            ("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .name}}", "[web]"),
            ("{{block \"b\" .name}}<{{.}}>{{end}}", "<web>"),
            ("{{.name | printf \"%s-%5d|%-4s|%q|%v\" \"a\" 7 \"b\" \"c\"}}", "a-    7|b   |\"c\"|web"),
            ("{{printf \"%d %s\" \"a\"}}{{printf \"x\" 1}}", "%!d(string=a) %!s(MISSING)x%!(EXTRA int=1)"),
            ("{{len .items}} {{len .name}} {{not .on}} {{and .on .name}} {{or .nope .n}}", "2 3 false web 3"),
            ("{{eq .name \"a\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{ge .n 3.0}}", "true true true true"),
            ("{{slice .name 1}} {{slice .name 0 2}}", "eb we"),
            ("{{html \"<a>&'\"}} {{urlquery \"a b&c\"}} {{js \"it's\"}}", "&lt;a&gt;&amp;&#39; a+b%26c it\\'s"),
            ("{{print 1 2 \"a\" \"b\" 3}} {{println \"x\" 1}}", "1 2ab3 x 1\n"),
            ("{{base64decode \"YWI=\"}} {{exists . \"labels\" \"a\"}} {{exists . \"q\"}}", "ab true false"),
            ("{{`raw \"text\"`}}{{\"t\\tq\"}}", "raw \"text\"t\tq"),
            ("{{range $i := 3}}{{$i}}{{end}}", "012"),
        ] {
            assert_eq!(expand(template).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn errors() {
        for (template, expected) in [
            ("{{.a", "error parsing template {{.a, template: output:1: unclosed action"),
            ("{{nope .x}}", "error parsing template {{nope .x}}, template: output:1: function \"nope\" not defined"),
            ("{{if .a}}", "error parsing template {{if .a}}, template: output:1: unexpected EOF"),
            ("{{end}}", "error parsing template {{end}}, template: output:1: unexpected {{end}}"),
            ("{{$x}}", "error parsing template {{$x}}, template: output:1: undefined variable \"$x\""),
            (
                "{{eq .name 1}}",
                "error executing template \"{{eq .name 1}}\": template: output:1:2: executing \"output\" at \
                 <eq .name 1>: error calling eq: incompatible types for comparison",
            ),
            (
                "{{range .name}}{{end}}",
                "error executing template \"{{range .name}}{{end}}\": template: output:1:8: executing \"output\" at \
                 <.name>: range can't iterate over web",
            ),
            (
                "{{.name.x}}",
                "error executing template \"{{.name.x}}\": template: output:1:7: executing \"output\" at <.name.x>: \
                 can't evaluate field x in type interface {}",
            ),
        ] {
            assert_eq!(expand(template).unwrap_err().to_string(), expected, "{template}");
        }
        let strict = Template::parse("{{.a.b}}").unwrap().expand(&json!({}), false).unwrap_err();
        let at = "template: output:1:4: executing \"output\" at <.a.b>: map has no entry for key \"a\"";
        assert_eq!(strict.to_string(), format!("error executing template \"{{{{.a.b}}}}\": {at}"));
    }
}
