//! Which types of Arrow columns can name a group, and what tells two values apart.

use arrow_schema::DataType;

/// What tells the values of a key column apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An integer of at most 64 bits: booleans, dates, times and durations are integers underneath.
    Word,
    /// A fixed number of bytes, more than a word may hold.
    Wide,
    /// Bytes of any number.
    Bytes,
}

/// How values of type `found` are told apart; `None` if they cannot name a group.
///
/// Floats cannot: two that print alike may differ, and NaN differs from itself. A dictionary is of
/// the kind of its values.
pub(crate) fn kind(found: &DataType) -> Option<Kind> {
    use DataType as T;
    match found {
        T::Dictionary(_, values) => kind(values),
        T::Utf8
        | T::LargeUtf8
        | T::Utf8View
        | T::Binary
        | T::LargeBinary
        | T::BinaryView
        | T::FixedSizeBinary(_) => Some(Kind::Bytes),
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => {
            Some(Kind::Wide)
        }
        T::Boolean => Some(Kind::Word),
        T::Interval(_) => None,
        other => (other.is_integer() || other.is_temporal()).then_some(Kind::Word),
    }
}
