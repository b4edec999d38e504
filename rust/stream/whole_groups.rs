//! Finds the borders of groups and gives the rows between them.

use std::collections::VecDeque;
use std::fmt;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;

use super::started::StartedKeys;
use crate::error::StreamError;
use crate::keys::rows::{Keys, key_columns};
use crate::pool::CHECK_EVERY;

/// Some whole groups, one after the other.
#[derive(Debug, Clone)]
pub struct GroupBatch {
    /// Their rows, in the order in which they came.
    pub batch: RecordBatch,
    /// Group `g` owns the rows `offsets[g]..offsets[g + 1]` of `batch`.
    pub offsets: Vec<usize>,
    /// The row of the stream that is row 0 of `batch`.
    pub first_row: usize,
}

/// What [`WholeGroups::step`] did.
#[derive(Debug, Clone)]
pub enum Step {
    /// The next groups.
    GroupBatch(GroupBatch),
    /// A record batch was read, a stretch of it, or it was found to have been the last.
    Read,
    /// Every group has been given.
    End,
}

/// Cuts a stream of record batches, in which the rows of a group lie side by side, into
/// batches of whole groups, however the borders of the record batches fall.
///
/// Holds the rows of the groups to be given next and at most one record batch more, and every
/// key it has met: a key that comes back after another one began is an error, never a second
/// group.
#[derive(Debug)]
pub struct WholeGroups<R> {
    reader: R,
    by: Vec<String>,
    key: Vec<usize>,
    batch_groups: usize,
    pending: VecDeque<RecordBatch>,
    /// The rows at which the groups that are in `pending` begin.
    starts: VecDeque<usize>,
    /// The first row of the batch that is being scanned, or of the next.
    row: usize,
    scan: Option<Scan>,
    open: Vec<u8>,
    seen: StartedKeys,
    ended: bool,
}

/// The keys of the last record batch, and how far they were looked at.
struct Scan {
    keys: Keys,
    next: usize,
    rows: usize,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan({} of {})", self.next, self.rows)
    }
}

impl<R: RecordBatchReader> WholeGroups<R> {
    /// Cuts `reader` where the columns `by` change, `batch_groups` groups at a time.
    ///
    /// `first_row` is the number of the first row of `reader` where it is the rest of a stream.
    ///
    /// # Errors
    /// If a key column is missing or cannot be a key, or `batch_groups` is 0.
    pub fn new(
        reader: R,
        by: Vec<String>,
        batch_groups: usize,
        first_row: usize,
    ) -> Result<Self, StreamError> {
        if batch_groups == 0 {
            return Err(StreamError::NoGroups);
        }
        let key = key_columns(&reader.schema(), &by)?;
        Ok(Self {
            reader,
            by,
            key,
            batch_groups,
            pending: VecDeque::new(),
            starts: VecDeque::new(),
            row: first_row,
            scan: None,
            open: Vec::new(),
            seen: StartedKeys::default(),
            ended: false,
        })
    }

    /// Gives the next groups if all their rows are here, and otherwise reads on a little.
    ///
    /// # Errors
    /// If the producer fails, a key is null, a key comes back, or Arrow can't join the record
    /// batches of a cut. The stream ends with that.
    pub fn step(&mut self) -> Result<Step, StreamError> {
        let closed = if self.ended {
            self.starts.len()
        } else {
            self.starts.len().max(1) - 1
        };
        let groups = closed.min(self.batch_groups);
        let step = if groups == self.batch_groups || (self.ended && groups > 0) {
            self.cut(groups).map(Step::GroupBatch)
        } else if self.ended {
            return Ok(Step::End);
        } else {
            self.read()
        };
        if step.is_err() {
            // The open group may lack rows, so it must not be given as if it were whole.
            self.ended = true;
            self.pending.clear();
            self.starts.clear();
        }
        step
    }

    fn read(&mut self) -> Result<Step, StreamError> {
        let scan = if let Some(scan) = self.scan.take() {
            scan
        } else if let Some(batch) = self.reader.next() {
            self.keep(batch.map_err(from_source)?)?
        } else {
            self.ended = true;
            return Ok(Step::Read);
        };
        self.scan(scan)?;
        Ok(Step::Read)
    }

    fn keep(&mut self, batch: RecordBatch) -> Result<Scan, StreamError> {
        let keys = Keys::of(&batch, &self.key).map_err(from_source)?;
        let (next, rows) = (0, batch.num_rows());
        if rows > 0 {
            self.pending.push_back(batch);
        }
        Ok(Scan { keys, next, rows })
    }

    /// Finds where groups begin in the next stretch of the last batch.
    fn scan(&mut self, scan: Scan) -> Result<(), StreamError> {
        let Scan { keys, next, rows } = scan;
        let sound = keys.first_null.map_or(rows, |(row, _)| row);
        let end = sound.min(next + CHECK_EVERY);
        let mut key = Vec::new();
        for row in next..end {
            if row > 0 && keys.same(row - 1, row) {
                continue;
            }
            keys.encode(row, &mut key);
            // Row 0 of a later batch may continue the open group.
            if row == 0 && !self.starts.is_empty() && key == self.open {
                continue;
            }
            let (row, open) = (self.row + row, &mut self.open);
            self.seen.insert(&key, row)?;
            self.starts.push_back(row);
            open.clone_from(&key);
        }
        match keys.first_null {
            _ if end < sound => {
                let next = end;
                self.scan = Some(Scan { keys, next, rows });
            }
            Some((row, place)) => {
                let (name, row) = (self.by[place].clone(), self.row + row);
                return Err(StreamError::NullKey { name, row });
            }
            None => self.row += rows,
        }
        Ok(())
    }

    /// Takes the first `groups` groups out of `pending`.
    fn cut(&mut self, groups: usize) -> Result<GroupBatch, StreamError> {
        let mut starts: Vec<usize> = self.starts.drain(..groups).collect();
        starts.push(self.starts.front().copied().unwrap_or(self.row));
        let first_row = starts[0];
        let offsets: Vec<usize> = starts.iter().map(|start| start - first_row).collect();
        let batch = self.take(offsets[groups])?;
        Ok(GroupBatch {
            batch,
            offsets,
            first_row,
        })
    }

    /// Takes the first `rows` rows out of `pending`, without a copy where one batch holds them.
    fn take(&mut self, rows: usize) -> Result<RecordBatch, StreamError> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let batch = self
                .pending
                .pop_front()
                .expect("a start is pushed with its rows");
            let part = batch.num_rows().min(missing);
            if part < batch.num_rows() {
                self.pending
                    .push_front(batch.slice(part, batch.num_rows() - part));
            }
            parts.push(batch.slice(0, part));
            missing -= part;
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        concat_batches(&self.reader.schema(), &parts).map_err(from_source)
    }
}

impl<R: RecordBatchReader> Iterator for WholeGroups<R> {
    type Item = Result<GroupBatch, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(Step::Read) => {}
                Ok(Step::GroupBatch(cut)) => return Some(Ok(cut)),
                Ok(Step::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The producer's own words, without Arrow's names for the way they took.
fn from_source(error: ArrowError) -> StreamError {
    StreamError::Source(match error {
        ArrowError::CDataInterface(message) => message,
        other => other.to_string(),
    })
}
