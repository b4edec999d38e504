//! What can be wrong with rows of keys and rewards.

/// What rows that come in batches can have wrong with them, counted from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A key column whose type has no exact equality, such as a float.
    #[error(
        "key column {name:?} is {found}; a key is an integer, string, binary, \
         dictionary, boolean or date"
    )]
    KeyType {
        /// The column.
        name: String,
        /// Its Arrow type.
        found: String,
    },
    /// A row without a group.
    #[error("key column {name:?} is null at row {row}; a row needs a group")]
    NullKey {
        /// The key column that is null there.
        name: String,
        /// The row.
        row: usize,
    },
    /// A reward that cannot be scored with.
    #[error("the reward {name:?} is {value} at row {row}; {}", remedy(*.value))]
    BadReward {
        /// The reward column.
        name: String,
        /// The row.
        row: usize,
        /// The reward.
        value: f64,
    },
    /// A decimal of which another one may have the same float.
    #[error(
        "the reward {name:?} at row {row}, about {value}, has more than 15 digits; float64 \
         would round it"
    )]
    LongReward {
        /// The reward column.
        name: String,
        /// The row.
        row: usize,
        /// The float nearest to it.
        value: f64,
    },
    /// More groups, or longer keys, than 32 bits can number.
    #[error("more groups than 32 bits can number")]
    TooManyGroups,
    /// A partition of the keys that does not fit the memory.
    #[error(
        "the groups of one partition need {} MiB; raise memory_limit by as much",
        .needed >> 20
    )]
    LittleMemory {
        /// Bytes that would do.
        needed: usize,
    },
    /// The disk failed while rows were put aside.
    #[error("cannot put rows aside: {0}")]
    Disk(String),
    /// The producer of the stream failed, in its own words.
    #[error("{0}")]
    Source(String),
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
