//! The columns of scores: what some rows are told, as cells that can be encoded.

use std::ops::Range;

use super::cells::{Cells, ENTRIES};
use crate::error::StreamError;
use crate::scoring::dictionary::ByGroup;
use crate::scoring::part::Part;
use crate::scoring::scored::{Scored, percentile, rank};
use crate::scoring::scores::{Scores, State, index};

/// The columns that are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    Rank,
    Percentile,
    Advantage,
    Size,
    Mean,
    Std,
}

/// What some rows are told: rows in memory, or records of more than one window of the disk.
pub(super) enum ScoreRows<'a> {
    Records(Vec<Scored>),
    Rows(&'a Part, Range<usize>),
}

impl<'a> ScoreRows<'a> {
    /// The rows `start..stop` of `scores`.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn of(scores: &'a mut Scores, start: u64, stop: u64) -> Result<Self, StreamError> {
        Ok(match &mut scores.state {
            State::Memory(part) => Self::Rows(part, index(start)..index(stop)),
            State::Spilled(spilled) => {
                if !spilled.windows().is_one(start, stop) {
                    return Ok(Self::Records(spilled.scored(start, stop)?));
                }
                let (window, rows) = spilled.windows().rows(start, stop)?;
                Self::Rows(window, rows)
            }
        })
    }

    /// The cells of `column`.
    pub(super) fn cells(&self, column: Column) -> Cells {
        match self {
            Self::Records(records) => of_records(records, column),
            Self::Rows(part, rows) => of_rows(part, rows.clone(), column),
        }
    }
}

fn of_records(records: &[Scored], column: Column) -> Cells {
    let bits = f64::to_bits;
    match column {
        Column::Rank => Cells::of(records, |row| row.rank().map(bits)),
        Column::Percentile => Cells::of(records, |row| row.percentile().map(bits)),
        Column::Advantage => Cells::of(records, |row| Some(row.advantage.to_bits())),
        Column::Size => Cells::of(records, |row| Some(u64::from(row.size))),
        Column::Mean => Cells::of(records, |row| number(row.mean.to_bits())),
        Column::Std => Cells::of(records, |row| number(row.std.to_bits())),
    }
}

fn of_rows(part: &Part, rows: Range<usize>, column: Column) -> Cells {
    let groups = &part.codes[rows.clone()];
    let shared = &part.shared;
    let twice_ranks = || {
        rows.clone()
            .map(|row| part.twice_rank(row))
            .collect::<Vec<_>>()
    };
    match column {
        Column::Rank => ranks(twice_ranks()),
        Column::Percentile => percentiles(&twice_ranks(), groups, &shared.scored),
        Column::Advantage => {
            let values = rows.map(|row| part.number(row).to_bits()).collect();
            let levels = None;
            Cells::Each { values, levels }
        }
        Column::Size => by_group(groups, &shared.size, Some),
        Column::Mean => by_group(groups, &shared.mean, number),
        Column::Std => by_group(groups, &shared.std, number),
    }
}

/// What the rows of `groups` share with their groups.
fn by_group(groups: &[u32], shared: &ByGroup, cell: impl Fn(u64) -> Option<u64>) -> Cells {
    match shared {
        ByGroup::Each(values) => Cells::of(groups, |&group| cell(values[group as usize])),
        ByGroup::Few { numbers, places } => Cells::Coded {
            codes: groups
                .iter()
                .map(|&group| u32::from(places[group as usize]))
                .collect(),
            table: numbers.iter().map(|&value| cell(value)).collect(),
        },
    }
}

fn ranks(twice: Vec<u32>) -> Cells {
    let cell = |&twice: &u32| rank(twice).map(f64::to_bits);
    let highest = twice.iter().copied().max().unwrap_or(0);
    if highest as usize >= ENTRIES {
        return Cells::of(&twice, cell);
    }
    Cells::Coded {
        codes: twice,
        table: (0..=highest).map(|twice| cell(&twice)).collect(),
    }
}

