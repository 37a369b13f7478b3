//! Makes nodes of tokens.

use std::collections::BTreeMap;

use super::functions;
use super::scan::{Token, TokenKind, tokens};
use super::{Data, Kind, Node, Operand, Pipe};

type Parsed<T> = Result<T, String>;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// Names of the variables in sight.
    variables: Vec<String>,
    defined: BTreeMap<String, Vec<Node>>,
    /// How deep in loops.
    loops: usize,
}

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum End {
    Text,
    End,
    Else,
}

/// The nodes of a text, and those of the templates that it defines. An error begins with its line.
pub(super) fn template(text: &str) -> Parsed<(Vec<Node>, BTreeMap<String, Vec<Node>>)> {
    let tokens = tokens(text)?;
    let variables = vec!["$".to_owned()];
    let mut parser = Parser { text, tokens, at: 0, variables, defined: BTreeMap::new(), loops: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Text => Ok((nodes, parser.defined)),
        End::End => parser.fail("unexpected {{end}}"),
        End::Else => parser.fail("unexpected {{else}}"),
    }
}

impl Parser<'_> {
    fn fail<T>(&self, why: impl AsRef<str>) -> Parsed<T> {
        let near = self.tokens.get(self.at.saturating_sub(1)).map_or(1, |token| token.line);
        Err(format!("{near}: {}", why.as_ref()))
    }

    fn next(&mut self) -> Option<TokenKind> {
        let token = self.tokens.get(self.at)?.kind.clone();
        self.at += 1;
        Some(token)
    }

    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&TokenKind::Space) {
            self.at += 1;
        }
    }

    fn expect_close(&mut self, what: &str) -> Parsed<()> {
        self.skip_space();
        match self.next() {
            Some(TokenKind::Close) => Ok(()),
            _ => self.fail(format!("unexpected token in {what}")),
        }
    }

    /// Nodes up to `{{end}}`, `{{else` or the end of the text.
    fn nodes(&mut self) -> Parsed<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        while let Some(token) = self.next() {
            match token {
                TokenKind::Text(text) if text.is_empty() => {}
                TokenKind::Text(text) => nodes.push(Node::Text(text)),
                TokenKind::Open => {
                    self.skip_space();
                    let word = match self.peek() {
                        Some(TokenKind::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match self.keyword(&word, &mut nodes)? {
                        Some(end) => return Ok((nodes, end)),
                        None => continue,
                    }
                }
                _ => return self.fail("unexpected token outside of an action"),
            }
        }
        Ok((nodes, End::Text))
    }

    /// One action; what it ends, if it ends something.
    fn keyword(&mut self, word: &str, nodes: &mut Vec<Node>) -> Parsed<Option<End>> {
        if matches!(
            word,
            "end" | "else" | "if" | "with" | "range" | "template" | "block" | "define" | "break" | "continue"
        ) {
            self.at += 1;
        }
        match word {
            "end" => {
                self.expect_close("end")?;
                return Ok(Some(End::End));
            }
            // What stands behind `else` is read by the node that it belongs to.
            "else" => return Ok(Some(End::Else)),
            "if" | "with" | "range" => {
                let node = self.control(word)?;
                nodes.push(node);
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.expect_close(word)?;
                nodes.push(if word == "break" { Node::Break } else { Node::Continue });
            }
            "template" => {
                let name = self.name("template clause")?;
                let argument = self.argument()?;
                nodes.push(Node::Template(name, argument));
            }
            "define" | "block" => {
                let name = self.name(&format!("{word} clause"))?;
                let argument = self.argument()?;
                let around = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
                let body = self.body()?;
                self.variables = around;
                self.defined.insert(name.clone(), body.0);
                if word == "block" {
                    nodes.push(Node::Template(name, argument));
                }
            }
            _ => nodes.push(Node::Action(self.pipe(false)?)),
        }
        Ok(None)
    }

    fn name(&mut self, what: &str) -> Parsed<String> {
        self.skip_space();
        match self.next() {
            Some(TokenKind::Quoted(name)) => Ok(name),
            _ => self.fail(format!("unexpected token in {what}")),
        }
    }

    /// The argument of a template clause, and the closing braces.
    fn argument(&mut self) -> Parsed<Option<Pipe>> {
        self.skip_space();
        if self.peek() == Some(&TokenKind::Close) {
            self.at += 1;
            return Ok(None);
        }
        self.pipe(false).map(Some)
    }

    /// Nodes up to `{{end}}`; those behind `{{else}}` apart.
    fn body(&mut self) -> Parsed<(Vec<Node>, Vec<Node>)> {
        let (nodes, end) = self.nodes()?;
        match end {
            End::End => Ok((nodes, Vec::new())),
            End::Text => self.fail("unexpected EOF"),
            End::Else => {
                self.skip_space();
                if let Some(TokenKind::Word(word)) = self.peek().cloned() {
                    // `{{else if …}}`: the inner node takes the `{{end}}`.
                    self.at += 1;
                    let inner = self.control(&word)?;
                    return Ok((nodes, vec![inner]));
                }
                self.expect_close("else")?;
                match self.nodes()? {
                    (otherwise, End::End) => Ok((nodes, otherwise)),
                    (_, End::Text) => self.fail("unexpected EOF"),
                    (_, End::Else) => self.fail("expected end; found {{else}}"),
                }
            }
        }
    }

    fn control(&mut self, word: &str) -> Parsed<Node> {
        let in_sight = self.variables.len();
        let pipe = self.pipe(word == "range")?;
        self.loops += usize::from(word == "range");
        let (body, otherwise) = self.body()?;
        self.loops -= usize::from(word == "range");
        self.variables.truncate(in_sight);
        Ok(match word {
            "if" => Node::If(pipe, body, otherwise),
            "with" => Node::With(pipe, body, otherwise),
            "range" => Node::Range(pipe, body, otherwise),
            other => return self.fail(format!("unexpected <{other}> in else")),
        })
    }

    /// A pipeline and the braces or parenthesis that close it.
    fn pipe(&mut self, is_range: bool) -> Parsed<Pipe> {
        self.skip_space();
        let (variables, assigns) = self.declaration(is_range)?;
        let mut commands = vec![Vec::new()];
        loop {
            match self.peek() {
                None => return self.fail("unexpected EOF"),
                Some(TokenKind::Space) => self.at += 1,
                Some(TokenKind::Close) => {
                    self.at += 1;
                    break;
                }
                Some(TokenKind::Sign(")")) => {
                    self.at += 1;
                    break;
                }
                Some(TokenKind::Sign("|")) => {
                    self.at += 1;
                    commands.push(Vec::new());
                }
                Some(_) => {
                    let operand = self.operand()?;
                    if let Some(command) = commands.last_mut() {
                        command.push(operand);
                    }
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return self.fail("missing value for command");
        }
        self.variables.extend(variables.iter().filter(|_| !assigns).cloned());
        Ok(Pipe { variables, assigns, commands })
    }

    /// `$a :=`, `$a, $b :=` or `$a =`; nothing where the pipeline only begins with a variable.
    fn declaration(&mut self, is_range: bool) -> Parsed<(Vec<String>, bool)> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(TokenKind::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            names.push(name);
            self.skip_space();
            match self.next() {
                Some(TokenKind::Sign(sign @ (":=" | "="))) => {
                    if names.len() > 1 && !is_range {
                        return self.fail("too many declarations in command");
                    }
                    return Ok((names, sign == "="));
                }
                Some(TokenKind::Sign(",")) => self.skip_space(),
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn operand(&mut self) -> Parsed<Operand> {
        let Some(first) = self.tokens.get(self.at).cloned() else { return self.fail("unexpected EOF") };
        self.at += 1;
        let mut kind = match first.kind {
            TokenKind::Dot => Kind::Dot,
            TokenKind::Field(name) => Kind::Field(vec![name]),
            TokenKind::Quoted(text) => Kind::Constant(Data::text(text)),
            TokenKind::Integer(number) => Kind::Constant(Data::Integer(number)),
            TokenKind::Float(number) => Kind::Constant(Data::Json(number.into())),
            TokenKind::Variable(name) => {
                if !self.variables.contains(&name) {
                    return self.fail(format!("undefined variable {name:?}"));
                }
                Kind::Variable(name, Vec::new())
            }
            TokenKind::Sign("(") => Kind::Parenthesis(Box::new(self.pipe(false)?), Vec::new()),
            TokenKind::Word(word) => match word.as_str() {
                "nil" => Kind::Nil,
                "true" | "false" => Kind::Constant(Data::Json((word == "true").into())),
                name if functions::exists(name) => Kind::Function(word),
                name => return self.fail(format!("function {name:?} not defined")),
            },
            _ => return self.fail("unexpected token in operand"),
        };
        // Errors of several fields point at the second one.
        let second = self.tokens.get(self.at).filter(|token| matches!(token.kind, TokenKind::Field(_)));
        let column = second.map_or(first.column, |token| token.column);
        while let Some(TokenKind::Field(name)) = self.peek().cloned() {
            match &mut kind {
                Kind::Field(names) | Kind::Variable(_, names) | Kind::Parenthesis(_, names) => names.push(name),
                _ => return self.fail(format!("unexpected . after term {:?}", &self.text[first.from..first.to])),
            }
            self.at += 1;
        }
        let to = self.tokens[self.at - 1].to;
        Ok(Operand { kind, text: self.text[first.from..to].to_owned(), line: first.line, column })
    }
}
