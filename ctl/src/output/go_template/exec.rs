//! Runs a template over an object.

use serde_json::Value;

use super::format::plain;
use super::functions::{self, Calls};
use super::{Data, Kind, Node, Operand, Pipe, Template};

type Ran<T> = Result<T, String>;

/// How deep templates may call each other.
const DEPTH: usize = 100;

struct Run<'a> {
    template: &'a Template,
    missing_ok: bool,
    /// The values of the variables in sight, the latest last.
    variables: Vec<(String, Data)>,
    name: String,
    depth: usize,
    out: String,
}

/// What a list of nodes ended with.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// The text; an error begins with its place.
pub(super) fn run(template: &Template, object: &Value, missing_ok: bool) -> Ran<String> {
    let dot = Data::Json(object.clone());
    let variables = vec![("$".to_owned(), dot.clone())];
    let mut run = Run { template, missing_ok, variables, name: "output".to_owned(), depth: 0, out: String::new() };
    run.nodes(&template.body, &dot)?;
    Ok(run.out)
}

impl Run<'_> {
    fn fail<T>(&self, at: &Operand, why: impl AsRef<str>) -> Ran<T> {
        self.fail_in(at, &at.text, why)
    }

    fn fail_in<T>(&self, at: &Operand, text: &str, why: impl AsRef<str>) -> Ran<T> {
        Err(format!("{}:{}: executing {:?} at <{text}>: {}", at.line, at.column, self.name, why.as_ref()))
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Data) -> Ran<Flow> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Data) -> Ran<Flow> {
        let in_sight = self.variables.len();
        let mut flow = Flow::On;
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&written(&value));
                }
                // What an action declares stays in sight behind it.
                return Ok(flow);
            }
            Node::If(pipe, then, otherwise) => {
                let holds = self.pipe(pipe, dot)?.is_true();
                flow = self.nodes(if holds { then } else { otherwise }, dot)?;
            }
            Node::With(pipe, then, otherwise) => {
                let value = self.pipe(pipe, dot)?;
                flow = match value.is_true() {
                    true => self.nodes(then, &value)?,
                    false => self.nodes(otherwise, dot)?,
                };
            }
            Node::Range(pipe, body, otherwise) => flow = self.range(pipe, body, otherwise, dot)?,
            Node::Template(name, argument) => self.call(name, argument.as_ref(), dot)?,
            Node::Break => flow = Flow::Break,
            Node::Continue => flow = Flow::Continue,
        }
        self.variables.truncate(in_sight);
        Ok(flow)
    }

    fn call(&mut self, name: &str, argument: Option<&Pipe>, dot: &Data) -> Ran<()> {
        let value = match argument {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Data::Json(Value::Null),
        };
        let template = self.template;
        let Some(body) = template.defined.get(name) else {
            return Err(format!(
                "1: executing {:?} at <{{{{template {name:?}}}}}>: template {name:?} not defined",
                self.name
            ));
        };
        if self.depth == DEPTH {
            return Err(format!("1: executing {:?}: exceeded maximum template depth ({DEPTH})", self.name));
        }
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
        let around = std::mem::replace(&mut self.name, name.to_owned());
        self.depth += 1;
        self.nodes(body, &value)?;
        self.depth -= 1;
        (self.variables, self.name) = (variables, around);
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Data) -> Ran<Flow> {
        // The variables are set anew for each item.
        let source = Pipe { variables: Vec::new(), ..pipe.clone() };
        let value = self.pipe(&source, dot)?;
        let items: Vec<(Data, Data)> = match &value {
            Data::Missing | Data::Json(Value::Null) => Vec::new(),
            Data::Json(Value::Array(items)) => {
                (0..).map(Data::Integer).zip(items.iter().cloned().map(Data::Json)).collect()
            }
            Data::Json(Value::Object(map)) => {
                let mut pairs: Vec<_> = map.iter().collect();
                pairs.sort_by_key(|(key, _)| key.as_str());
                pairs.into_iter().map(|(key, item)| (Data::text(key), Data::Json(item.clone()))).collect()
            }
            Data::Integer(count) => (0..*count).map(|at| (Data::Integer(at), Data::Integer(at))).collect(),
            other => {
                let at = &pipe.commands[0][0];
                return self.fail(at, format!("range can't iterate over {}", plain(other)));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let in_sight = self.variables.len();
        for (key, item) in items {
            match (pipe.variables.as_slice(), pipe.assigns) {
                ([one], false) => self.variables.push((one.clone(), item.clone())),
                ([first, second], false) => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
                ([one], true) => self.assign(one, item.clone()),
                ([first, second], true) => {
                    self.assign(first, key);
                    self.assign(second, item.clone());
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(in_sight);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn assign(&mut self, name: &str, value: Data) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            variable.1 = value;
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Data) -> Ran<Data> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Data::Missing);
        for name in &pipe.variables {
            match pipe.assigns {
                true => self.assign(name, value.clone()),
                false => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &[Operand], dot: &Data, piped: Option<Data>) -> Ran<Data> {
        let Some((first, rest)) = command.split_first() else { return Ok(Data::Missing) };
        let Kind::Function(name) = &first.kind else {
            if let (Kind::Nil, true) = (&first.kind, rest.is_empty() && piped.is_none()) {
                return self.fail(first, "nil is not a command");
            }
            if !rest.is_empty() || piped.is_some() {
                return self.fail(first, format!("can't give argument to non-function {}", first.text));
            }
            return self.operand(first, dot);
        };
        let whole = || command.iter().map(|operand| operand.text.as_str()).collect::<Vec<_>>().join(" ");
        // `and` and `or` look at no more than they must.
        let stops = functions::stops(name);
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            let value = self.operand(operand, dot)?;
            if stops.is_some_and(|on| value.is_true() == on) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        match functions::call(name, &arguments) {
            Calls::Value(value) => Ok(value),
            Calls::Error(why) => self.fail_in(first, &whole(), format!("error calling {name}: {why}")),
            Calls::Wrong(why) => self.fail_in(first, name, why),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Data) -> Ran<Data> {
        match &operand.kind {
            Kind::Dot => Ok(dot.clone()),
            Kind::Nil => Ok(Data::Json(Value::Null)),
            Kind::Constant(value) => Ok(value.clone()),
            Kind::Field(names) => self.fields(operand, dot.clone(), names),
            Kind::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let value = found.map_or(Data::Missing, |(_, value)| value.clone());
                self.fields(operand, value, names)
            }
            Kind::Parenthesis(pipe, names) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(operand, value, names)
            }
            Kind::Function(_) => self.command(std::slice::from_ref(operand), dot, None),
        }
    }

    fn fields(&self, operand: &Operand, mut value: Data, names: &[String]) -> Ran<Data> {
        for name in names {
            value = match value {
                Data::Json(Value::Object(mut map)) => match map.remove(name) {
                    Some(found) => Data::Json(found),
                    None if self.missing_ok => Data::Missing,
                    None => return self.fail(operand, format!("map has no entry for key {name:?}")),
                },
                Data::Missing => Data::Missing,
                Data::Json(Value::Null) => {
                    return self.fail(operand, format!("nil pointer evaluating interface {{}}.{name}"));
                }
                _ => return self.fail(operand, format!("can't evaluate field {name} in type interface {{}}")),
            };
        }
        Ok(value)
    }
}

/// A value as an action writes it.
fn written(value: &Data) -> String {
    match value {
        Data::Missing | Data::Json(Value::Null) => "<no value>".to_owned(),
        other => plain(other),
    }
}