/// Percentiles, of which there are as many as pairs of a rank and a number of members.
fn percentiles(twice: &[u32], groups: &[u32], scored: &ByGroup) -> Cells {
    let cell = |twice: u32, scored: u64| {
        let scored = u32::try_from(scored).expect("members of a group are rows");
        percentile(twice, scored).map(f64::to_bits)
    };
    let rows = twice.iter().zip(groups);
    if let ByGroup::Few { numbers, places } = scored
        && let Some(starts) = starts(numbers)
    {
        let code =
            |(&twice, &group): (&u32, &u32)| starts[usize::from(places[group as usize])] + twice;
        let pairs = numbers.iter();
        let pairs = pairs.flat_map(|&n| {
            (0_u32..)
                .take_while(move |&t| u64::from(t) <= 2 * n)
                .map(move |t| (t, n))
        });
        return Cells::Coded {
            codes: rows.map(code).collect(),
            table: pairs.map(|(twice, scored)| cell(twice, scored)).collect(),
        };
    }
    let rows: Vec<(u32, u32)> = rows.map(|(&twice, &group)| (twice, group)).collect();
    Cells::of(&rows, |&(twice, group)| cell(twice, scored.get(group)))
}

/// Where the ranks of groups of each number of members begin; `None` if there are too many.
fn starts(scored: &[u64]) -> Option<Vec<u32>> {
    let mut all = 0_u64;
    let starts = scored.iter().map(|&n| {
        let start = all;
        all += 2 * n + 1;
        u32::try_from(start).ok()
    });
    let starts: Option<Vec<u32>> = starts.collect();
    starts.filter(|_| all <= ENTRIES as u64)
}

/// NaN is null.
fn number(bits: u64) -> Option<u64> {
    (!f64::from_bits(bits).is_nan()).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::Results;

    const COLUMNS: [Column; 6] = [
        Column::Rank,
        Column::Percentile,
        Column::Advantage,
        Column::Size,
        Column::Mean,
        Column::Std,
    ];

    /// Groups of `sizes`, the rows of each side by side, every fifth of them unscorable; `spread`
    /// different means.
    fn part(sizes: &[usize], spread: usize) -> Part {
        let mut part = Part::default();
        let (mut rank, mut mean) = (Vec::new(), Vec::new());
        for (group, &size) in sizes.iter().enumerate() {
            let code = part.interner.code(&group.to_le_bytes()).unwrap();
            part.codes.extend(std::iter::repeat_n(code, size));
            rank.extend((0..size).map(|row| match row % 5 {
                4 => f64::NAN,
                _ => (row - row / 5) as f64 + 1.0,
            }));
            mean.extend(std::iter::repeat_n((group % spread) as f64 / 3.0, size));
        }
        part.extend(mean.iter().copied());
        part.group();
        let std: Vec<f64> = mean
            .iter()
            .map(|&mean| if mean == 0.0 { f64::NAN } else { -mean })
            .collect();
        let results = Results {
            rank: &rank,
            advantage: &rank,
            keep: None,
            mean: &mean,
            std: &std,
            again: None,
        };
        part.put(&(0..sizes.len()), results);
        part.settle();
        part
    }

    fn rows(cells: Cells) -> Vec<Option<u64>> {
        match cells {
            Cells::Coded { codes, table } => {
                codes.iter().map(|&code| table[code as usize]).collect()
            }
            Cells::Each { values, levels } => {
                let levels = levels.unwrap_or_else(|| vec![1; values.len()]);
                let mut values = values.into_iter();
                let cells = levels.iter();
                cells
                    .map(|&level| (level == 1).then(|| values.next().unwrap()))
                    .collect()
            }
        }
    }

    #[test]
    fn a_column_has_the_same_cells_by_code_and_by_row_and_a_table_only_where_it_stays_small() {
        let ragged: Vec<usize> = (100..500).collect();
        let cases = [
            (part(&[3; 1000], 7), [true, true, false, true, true, true]),
            (
                part(&vec![1; 70_000], 70_000),
                [true, true, false, true, false, false],
            ),
            (
                part(&[50_000, 2], 2),
                [false, false, false, true, true, true],
            ),
            (part(&ragged, 9), [true, false, false, true, true, true]),
        ];
        for (part, small) in cases {
            let found = ScoreRows::Rows(&part, 1..part.len());
            let records = ScoreRows::Records((1..part.len()).map(|row| part.scored(row)).collect());
            for (column, small) in COLUMNS.into_iter().zip(small) {
                let cells = found.cells(column);
                assert_eq!(matches!(cells, Cells::Coded { .. }), small, "{column:?}");
                assert!(rows(cells) == rows(records.cells(column)), "{column:?}");
            }
        }
    }
}
