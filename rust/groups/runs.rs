//! Runs of neighbouring rows that share an id, found before anything is hashed.

use super::ids::Ids;
use super::index::to_u32;
use crate::error::Error;
use crate::pool::{self, CHECK_EVERY, Cancel};

/// Rows per task.
const TASK: usize = 1 << 18;

/// Runs of rows that are known to share an id.
#[derive(Debug)]
pub(crate) enum Runs {
    /// Row by row.
    Rows(usize),
    /// Runs, by their first rows; rows up to the next start belong to the run.
    Equal {
        starts: Vec<u32>,
        n_rows: usize,
        rising: bool,
    },
    /// Single rows, others being dropped.
    Kept(Vec<u32>),
}

impl Runs {
    /// The rows whose id is not null.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn kept(null: &[bool], cancel: &Cancel) -> Result<Self, Error> {
        let mut kept = Vec::new();
        for (block, null) in null.chunks(CHECK_EVERY).enumerate() {
            cancel.check()?;
            let rows = (block * CHECK_EVERY..)
                .zip(null)
                .filter(|&(_, &null)| !null);
            kept.extend(rows.map(|(row, _)| to_u32(row)));
        }
        Ok(Self::Kept(kept))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Rows(n) => *n,
            Self::Equal { starts, .. } => starts.len(),
            Self::Kept(rows) => rows.len(),
        }
    }

    #[inline]
    pub(crate) fn rows(&self, item: usize) -> std::ops::Range<u32> {
        match self {
            Self::Rows(_) => to_u32(item)..to_u32(item) + 1,
            Self::Equal { starts, n_rows, .. } => {
                starts[item]..starts.get(item + 1).map_or(to_u32(*n_rows), |&next| next)
            }
            Self::Kept(rows) => rows[item]..rows[item] + 1,
        }
    }

    #[inline]
    pub(crate) fn first(&self, item: usize) -> usize {
        match self {
            Self::Rows(_) => item,
            Self::Equal { starts: rows, .. } | Self::Kept(rows) => rows[item] as usize,
        }
    }

    /// Whether the ids of all items are known to differ, because they rise.
    pub(crate) fn all_differ(&self) -> bool {
        matches!(self, Self::Equal { rising: true, .. })
    }

    /// The offsets of the groups if every item is a group.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn offsets(&self, cancel: &Cancel) -> Result<Vec<i64>, Error> {
        let mut offsets = Vec::with_capacity(self.len() + 1);
        for from in (0..self.len()).step_by(CHECK_EVERY) {
            cancel.check()?;
            let own = from..self.len().min(from + CHECK_EVERY);
            match self {
                Self::Equal { starts, .. } => {
                    offsets.extend(starts[own].iter().map(|&start| i64::from(start)));
                }
                _ => offsets.extend(own.map(|item| i64::from(to_u32(item)))),
            }
        }
        let end = match self {
            Self::Equal { n_rows, .. } => *n_rows,
            _ => self.len(),
        };
        offsets.push(i64::from(to_u32(end)));
        Ok(offsets)
    }
}

/// Finds runs of equal neighbours, unless a sample shows that there are hardly any.
pub(crate) fn find<I: Ids>(ids: &I, cancel: &Cancel) -> Result<Runs, Error> {
    let n_rows = ids.len();
    if !runs_are_likely(ids) {
        return Ok(Runs::Rows(n_rows));
    }
    let blocks = pool::map((0..n_rows).step_by(TASK), |from| {
        cancel.check()?;
        let mut starts = Vec::new();
        let mut rising = true;
        for row in from..n_rows.min(from + TASK) {
            if row == 0 || !ids.same(row - 1, row) {
                rising &= row == 0 || ids.rises(row - 1, row);
                starts.push(to_u32(row));
            }
        }
        Ok((starts, rising))
    })?;
    let rising = blocks.iter().all(|&(_, rising)| rising);
    let mut starts = Vec::with_capacity(blocks.iter().map(|(starts, _)| starts.len()).sum());
    for (block, _) in blocks {
        cancel.check()?;
        starts.extend_from_slice(&block);
    }
    Ok(Runs::Equal {
        starts,
        n_rows,
        rising,
    })
}

/// Looks at 64 samples of 64 rows: is every second neighbour, or more, the same?
fn runs_are_likely<I: Ids>(ids: &I) -> bool {
    let n_rows = ids.len();
    let stride = (n_rows / 64).max(64);
    let (mut same, mut seen, mut sorted) = (0, 0, true);
    for from in (0..n_rows).step_by(stride) {
        for row in from + 1..n_rows.min(from + 64) {
            let equal = ids.same(row - 1, row);
            seen += 1;
            same += usize::from(equal);
            sorted = sorted && (equal || ids.rises(row - 1, row));
        }
    }
    2 * same >= seen || sorted
}
