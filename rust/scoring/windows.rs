//! What rows are told, brought back from partitions of keys to windows of consecutive rows on disk.

use std::collections::VecDeque;
use std::ops::Range;

use super::coder::{Coder, fixed};
use super::dictionary::Dictionary;
use super::key_records::OFTEN;
use super::part::{Facts, Part};
use super::settings::Settings;
use super::spill_file::Buckets;
use super::varint;
use crate::error::StreamError;

/// Bytes that a row may take in a window: most if each has facts of its own.
const IN_MEMORY: usize = 56;
/// The share of the memory, in bytes for each of the facts, that common ones are kept in.
const PER_FACTS: usize = 1 << 10;

/// Windows of rows, some of them in memory.
#[derive(Debug)]
pub(super) struct Windows {
    buckets: Buckets,
    /// The place in its window of the last row that was sent there.
    last: Vec<u64>,
    /// The facts of groups that all windows share, at most so many, each kept once.
    facts: Dictionary<Facts>,
    most: usize,
    advantages: Coder,
    checked: bool,
    n_rows: u64,
    /// Rows per window.
    width: u64,
    /// The windows in memory, the last one that was read at the end.
    open: VecDeque<(usize, Part)>,
    most_open: usize,
}

impl Windows {
    /// Windows for `n_rows` rows.
    pub(super) fn new(n_rows: u64, settings: &Settings) -> Result<Self, StreamError> {
        // Rows of a file that are compared are asked for twice, and may lie in two windows.
        let most_open = 1 + usize::from(settings.checked);
        let held = (settings.budget / 2 / IN_MEMORY / most_open).max(1) as u64;
        // Not more windows than can be written in long pieces.
        let width = held.max(n_rows.div_ceil(1024));
        let windows = varint::index(n_rows.div_ceil(width));
        Ok(Self {
            buckets: Buckets::new(&settings.directory, windows)?,
            last: vec![0; windows],
            facts: Dictionary::default(),
            most: settings.budget / PER_FACTS,
            advantages: Coder::default(),
            checked: settings.checked,
            n_rows,
            width,
            open: VecDeque::new(),
            most_open,
        })
    }

    /// Sends what the rows of `part` are told to their windows; they are `rows`, which rise.
    pub(super) fn send(&mut self, part: &Part, rows: &[u64]) -> Result<(), StreamError> {
        let groups = (0..).take(part.n_groups());
        let facts: Vec<Facts> = groups.map(|group| part.facts(group)).collect();
        let places = facts.iter().map(|&facts| {
            let place = self.facts.place_among(facts, self.most);
            place.map_or(0, |place| u64::from(place) + 1)
        });
        let places: Vec<u64> = places.collect();
        let (mut number, mut first) = (0, 0);
        for (at, &row) in rows.iter().enumerate() {
            while row - first >= self.width {
                (number, first) = (number + 1, first + self.width);
            }
            let before = std::mem::replace(&mut self.last[number], row - first);
            // Each partition begins again at the first rows.
            let step = (row - first).checked_sub(before);
            let step = step.unwrap_or_else(|| row - first + self.width - before);
            let record = self.buckets.bucket(number);
            varint::write(step, record);
            let group = part.codes[at] as usize;
            varint::write(places[group], record);
            if places[group] == 0 {
                facts[group].write(record);
            }
            let dropped = u64::from(part.dropped(at));
            varint::write(u64::from(part.twice_rank(at)) << 1 | dropped, record);
            self.advantages.write(part.number(at).to_bits(), record);
            if self.checked {
                record.extend_from_slice(&part.checks[at].to_le_bytes());
            }
            if (at as u64).is_multiple_of(OFTEN) {
                self.buckets.write_full()?;
            }
        }
        Ok(())
    }

    /// As many of the rows `start..stop` as are in one window, and the window.
    pub(super) fn rows(
        &mut self,
        start: u64,
        stop: u64,
    ) -> Result<(&Part, Range<usize>), StreamError> {
        let number = varint::index(start / self.width);
        let first = number as u64 * self.width;
        let stop = stop.min(first + self.width);
        let rows = varint::index(start - first)..varint::index(stop - first);
        if !self.open.iter().any(|(open, _)| *open == number) {
            let window = self.load(number, self.width.min(self.n_rows - first))?;
            self.open.push_back((number, window));
        }
        let mut open = self.open.iter();
        let (_, window) = open.find(|(open, _)| *open == number).expect("read");
        Ok((window, rows))
    }

    /// Gives the rows `start..stop` window by window.
    pub(super) fn each(
        &mut self,
        start: u64,
        stop: u64,
        mut take: impl FnMut(&Part, Range<usize>),
    ) -> Result<(), StreamError> {
        let mut row = start;
        while row < stop {
            let (window, rows) = self.rows(row, stop)?;
            row += rows.len() as u64;
            take(window, rows);
        }
        Ok(())
    }

    /// Whether the rows `start..stop` are in one window.
    pub(super) fn is_one(&self, start: u64, stop: u64) -> bool {
        start / self.width == (stop.max(start + 1) - 1) / self.width
    }

    /// Reads the window `number` of `len` rows, in the memory of the oldest if there are enough.
    fn load(&mut self, number: usize, len: u64) -> Result<Part, StreamError> {
        let oldest = if self.open.len() == self.most_open {
            self.open.pop_front()
        } else {
            None
        };
        let mut part = oldest.map_or_else(Part::default, |(_, part)| part);
        part.begin(varint::index(len), self.checked, self.facts.values());
        let mut row = 0;
        self.buckets.read(number, |mut piece| {
            while let Some(step) = varint::take(&mut piece) {
                row += step;
                if row >= self.width {
                    row -= self.width;
                }
                let group = match varint::take(&mut piece).expect("whole records") {
                    0 => part.add(Facts::take(&mut piece)),
                    place => varint::index(place - 1),
                };
                let rank = varint::take(&mut piece).expect("whole records");
                let advantage = self.advantages.take(&mut piece);
                let at = varint::index(row);
                part.tell(at, group, (rank >> 1, rank & 1 == 1), advantage);
                if self.checked {
                    part.checks[at] = u32::from_le_bytes(fixed(&mut piece));
                }
            }
            Ok::<(), StreamError>(())
        })?;
        part.shared.settle();
        Ok(part)
    }
}

impl Facts {
    fn write(&self, out: &mut Vec<u8>) {
        varint::write(u64::from(self.size), out);
        varint::write(u64::from(self.scored), out);
        out.extend_from_slice(&self.mean.to_le_bytes());
        out.extend_from_slice(&self.std.to_le_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Self {
        let mut count = || {
            let count = varint::take(bytes).expect("whole records");
            u32::try_from(count).expect("was one of 32 bits")
        };
        Self {
            size: count(),
            scored: count(),
            mean: u64::from_le_bytes(fixed(bytes)),
            std: u64::from_le_bytes(fixed(bytes)),
        }
    }
}
