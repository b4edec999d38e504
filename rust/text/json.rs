//! JSON, checked while it is walked: strict, but for the `NaN` and `Infinity` that Python writes.

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::{DEEPEST, Flaw};

/// Keys of one object that are compared one by one; more go through a table.
const FEW: usize = 16;

/// A place in one line of JSON.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    depth: usize,
}

/// The first character of a value tells what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Null,
    Bool(bool),
    Number,
    Text,
    List,
    Object,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// What value comes next; its first character is not passed.
    pub(super) fn token(&mut self) -> Result<Token, Flaw> {
        self.space();
        Ok(match self.byte() {
            Some(b'"') => Token::Text,
            Some(b'{') => Token::Object,
            Some(b'[') => Token::List,
            Some(b'n') => Token::Null,
            Some(b't') => Token::Bool(true),
            Some(b'f') => Token::Bool(false),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Token::Number,
            _ => return Err(self.wrong()),
        })
    }

    /// Passes `null`, `true` or `false`.
    pub(super) fn word(&mut self, token: Token) -> Result<(), Flaw> {
        self.literal(match token {
            Token::Null => "null",
            Token::Bool(true) => "true",
            _ => "false",
        })
    }

    /// Passes a value and returns its text.
    pub(super) fn raw(&mut self) -> Result<&'a str, Flaw> {
        let token = self.token()?;
        let start = self.at;
        match token {
            Token::Text => drop(self.quoted()?),
            Token::Number => drop(self.number()?),
            Token::Object => self.object(|cursor, _| cursor.raw().map(drop))?,
            Token::List => self.list(|cursor| cursor.raw().map(drop))?,
            other => self.word(other)?,
        }
        Ok(&self.text[start..self.at])
    }

    /// Passes a number and returns its text.
    pub(super) fn number(&mut self) -> Result<&'a str, Flaw> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'N') if self.at == start => self.literal("NaN")?,
            Some(b'I') => self.literal("Infinity")?,
            Some(b'0') => {
                self.at += 1;
                self.fraction()?;
            }
            _ => {
                self.digits()?;
                self.fraction()?;
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// Passes an object; `each` passes the value of every key.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &Cow<'a, str>) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        self.enter()?;
        let (mut keys, mut table) = (Vec::new(), HashSet::new());
        if self.ends(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            if self.byte() != Some(b'"') {
                return Err(self.wrong());
            }
            let key = self.string()?;
            if matches!(&key, Cow::Owned(name) if name.contains('\0')) {
                return Err(Flaw::Zero);
            }
            let twice = if keys.len() < FEW {
                keys.contains(&key)
            } else {
                if table.is_empty() {
                    table.extend(keys.iter().cloned());
                }
                !table.insert(key.clone())
            };
            if twice {
                return Err(Flaw::Duplicate {
                    key: key.into_owned(),
                });
            }
            self.space();
            self.literal(":")?;
            each(self, &key)?;
            if keys.len() < FEW {
                keys.push(key);
            }
            if self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// Passes a list; `each` passes every item.
    pub(super) fn list(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        self.enter()?;
        if self.ends(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Checks that the line ends here.
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        self.space();
        if self.at < self.text.len() {
            Err(self.wrong())
        } else {
            Ok(())
        }
    }

    pub(super) fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    pub(super) fn wrong(&self) -> Flaw {
        match self.text[self.at..].chars().next() {
            Some(found) => Flaw::Unexpected {
                found,
                column: self.at + 1,
            },
            None => Flaw::Cut,
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Flaw> {
        for expected in word.bytes() {
            if self.byte() != Some(expected) {
                return Err(self.wrong());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.wrong())
        } else {
            Ok(())
        }
    }

    fn fraction(&mut self) -> Result<(), Flaw> {
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Flaw> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            Err(Flaw::Deep)
        } else {
            Ok(())
        }
    }

    /// Whether a list or object closes here, empty.
    fn ends(&mut self, close: u8) -> bool {
        self.space();
        let ends = self.byte() == Some(close);
        if ends {
            self.at += 1;
            self.depth -= 1;
        }
        ends
    }

    /// Passes the comma to the next item, or the end, which it tells.
    fn goes_on(&mut self, close: u8) -> Result<bool, Flaw> {
        if self.ends(close) {
            return Ok(true);
        }
        self.literal(",")?;
        Ok(false)
    }
}
