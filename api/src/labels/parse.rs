//! The grammar of label selectors in text, as upstream's lexer and parser read it.

use std::collections::BTreeSet;

use super::{Operator, Requirement, SelectorError};
use crate::field::{FieldError, Path};
use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    /// One of `)` `,` `!` `==` `=` `>` `<` `!=` `(`.
    Symbol(&'a str),
    /// A key or value; `in` and `notin` are words too, and operators only where one is expected.
    Word(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::End => "",
            Token::Symbol(text) | Token::Word(text) => text,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Start of the next token, after any white space.
    position: usize,
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { text, position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::Word(_) | Token::Symbol("!") => {
                let requirement = parser.requirement();
                requirements
                    .push(requirement.map_err(|e| SelectorError(format!("unable to parse requirement: {}", e.0)))?);
                match parser.next() {
                    Token::End => return Ok(requirements),
                    Token::Symbol(",") => match parser.peek() {
                        Token::Word(_) | Token::Symbol("!") => {}
                        other => return found(other, ", expected: identifier after ','"),
                    },
                    other => return found(other, ", expected: ',' or 'end of string'"),
                }
            }
            Token::End => return Ok(requirements),
            other => return found(other, ", expected: !, identifier, or 'end of string'"),
        }
    }
}

fn found<T>(token: Token<'_>, expected: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{}'{expected}", token.text())))
}

fn is_symbol(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

impl<'a> Parser<'a> {
    /// The next token and where it ends.
    fn scan(&self) -> (Token<'a>, usize) {
        let bytes = self.text.as_bytes();
        let mut start = self.position;
        while bytes.get(start).copied().is_some_and(is_space) {
            start += 1;
        }
        let rest = &bytes[start..];
        match rest {
            // A zero byte ends the text, as it does upstream.
            [] | [0, ..] => (Token::End, start),
            [first, ..] if is_symbol(*first) => {
                let width = if rest.starts_with(b"==") || rest.starts_with(b"!=") { 2 } else { 1 };
                (Token::Symbol(&self.text[start..start + width]), start + width)
            }
            _ => {
                let ends = |&b: &u8| b == 0 || is_symbol(b) || is_space(b);
                let end = rest.iter().position(ends).map_or(bytes.len(), |width| start + width);
                (Token::Word(&self.text[start..end]), end)
            }
        }
    }

    fn peek(&self) -> Token<'a> {
        self.scan().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, end) = self.scan();
        self.position = end;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return found(other, ", expected: identifier"),
        };
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            return Err(SelectorError(FieldError::invalid(&Path::root(), key, wrong.join("; ")).to_string()));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_set()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        match self.next() {
            Token::Word("in") => Ok(Operator::In),
            Token::Word("notin") => Ok(Operator::NotIn),
            Token::Symbol("=") => Ok(Operator::Equals),
            Token::Symbol("==") => Ok(Operator::DoubleEquals),
            Token::Symbol("!=") => Ok(Operator::NotEquals),
            Token::Symbol(">") => Ok(Operator::GreaterThan),
            Token::Symbol("<") => Ok(Operator::LessThan),
            other => found(other, ", expected: in, notin, =, ==, !=, gt, lt"),
        }
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => Ok(value.to_owned()),
            other => found(other, ", expected: identifier"),
        }
    }

    /// `(a,b,)`: a missing value reads as the empty one.
    fn value_set(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return found(other, " expected: '('"),
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            Token::Symbol(")") => {
                values.insert(String::new());
            }
            Token::Word(_) | Token::Symbol(",") => self.values(&mut values)?,
            other => return found(other, ", expected: ',', ')' or identifier"),
        }
        // Both ways end before the closing parenthesis.
        self.next();
        Ok(values.into_iter().collect())
    }

    fn values(&mut self, values: &mut BTreeSet<String>) -> Result<(), SelectorError> {
        loop {
            match self.next() {
                Token::Word(value) => {
                    values.insert(value.to_owned());
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(()),
                        other => return found(other, ", expected: ',' or ')'"),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek() {
                        Token::Symbol(")") => {
                            values.insert(String::new());
                            return Ok(());
                        }
                        Token::Symbol(",") => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                other => return found(other, ", expected: ',', or identifier"),
            }
        }
    }
}
