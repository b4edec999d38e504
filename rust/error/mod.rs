//! Everything that can be wrong with what a caller hands to the core.

mod stream;

pub use stream::StreamError;

/// A refusal: variants carry the facts, `Display` writes the sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Offsets that do not cut `len` rollouts into consecutive groups.
    #[error("offsets must {}", cut_of(*.len))]
    BadOffsets {
        /// How many rollouts there are; `None` when the offsets themselves say it.
        len: Option<usize>,
    },
    /// A group id that is null.
    #[error(
        "the group id at row {row} is null; fill it, or pass null_ids=\"drop\" to leave \
         such rows out"
    )]
    NullId {
        /// The first such row.
        row: usize,
    },
    /// A list of ids that mixes types, or holds something that is no id.
    #[error(
        "the group id at row {row} is a {found} where {expected} was expected; use one \
         type, and a DataFrame for several key columns"
    )]
    MixedIds {
        /// The first row that does not fit.
        row: usize,
        /// The type found there.
        found: String,
        /// What the rows before it are.
        expected: &'static str,
    },
    /// A column type that cannot key a group.
    #[error(
        "group ids of type {found} cannot be compared exactly; cast them to integers or \
         strings"
    )]
    UnsupportedIds {
        /// The type, as Arrow or `NumPy` names it.
        found: String,
    },
    /// Key columns of different lengths.
    #[error("key columns differ in length: {first} and {other} rows")]
    KeyLengths {
        /// Rows of the first key column.
        first: usize,
        /// Rows of the one that differs.
        other: usize,
    },
    /// A reward that is infinite.
    #[error(
        "the reward at row {row} is {value}; use NaN or null for a completion that \
         cannot be scored"
    )]
    Infinite {
        /// The first such row.
        row: usize,
        /// `inf` or `-inf`.
        value: f64,
    },
    /// As many rewards as rollouts are needed.
    #[error("{found} rewards for {expected} rollouts; one reward per rollout")]
    RewardCount {
        /// How many rewards came.
        found: usize,
        /// How many rollouts the groups have.
        expected: usize,
    },
    /// A reward that is negative where an estimator divides by the mean.
    #[error(
        "the reward at row {row} is {value}; maxrl divides by the mean of a group and \
         takes no negative rewards"
    )]
    Negative {
        /// The first such row.
        row: usize,
        /// The reward.
        value: f64,
    },
    /// A result beyond the range of float64.
    #[error("the {what} at row {row} leaves the range of float64; scale the rewards down")]
    Overflow {
        /// Of which row.
        row: usize,
        /// What it is.
        what: &'static str,
    },
    /// As many lengths as rewards are needed.
    #[error("{found} lengths for {expected} rewards; one length per rollout")]
    LengthCount {
        /// How many lengths came.
        found: usize,
        /// How many rewards came.
        expected: usize,
    },
    /// A group whose rewards differ and whose completions are all empty.
    #[error(
        "the lengths of the group that starts at row {row} sum to 0; a baseline weighted \
         by length needs a token"
    )]
    NoTokens {
        /// The first row of the group.
        row: usize,
    },
    /// A fraction or quantile outside its range.
    #[error("{name} = {value} is out of its range")]
    BadFraction {
        /// The name of the argument.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// More rows than one call can number.
    #[error(
        "{len} rows are more than the {} of one call; score them in several files",
        u32::MAX
    )]
    TooManyRows {
        /// How many came.
        len: usize,
    },
    /// A sequence that no micro-batch can hold.
    #[error(
        "the sequence at index {index} has {length} tokens, the budget of a micro-batch \
         is {budget}; raise max_tokens or drop the sequence"
    )]
    TooLong {
        /// Its index.
        index: usize,
        /// Its length in tokens.
        length: i64,
        /// The budget of a micro-batch.
        budget: i64,
    },
    /// A sequence length below zero.
    #[error("the length at index {index} is {length}; lengths count tokens")]
    NegativeLength {
        /// Its index.
        index: usize,
        /// The length.
        length: i64,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A bug in this crate: a worker thread panicked.
    #[error("a worker thread of gspo_rs panicked; please report it")]
    Panicked,
}

impl Error {
    /// The same of the row that lies at a place of the group.
    pub(crate) fn of(self, row_at: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Overflow { row, what } => Self::Overflow {
                row: row_at(row),
                what,
            },
            other => other,
        }
    }
}

fn cut_of(len: Option<usize>) -> String {
    match len {
        Some(len) => format!("rise strictly from 0 to {len}, the number of rollouts"),
        None => "start at 0 and rise strictly; no group may be empty".to_owned(),
    }
}
