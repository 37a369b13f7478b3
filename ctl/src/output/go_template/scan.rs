//! Cuts a template's text into tokens.

/// A token, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub line: usize,
    /// Bytes from the beginning of the line.
    pub column: usize,
    /// Bytes from the beginning of the text, its first and the one behind it.
    pub from: usize,
    pub to: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Text(String),
    /// `{{` and `}}`
    Open,
    Close,
    /// A word: an identifier or keyword.
    Word(String),
    /// `.name`
    Field(String),
    Dot,
    /// `$name`, with the dollar sign.
    Variable(String),
    Quoted(String),
    Integer(i64),
    Float(f64),
    Space,
    /// `(`, `)`, `|`, `,`, `:=`, `=`
    Sign(&'static str),
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

/// All tokens of a text; an error begins with its line.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut scanner = Scanner { text, at: 0, tokens: Vec::new() };
    let mut trims = false;
    loop {
        let rest = &text[scanner.at..];
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        let from = scanner.at;
        scanner.at += plain.len();
        if trims {
            plain = plain.trim_start();
        }
        let Some(_) = open else {
            scanner.push(TokenKind::Text(plain.to_owned()), from);
            return Ok(scanner.tokens);
        };
        let behind = &text[scanner.at + 2..];
        let trims_left = behind.starts_with('-') && behind[1..].starts_with(|c: char| c.is_ascii_whitespace());
        if trims_left {
            plain = plain.trim_end();
        }
        scanner.push(TokenKind::Text(plain.to_owned()), from);
        let from = scanner.at;
        scanner.at += if trims_left { 3 } else { 2 };
        trims = match scanner.comment()? {
            Some(trims) => trims,
            None => {
                scanner.push(TokenKind::Open, from);
                scanner.action()?
            }
        };
    }
}

impl Scanner<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    fn push(&mut self, kind: TokenKind, from: usize) {
        let column = from - self.text[..from].rfind('\n').map_or(0, |end| end + 1);
        self.tokens.push(Token { kind, line: self.line(from), column, from, to: self.at });
    }

    fn fail<T>(&self, why: &str) -> Result<T, String> {
        Err(format!("{}: {why}", self.line(self.at.min(self.text.len()))))
    }

    /// Passes `/* … */` over; whether space behind it is trimmed.
    fn comment(&mut self) -> Result<Option<bool>, String> {
        let rest = &self.text[self.at..];
        let inner = rest.trim_start();
        if !inner.starts_with("/*") {
            return Ok(None);
        }
        let Some(end) = inner.find("*/") else { return self.fail("unclosed comment") };
        let after = &inner[end + 2..];
        let trimmed = after.trim_start();
        let trims = trimmed.starts_with("-}}");
        if !trims && !after.starts_with("}}") {
            return self.fail("comment ends before closing delimiter");
        }
        let rest_len = if trims { trimmed.len() - 3 } else { after.len() - 2 };
        self.at = self.text.len() - rest_len;
        Ok(Some(trims))
    }

    /// The tokens up to `}}`; whether space behind it is trimmed.
    fn action(&mut self) -> Result<bool, String> {
        loop {
            let rest = &self.text[self.at..];
            let from = self.at;
            let spaces = rest.len() - rest.trim_start().len();
            let behind = &rest[spaces..];
            if spaces > 0 && behind.starts_with("-}}") {
                self.at += spaces + 3;
                self.push(TokenKind::Close, from + spaces);
                return Ok(true);
            }
            if rest.starts_with("}}") {
                self.at += 2;
                self.push(TokenKind::Close, from);
                return Ok(false);
            }
            if spaces > 0 {
                self.at += spaces;
                self.push(TokenKind::Space, from);
                continue;
            }
            self.token(rest, from)?;
        }
    }

    fn token(&mut self, rest: &str, from: usize) -> Result<(), String> {
        let Some(first) = rest.chars().next() else { return self.fail("unclosed action") };
        for sign in ["(", ")", "|", ",", ":=", "="] {
            if rest.starts_with(sign) {
                self.at += sign.len();
                self.push(TokenKind::Sign(sign), from);
                return Ok(());
            }
        }
        let word = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        match first {
            '"' | '`' | '\'' => self.quoted(rest, from, first),
            '.' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                self.at += 1 + word(&rest[1..]);
                self.push(TokenKind::Field(self.text[from + 1..self.at].to_owned()), from);
                Ok(())
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.at += 1;
                self.push(TokenKind::Dot, from);
                Ok(())
            }
            '$' => {
                self.at += 1 + word(&rest[1..]);
                self.push(TokenKind::Variable(self.text[from..self.at].to_owned()), from);
                Ok(())
            }
            c if c.is_alphabetic() || c == '_' => {
                self.at += word(rest);
                self.push(TokenKind::Word(self.text[from..self.at].to_owned()), from);
                Ok(())
            }
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => self.number(rest, from),
            other => self.fail(&format!("unexpected {other:?} in command")),
        }
    }

    fn number(&mut self, rest: &str, from: usize) -> Result<(), String> {
        let end = rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')));
        let text = &rest[..end.map_or(rest.len(), |end| end + 1)];
        self.at += text.len();
        let digits = text.replace('_', "");
        let integer = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        };
        let kind = match (integer, digits.parse()) {
            (Some(integer), _) => TokenKind::Integer(integer),
            (None, Ok(float)) => TokenKind::Float(float),
            _ => return self.fail(&format!("bad number syntax: {text:?}")),
        };
        self.push(kind, from);
        Ok(())
    }

    fn quoted(&mut self, rest: &str, from: usize, quote: char) -> Result<(), String> {
        let unclosed = match quote {
            '"' => "unterminated quoted string",
            '`' => "unterminated raw quoted string",
            _ => "unterminated character constant",
        };
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        loop {
            let Some((at, c)) = chars.next() else { return self.fail(unclosed) };
            match c {
                c if c == quote => {
                    self.at += at + 1;
                    break;
                }
                '\n' if quote != '`' => return self.fail(unclosed),
                '\\' if quote != '`' => text.push(match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(c @ ('"' | '\\' | '\'')) => c,
                    _ => return self.fail(&format!("invalid syntax in {rest:?}")),
                }),
                c => text.push(c),
            }
        }
        let kind = match (quote, text.chars().next()) {
            ('\'', Some(c)) => TokenKind::Integer(u32::from(c).into()),
            _ => TokenKind::Quoted(text),
        };
        self.push(kind, from);
        Ok(())
    }
}
