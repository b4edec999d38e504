//! The strings of JSON: their escapes, and halves of surrogate pairs, which are refused.

use std::borrow::Cow;

use super::error::Flaw;
use super::json::Cursor;

impl<'a> Cursor<'a> {
    /// Passes a string and returns what it says.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Flaw> {
        let (raw, escaped) = self.quoted()?;
        Ok(if escaped {
            Cow::Owned(unescaped(raw))
        } else {
            Cow::Borrowed(raw)
        })
    }

    /// Passes a string and returns what lies between its quotes, and whether it has escapes.
    pub(super) fn quoted(&mut self) -> Result<(&'a str, bool), Flaw> {
        self.at += 1;
        let (start, mut escaped) = (self.at, false);
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(code) if code < 0x20 => return Err(Flaw::Control { code }),
                Some(_) => self.at += 1,
                None => return Err(Flaw::Cut),
            }
        }
        self.at += 1;
        Ok((&self.text[start..self.at - 1], escaped))
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => self.character(),
            _ => Err(self.wrong()),
        }
    }

    /// Passes `uXXXX`, and the second one of a pair of surrogates.
    fn character(&mut self) -> Result<(), Flaw> {
        let start = self.at - 1;
        let unit = self.unit()?;
        let paired = match unit {
            0xD800..=0xDBFF if self.text[self.at..].starts_with("\\u") => {
                self.at += 1;
                let second = self.unit()?;
                (0xDC00..=0xDFFF).contains(&second)
            }
            0xD800..=0xDFFF => false,
            _ => true,
        };
        if paired {
            return Ok(());
        }
        Err(Flaw::Surrogate {
            escape: self.text[start..start + 6].to_owned(),
        })
    }

    fn unit(&mut self) -> Result<u32, Flaw> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.wrong())?;
        }
        self.at += 1;
        Ok(unit)
    }
}

/// What a checked string with escapes says.
fn unescaped(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(place) = rest.find('\\') {
        text.push_str(&rest[..place]);
        let code = rest.as_bytes()[place + 1];
        rest = &rest[place + 2..];
        text.push(match code {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = |hex: &str| u32::from_str_radix(hex, 16).unwrap_or(0);
                let mut point = unit(&rest[..4]);
                rest = &rest[4..];
                if (0xD800..0xDC00).contains(&point) {
                    point = 0x10000 + ((point - 0xD800) << 10) + (unit(&rest[2..6]) - 0xDC00);
                    rest = &rest[6..];
                }
                char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => char::from(other),
        });
    }
    text.push_str(rest);
    text
}
