//! What can be wrong with a text file of rows.

/// How many lists and objects may lie inside one another.
pub(super) const DEEPEST: usize = 256;

/// What is wrong with one line; `Display` writes the sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Bytes that are no UTF-8.
    #[error("is not UTF-8; save the file as UTF-8")]
    Encoding,
    /// A line that ends inside a value.
    #[error("ends inside a value; is it cut, or does a value span lines?")]
    Cut,
    /// A character where JSON has no place for it.
    #[error("is no JSON: {found:?} at column {column}")]
    Unexpected {
        /// The character.
        found: char,
        /// Its place in the line, in bytes from 1.
        column: usize,
    },
    /// A line of JSON that is no object.
    #[error("is no JSON object; each line holds one")]
    NoObject,
    /// Half of a surrogate pair, which is no character.
    #[error(
        "has half a surrogate pair, {escape}: a text cut inside a character; \
         cut it elsewhere or leave the row out"
    )]
    Surrogate {
        /// The escape, such as `\ud83d`.
        escape: String,
    },
    /// A character below U+0020 in a JSON string, which has to be escaped.
    #[error("has U+{code:04X} in a string, which JSON escapes")]
    Control {
        /// Its code.
        code: u8,
    },
    /// A key that one object has twice.
    #[error("has the key {key:?} twice in one object")]
    Duplicate {
        /// The key.
        key: String,
    },
    /// Lists and objects inside one another, too many.
    #[error("has more than {} lists in lists", DEEPEST)]
    Deep,
    /// More or fewer fields than the header.
    #[error(
        "has {found} fields, but the header {expected}; quote a field that has the \
         delimiter in it"
    )]
    Fields {
        /// Fields of the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A quote that is opened and not closed.
    #[error("opens a quote that is never closed")]
    Unclosed,
    /// Text behind the closing quote of a field.
    #[error("has text behind a closing quote; double the quotes inside a quoted field")]
    AfterQuote,
    /// A carriage return without a newline, outside quotes.
    #[error("has a carriage return without a newline, unquoted")]
    Return,
    /// A name that a header has twice.
    #[error("names the column {name:?} twice")]
    Header {
        /// The name.
        name: String,
    },
    /// A name with a character of code 0, which Arrow can't pass on.
    #[error("has U+0000 in a name")]
    Zero,
    /// A line that no memory should hold.
    #[error("is longer than 1 GiB; is a quote or a newline missing?")]
    Long,
    /// A value of another type than when the file was looked through.
    #[error("changed while the file was read")]
    Changed,
}

/// Why a file of text can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A line that is wrong, counted from 1 as editors do.
    #[error("line {line} {flaw}")]
    Line {
        /// The line at which the row begins.
        line: u64,
        /// What is wrong.
        flaw: Flaw,
    },
    /// A file that has other rows than when it was looked through.
    #[error("it had {expected} rows, then {found}; let it be as it is while it is read")]
    Rows {
        /// Rows that it has.
        found: u64,
        /// Rows that it had.
        expected: u64,
    },
    /// What the disk or the decompression says.
    #[error(transparent)]
    Io(#[from] std::io::Error),
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
