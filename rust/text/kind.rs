//! What one value is, as far as the type of its column asks.

/// What one value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// `true` or `false`; the only bools of JSON.
    Bool,
    /// `True` or `False`.
    Title,
    /// `TRUE` or `FALSE`.
    Upper,
    /// An integer that int64 and float64 hold exactly.
    Int,
    /// An integer that float64 would round.
    Wide,
    /// An integer above int64 that uint64 holds.
    Unsigned,
    /// A larger integer.
    Huge,
    /// An integer in another spelling, such as `007`.
    Odd,
    /// A number that float64 holds as it is written.
    Float,
    /// A number with more digits than float64 has.
    Rough,
    /// Anything else.
    Text,
    /// A JSON list.
    List,
    /// A JSON object.
    Object,
}

impl Kind {
    /// All of them, with the words by which they are told.
    pub const NAMED: [(Self, &'static str); 14] = [
        (Self::Null, "null"),
        (Self::Bool, "bool"),
        (Self::Title, "title"),
        (Self::Upper, "upper"),
        (Self::Int, "int"),
        (Self::Wide, "wide"),
        (Self::Unsigned, "unsigned"),
        (Self::Huge, "huge"),
        (Self::Odd, "odd"),
        (Self::Float, "float"),
        (Self::Rough, "rough"),
        (Self::Text, "text"),
        (Self::List, "list"),
        (Self::Object, "object"),
    ];
}
