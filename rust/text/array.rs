//! A JSON array of rows, read as if each of its items were one line.

use std::io::{Error, ErrorKind, Read, Result};

/// Reads on to the first byte that is no blank: what was read, and whether that byte is a `[`.
///
/// What is behind an array's bracket is still to be read; blanks before it are left out.
pub(super) fn begun(input: &mut impl Read) -> Result<(Vec<u8>, bool)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? > 0 {
        if byte == *b"[" {
            return Ok((Vec::new(), true));
        }
        head.push(byte[0]);
        // Blanks, and the mark that a file is UTF-8.
        if !byte[0].is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(&byte[0]) {
            break;
        }
    }
    Ok((head, false))
}

/// Where a byte stands with regard to texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

/// What was read since the last comma between items, or since the bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    NotYet,
    Missing,
    There,
}

/// Hands on what is inside an array, one item a line.
///
/// Each byte is one that is handed on: a comma between items becomes a newline, and a newline
/// outside of texts a blank. A comma or bracket without an item before it stays, so that whoever
/// reads the line refuses it.
pub(super) struct ArrayLines<R> {
    input: R,
    depth: usize,
    text: Text,
    item: Item,
    ended: bool,
}

impl<R: Read> ArrayLines<R> {
    /// Takes an input of which the first bracket was read.
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            depth: 0,
            text: Text::Outside,
            item: Item::NotYet,
            ended: false,
        }
    }

    fn byte(&mut self, byte: u8) -> u8 {
        if self.text != Text::Outside {
            self.text = match (self.text, byte) {
                (Text::Inside, b'"') => Text::Outside,
                (Text::Inside, b'\\') => Text::Escaped,
                _ => Text::Inside,
            };
            return byte;
        }
        match byte {
            b'\n' | b'\r' | b' ' | b'\t' => return b' ',
            b',' if self.depth == 0 && self.item == Item::There => {
                self.item = Item::Missing;
                return b'\n';
            }
            b']' if self.depth == 0 => {
                self.ended = true;
                let missing = self.item == Item::Missing;
                return if missing { byte } else { b' ' };
            }
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            b'"' => self.text = Text::Inside,
            _ => {}
        }
        self.item = Item::There;
        byte
    }
}

impl<R: Read> Read for ArrayLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let found = self.input.read(buffer)?;
        if found == 0 && !buffer.is_empty() && !self.ended {
            let problem = "the array has no end; is the file cut?";
            return Err(Error::new(ErrorKind::UnexpectedEof, problem));
        }
        for byte in &mut buffer[..found] {
            if !self.ended {
                *byte = self.byte(*byte);
            } else if byte.is_ascii_whitespace() {
                *byte = b' ';
            } else {
                let problem = "there is text behind the end of the array";
                return Err(Error::new(ErrorKind::InvalidData, problem));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String> {
        let mut input = text.as_bytes();
        let (head, array) = begun(&mut input)?;
        let mut found = String::from_utf8(head).unwrap();
        if array {
            ArrayLines::new(input).read_to_string(&mut found)?;
        } else {
            input.read_to_string(&mut found)?;
        }
        Ok(found)
    }

    fn lines(text: &str) -> Vec<String> {
        let found = read(text).unwrap();
        found
            .split('\n')
            .map(|line| line.trim().to_owned())
            .collect()
    }

    #[test]
    fn each_item_is_one_line() {
        let text = "\u{feff}\n [\n {\"a\": [1,\n 2]},\r\n{\"b\": \"],[\\\"\"}\n]\n";
        let found = ["{\"a\": [1,  2]}", "{\"b\": \"],[\\\"\"}"];
        assert_eq!(lines(text), found);
    }

    #[test]
    fn lines_stay_as_they_are() {
        let text = "\n{\"a\": [1]}\n{\"a\": []}\n";
        assert_eq!(read(text).unwrap(), text);
    }

    #[test]
    fn an_item_that_is_not_there_leaves_its_comma_or_bracket() {
        assert_eq!(lines("[{},,{}]"), ["{}", ",{}"]);
        assert_eq!(lines("[{},]"), ["{}", "]"]);
        assert_eq!(lines("[ ]"), [""]);
    }

    #[test]
    fn an_array_that_is_cut_or_followed_by_text_is_an_error() {
        for text in ["[", "[{}", "[{},", "[{}] {}", "[{\"a\": \"]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
