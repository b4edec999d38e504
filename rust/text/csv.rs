//! CSV as RFC 4180 has it: records of fields, quoted or not, checked while they are walked.

use std::borrow::Cow;

use super::error::{Flaw, TextError};

/// One field: what it says, and whether it was quoted.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) quoted: bool,
}

/// The records of a text that begins and ends with whole ones.
#[derive(Debug)]
pub(super) struct Records<'a> {
    text: &'a str,
    at: usize,
    delimiter: u8,
    line: u64,
}

impl<'a> Records<'a> {
    pub(super) fn new(text: &'a str, delimiter: u8, line: u64) -> Self {
        Self {
            text,
            at: 0,
            delimiter,
            line,
        }
    }

    /// Puts the next record into `fields` and returns its first line; empty lines are passed.
    pub(super) fn next(&mut self, fields: &mut Vec<Field<'a>>) -> Result<Option<u64>, TextError> {
        fields.clear();
        while self.newline().map_err(|flaw| self.at_line(flaw))? {}
        if self.at == self.text.len() {
            return Ok(None);
        }
        let line = self.line;
        loop {
            let field = self.field();
            fields.push(field.map_err(|flaw| TextError::Line { line, flaw })?);
            if self.byte() == Some(self.delimiter) {
                self.at += 1;
            } else if self.newline().map_err(|flaw| self.at_line(flaw))? || self.byte().is_none() {
                return Ok(Some(line));
            }
        }
    }

    /// What has not been walked, and its first line.
    pub(super) fn rest(&self) -> (usize, u64) {
        (self.at, self.line)
    }

    fn at_line(&self, flaw: Flaw) -> TextError {
        TextError::Line {
            line: self.line,
            flaw,
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes the end of a line, if one is here.
    fn newline(&mut self) -> Result<bool, Flaw> {
        match self.byte() {
            Some(b'\n') => self.at += 1,
            Some(b'\r') if self.text.as_bytes().get(self.at + 1) == Some(&b'\n') => self.at += 2,
            Some(b'\r') => return Err(Flaw::Return),
            _ => return Ok(false),
        }
        self.line += 1;
        Ok(true)
    }

    fn field(&mut self) -> Result<Field<'a>, Flaw> {
        if self.byte() == Some(b'"') {
            return self.quoted();
        }
        let rest = &self.text.as_bytes()[self.at..];
        let ends = |&byte: &u8| byte == self.delimiter || byte == b'\n' || byte == b'\r';
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let text = Cow::Borrowed(&self.text[self.at..self.at + length]);
        self.at += length;
        Ok(Field {
            text,
            quoted: false,
        })
    }

    fn quoted(&mut self) -> Result<Field<'a>, Flaw> {
        let mut text = Cow::Borrowed("");
        loop {
            self.at += 1;
            let rest = &self.text[self.at..];
            let length = rest.find('"').ok_or(Flaw::Unclosed)?;
            let part = &rest[..length];
            self.line += part
                .bytes()
                .map(|byte| u64::from(byte == b'\n'))
                .sum::<u64>();
            if text.is_empty() {
                text = Cow::Borrowed(part);
            } else {
                text.to_mut().push_str(part);
            }
            self.at += length + 1;
            if self.byte() != Some(b'"') {
                break;
            }
            text.to_mut().push('"');
        }
        match self.byte() {
            None | Some(b'\n' | b'\r') => Ok(Field { text, quoted: true }),
            Some(byte) if byte == self.delimiter => Ok(Field { text, quoted: true }),
            _ => Err(Flaw::AfterQuote),
        }
    }
}

/// Where the last whole record of some bytes ends, if there is one.
pub(super) fn last_end(bytes: &[u8], delimiter: u8) -> Option<usize> {
    let (mut end, mut quoted) = (None, false);
    // Whether a quote here opens: at the begin of a field, and behind one that closed.
    let mut opens = true;
    for (place, &byte) in bytes.iter().enumerate() {
        if quoted {
            quoted = byte != b'"';
            opens = true;
        } else if byte == b'"' && opens {
            quoted = true;
        } else {
            opens = byte == b'\n' || byte == delimiter;
            if byte == b'\n' {
                end = Some(place + 1);
            }
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_inside_quotes_ends_no_record_and_a_quote_inside_a_field_opens_none() {
        let end = |text: &str| last_end(text.as_bytes(), b',');
        assert_eq!(end("a,b\nc"), Some(4));
        assert_eq!(end("a,\"b\nc"), None);
        assert_eq!(end("a,\"b\"\"\n\"\nc"), Some(9));
        assert_eq!(end("5\" x,b\nc\n"), Some(9));
        assert_eq!(end("a,\"\"\nc"), Some(5));
        assert_eq!(end("x\"\"y\nc"), Some(5));
    }
}
