//! The cells of one column of scores, and what they are made of: a dictionary where values come
//! again.

use super::rle_hybrid;
use crate::scoring::dictionary::Dictionary;

/// More values than that, and a dictionary would hardly be smaller than the values.
pub(super) const ENTRIES: usize = 1 << rle_hybrid::WIDEST;

/// The cells of one column.
pub(super) enum Cells {
    /// The bits of what is there, and for every row 1 if it is; no levels where all is.
    Each {
        values: Vec<u64>,
        levels: Option<Vec<u32>>,
    },
    /// For every row the place of its cell in a table of few; `None` is null.
    Coded {
        codes: Vec<u32>,
        table: Vec<Option<u64>>,
    },
}

impl Cells {
    /// The cells of some rows; `None` is null.
    pub(super) fn of<T>(rows: &[T], cell: impl Fn(&T) -> Option<u64>) -> Self {
        let mut values = Vec::with_capacity(rows.len());
        let mut levels = Vec::with_capacity(rows.len());
        for row in rows {
            let value = cell(row);
            levels.push(u32::from(value.is_some()));
            values.extend(value);
        }
        let levels = (values.len() < rows.len()).then_some(levels);
        Self::Each { values, levels }
    }
}

/// What is there, and for every row 1 if it is; no levels where all is.
pub(super) struct Content {
    pub(super) levels: Option<Vec<u32>>,
    pub(super) values: Values,
}

pub(super) enum Values {
    Plain(Vec<u64>),
    /// By the places of their first appearance.
    Indexed {
        entries: Vec<u64>,
        indices: Vec<u32>,
    },
}

impl Content {
    pub(super) fn of(cells: Cells) -> Self {
        match cells {
            Cells::Coded { codes, table } => Self::coded(codes, &table),
            Cells::Each { values, levels } => {
                let values = indexed(&values).unwrap_or(Values::Plain(values));
                Self { levels, values }
            }
        }
    }

    fn coded(mut codes: Vec<u32>, table: &[Option<u64>]) -> Self {
        /// Above every place.
        const UNSEEN: u32 = u32::MAX;
        const NULL: u32 = u32::MAX - 1;
        let mut places = vec![UNSEEN; table.len()];
        let mut entries = Dictionary::default();
        for code in &mut codes {
            let place = &mut places[*code as usize];
            if *place == UNSEEN {
                *place = table[*code as usize].map_or(NULL, |value| entries.place(value));
            }
            *code = *place;
        }
        let levels = places.contains(&NULL).then(|| {
            let levels = codes.iter().map(|&place| u32::from(place != NULL));
            let levels = levels.collect();
            codes.retain(|&place| place != NULL);
            levels
        });
        let values = match entries.into_values() {
            entries if entries.is_empty() => Values::Plain(entries),
            entries => Values::Indexed {
                entries,
                indices: codes,
            },
        };
        Self { levels, values }
    }
}

/// `None` if there are too many different values, or none.
fn indexed(values: &[u64]) -> Option<Values> {
    let mut entries = Dictionary::default();
    let mut indices = Vec::with_capacity(values.len());
    let mut before = (*values.first()?, entries.place(values[0]));
    for &value in values {
        if value != before.0 {
            before = (value, entries.place(value));
            if entries.values().len() > ENTRIES {
                return None;
            }
        }
        indices.push(before.1);
    }
    let entries = entries.into_values();
    Some(Values::Indexed { entries, indices })
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Plain(values) => values.len(),
            Self::Indexed { indices, .. } => indices.len(),
        }
    }

    /// Every different value at least once.
    pub(super) fn distinct(&self) -> &[u64] {
        match self {
            Self::Plain(values)
            | Self::Indexed {
                entries: values, ..
            } => values,
        }
    }
}
