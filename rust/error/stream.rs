//! What can be wrong with a stream of groups.

use std::fmt;

/// What a stream of groups can have wrong with it; rows are counted from 0.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamError {
    /// No key column was named.
    NoKey,
    /// Batches of no groups were asked for.
    NoGroups,
    /// A key column that the stream does not have.
    MissingColumn {
        /// The name asked for.
        name: String,
        /// The names there are.
        columns: Vec<String>,
    },
    /// A key column whose type has no exact equality, such as a float.
    KeyType {
        /// The column.
        name: String,
        /// Its Arrow type.
        found: String,
    },
    /// A row without a group.
    NullKey {
        /// The key column that is null there.
        name: String,
        /// The row.
        row: usize,
    },
    /// A group that goes on after another one began.
    KeyReturns {
        /// The first row of the part that came too late.
        row: usize,
        /// The row at which the group began.
        began: usize,
    },
    /// A reward that cannot be scored with.
    BadReward {
        /// The reward column.
        name: String,
        /// The row.
        row: usize,
        /// The reward.
        value: f64,
    },
    /// A decimal of which another one may have the same float.
    LongReward {
        /// The reward column.
        name: String,
        /// The row.
        row: usize,
        /// The float nearest to it.
        value: f64,
    },
    /// More groups, or longer keys, than 32 bits can number.
    TooManyGroups,
    /// A partition of the keys that does not fit the memory.
    LittleMemory {
        /// Bytes that would do.
        needed: usize,
    },
    /// The disk failed while rows were put aside.
    Disk(String),
    /// The producer of the stream failed, in its own words.
    Source(String),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => write!(f, "no key column named; a group needs at least one"),
            Self::NoGroups => write!(f, "batch_groups is 0; it must be at least 1"),
            Self::MissingColumn { name, columns } => {
                write!(f, "no key column {name:?}; the columns are {columns:?}")
            }
            Self::KeyType { name, found } => write!(
                f,
                "key column {name:?} is {found}; a key is an integer, string, binary, \
                 dictionary, boolean or date"
            ),
            Self::NullKey { name, row } => {
                write!(
                    f,
                    "key column {name:?} is null at row {row}; a row needs a group"
                )
            }
            Self::KeyReturns { row, began } => write!(
                f,
                "row {row} belongs to the group that began at row {began} and had ended; \
                 the rows of a group must lie side by side here"
            ),
            Self::BadReward { name, row, value } => write!(
                f,
                "the reward {name:?} is {value} at row {row}; {}",
                remedy(*value)
            ),
            Self::LongReward { name, row, value } => write!(
                f,
                "the reward {name:?} at row {row}, about {value}, has more than 15 digits; float64 \
                 would round it"
            ),
            Self::TooManyGroups => write!(f, "more groups than 32 bits can number"),
            Self::LittleMemory { needed } => write!(
                f,
                "the groups of one partition need {} MiB; raise memory_limit by as much",
                needed >> 20
            ),
            Self::Disk(message) => write!(f, "cannot put rows aside: {message}"),
            Self::Source(message) => write!(f, "{message}"),
        }
    }
}

fn remedy(value: f64) -> &'static str {
    if value.is_infinite() {
        "use null or NaN for a completion that cannot be scored"
    } else if value < 0.0 && value > -(2.0_f64.powi(53)) {
        "maxrl divides by the mean of a group and takes no negative rewards"
    } else {
        "float64 would round it"
    }
}

impl From<std::io::Error> for StreamError {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

impl std::error::Error for StreamError {}
