//! What can be wrong with a text file of rows.

use std::fmt;

/// How many lists and objects may lie inside one another.
pub(super) const DEEPEST: usize = 256;

/// What is wrong with one line; `Display` writes the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// Bytes that are no UTF-8.
    Encoding,
    /// A line that ends inside a value.
    Cut,
    /// A character where JSON has no place for it.
    Unexpected {
        /// The character.
        found: char,
        /// Its place in the line, in bytes from 1.
        column: usize,
    },
    /// A line of JSON that is no object.
    NoObject,
    /// Half of a surrogate pair, which is no character.
    Surrogate {
        /// The escape, such as `\ud83d`.
        escape: String,
    },
    /// A character below U+0020 in a JSON string, which has to be escaped.
    Control {
        /// Its code.
        code: u8,
    },
    /// A key that one object has twice.
    Duplicate {
        /// The key.
        key: String,
    },
    /// Lists and objects inside one another, too many.
    Deep,
    /// More or fewer fields than the header.
    Fields {
        /// Fields of the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A quote that is opened and not closed.
    Unclosed,
    /// Text behind the closing quote of a field.
    AfterQuote,
    /// A carriage return without a newline, outside quotes.
    Return,
    /// A name that a header has twice.
    Header {
        /// The name.
        name: String,
    },
    /// A name with a character of code 0, which Arrow can't pass on.
    Zero,
    /// A line that no memory should hold.
    Long,
    /// A value of another type than when the file was looked through.
    Changed,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => write!(f, "is not UTF-8; save the file as UTF-8"),
            Self::Cut => write!(
                f,
                "ends inside a value; is it cut, or does a value span lines?"
            ),
            Self::Unexpected { found, column } => {
                write!(f, "is no JSON: {found:?} at column {column}")
            }
            Self::NoObject => write!(f, "is no JSON object; each line holds one"),
            Self::Surrogate { escape } => write!(
                f,
                "has half a surrogate pair, {escape}: a text cut inside a character; \
                 cut it elsewhere or leave the row out"
            ),
            Self::Control { code } => {
                write!(f, "has U+{code:04X} in a string, which JSON escapes")
            }
            Self::Duplicate { key } => write!(f, "has the key {key:?} twice in one object"),
            Self::Deep => write!(f, "has more than {DEEPEST} lists in lists"),
            Self::Fields { found, expected } => write!(
                f,
                "has {found} fields, but the header {expected}; quote a field that has the \
                 delimiter in it"
            ),
            Self::Unclosed => write!(f, "opens a quote that is never closed"),
            Self::AfterQuote => write!(
                f,
                "has text behind a closing quote; double the quotes inside a quoted field"
            ),
            Self::Return => write!(f, "has a carriage return without a newline, unquoted"),
            Self::Header { name } => write!(f, "names the column {name:?} twice"),
            Self::Zero => write!(f, "has U+0000 in a name"),
            Self::Long => write!(f, "is longer than 1 GiB; is a quote or a newline missing?"),
            Self::Changed => write!(f, "changed while the file was read"),
        }
    }
}

/// Why a file of text can't be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum TextError {
    /// A line that is wrong, counted from 1 as editors do.
    Line {
        /// The line at which the row begins.
        line: u64,
        /// What is wrong.
        flaw: Flaw,
    },
    /// A file that has other rows than when it was looked through.
    Rows {
        /// Rows that it has.
        found: u64,
        /// Rows that it had.
        expected: u64,
    },
    /// What the disk or the decompression says.
    Io(std::io::Error),
}

impl TextError {
    /// The sentence about a file whose rows are called so: lines, or the items of an array.
    #[must_use]
    pub fn of(&self, row: &str) -> String {
        match self {
            Self::Line { line, flaw } => format!("{row} {line} {flaw}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, flaw } => write!(f, "line {line} {flaw}"),
            Self::Rows { found, expected } => write!(
                f,
                "it had {expected} rows, then {found}; let it be as it is while it is read"
            ),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<std::io::Error> for TextError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::error::Error for TextError {}
