//! Rows that do not fit the memory: partitioned by key on disk, scored one partition after the
//! other, and brought back to row order through windows of rows.

use super::part::Part;
use super::scored::Scored;
use super::settings::Settings;
use super::spill_file::Buckets;
use super::varint;
use crate::error::StreamError;

/// Partitions of the keys.
const PARTITIONS: usize = 128;
/// Bytes of a row's scores in a window.
const IN_MEMORY: usize = size_of::<Scored>();
/// Rows after which full buckets are written.
const OFTEN: u64 = 1 << 14;

#[derive(Debug)]
pub(super) struct Spilled {
    keys: Buckets,
    /// The row of the last record of each bucket of keys: the next one says how far it is on.
    last: Vec<u64>,
    windows: Option<Buckets>,
    settings: Settings,
    /// The partition in memory, the rows that its rows are, and the number of the next one.
    part: Part,
    rows: Vec<u64>,
    next: usize,
    n_rows: u64,
    /// Rows per window, and the window in memory.
    width: u64,
    window: Option<(usize, Vec<Scored>)>,
}

impl Spilled {
    /// Moves what is in memory to the disk.
    pub(super) fn new(part: &Part, settings: &Settings) -> Result<Self, StreamError> {
        let mut spilled = Self {
            keys: Buckets::new(&settings.directory, PARTITIONS)?,
            last: vec![0; PARTITIONS],
            windows: None,
            settings: settings.clone(),
            part: Part::default(),
            rows: Vec::new(),
            next: 0,
            n_rows: 0,
            width: 1,
            window: None,
        };
        for row in 0..part.len() {
            let key = part.interner.key(part.codes[row]);
            let check = part.checks.get(row).copied().unwrap_or(0);
            spilled.push(key, part.number(row), row as u64, check)?;
        }
        Ok(spilled)
    }

    pub(super) fn push(
        &mut self,
        key: &[u8],
        reward: f64,
        row: u64,
        check: u32,
    ) -> Result<(), StreamError> {
        let bucket = partition(key);
        let step = row - std::mem::replace(&mut self.last[bucket], row);
        let record = self.keys.bucket(bucket);
        varint::write(key.len() as u64, record);
        varint::write(step, record);
        record.extend_from_slice(&reward.to_le_bytes());
        if self.settings.checked {
            record.extend_from_slice(&check.to_le_bytes());
        }
        record.extend_from_slice(key);
        if row.is_multiple_of(OFTEN) {
            self.keys.write_full()?;
        }
        Ok(())
    }

    /// Ends the feeding: `n_rows` have come.
    pub(super) fn start(&mut self, n_rows: u64) -> Result<(), StreamError> {
        let held = (self.settings.budget / 2 / IN_MEMORY).max(1) as u64;
        // Not more windows than can be written in long pieces.
        self.width = held.max(n_rows.div_ceil(1024));
        let windows = usize::try_from(n_rows.div_ceil(self.width)).unwrap_or(1);
        self.windows = Some(Buckets::new(&self.settings.directory, windows)?);
        self.n_rows = n_rows;
        Ok(())
    }

    /// The partition that holds the group after `done`, and the number of the group in it.
    pub(super) fn part_after(
        &mut self,
        done: usize,
    ) -> Result<Option<(&mut Part, usize)>, StreamError> {
        if done < self.part.n_groups() {
            return Ok(Some((&mut self.part, done)));
        }
        self.send()?;
        while self.next < PARTITIONS {
            self.load()?;
            if self.part.len() > 0 {
                return Ok(Some((&mut self.part, 0)));
            }
        }
        Ok(None)
    }

    pub(super) fn part(&mut self) -> &mut Part {
        &mut self.part
    }

    /// Reads the next partition and groups it.
    fn load(&mut self) -> Result<(), StreamError> {
        let (number, budget) = (self.next, self.settings.budget);
        self.next += 1;
        let needed = self.keys.len(number) + self.keys.len(number) / 2;
        if needed > 2 * budget {
            return Err(StreamError::LittleMemory { needed });
        }
        let (part, rows) = (&mut self.part, &mut self.rows);
        let checked = self.settings.checked;
        let mut row = 0;
        self.keys
            .read(number, |piece| read(piece, part, rows, &mut row, checked))?;
        part.group();
        Ok(())
    }

    /// Sends the rows of the partition in memory to their windows.
    fn send(&mut self) -> Result<(), StreamError> {
        let windows = self.windows.as_mut().expect("started");
        let checked = self.settings.checked;
        for (at, &row) in self.rows.iter().enumerate() {
            let number = usize::try_from(row / self.width).unwrap_or(usize::MAX);
            let record = windows.bucket(number);
            varint::write(row % self.width, record);
            put(&self.part.scored(at), checked, record);
            if (at as u64).is_multiple_of(OFTEN) {
                windows.write_full()?;
            }
        }
        self.part = Part::default();
        self.rows.clear();
        Ok(())
    }

    /// What the rows `start..stop` are told.
    pub(super) fn scored(&mut self, start: u64, stop: u64) -> Result<Vec<Scored>, StreamError> {
        let mut found = Vec::new();
        let mut row = start;
        while row < stop {
            let number = usize::try_from(row / self.width).unwrap_or(usize::MAX);
            let first = number as u64 * self.width;
            let window = self.open(number, first)?;
            let end = stop.min(first + window.len() as u64);
            let place = |row: u64| usize::try_from(row - first).unwrap_or(usize::MAX);
            found.extend_from_slice(&window[place(row)..place(end)]);
            row = end;
        }
        Ok(found)
    }

    /// The window of that number; the one before is let go.
    fn open(&mut self, number: usize, first: u64) -> Result<&[Scored], StreamError> {
        if self.window.as_ref().is_none_or(|(open, _)| *open != number) {
            self.window = None;
            let len = self.width.min(self.n_rows - first);
            let mut window = vec![Scored::default(); usize::try_from(len).unwrap_or(0)];
            let pieces = self.windows.as_ref().expect("started");
            let checked = self.settings.checked;
            pieces.read(number, |mut piece| {
                while let Some(place) = varint::take(&mut piece) {
                    let place = usize::try_from(place).expect("in the window");
                    window[place] = take(&mut piece, checked);
                }
                Ok::<(), StreamError>(())
            })?;
            self.window = Some((number, window));
        }
        Ok(self.window.as_ref().map_or(&[], |(_, window)| window))
    }
}

/// Not the hash of the tables, which would then be full of collisions.
fn partition(key: &[u8]) -> usize {
    usize::try_from(xxhash_rust::xxh3::xxh3_64(key) % PARTITIONS as u64).unwrap_or(0)
}

/// Reads the records of a piece, the first of which comes after `row`.
fn read(
    mut piece: &[u8],
    part: &mut Part,
    rows: &mut Vec<u64>,
    row: &mut u64,
    checked: bool,
) -> Result<(), StreamError> {
    while let Some(len) = varint::take(&mut piece) {
        *row += varint::take(&mut piece).expect("whole records");
        rows.push(*row);
        part.extend(std::iter::once(f64::from_le_bytes(bytes(&mut piece))));
        if checked {
            part.checks.push(u32::from_le_bytes(bytes(&mut piece)));
        }
        let (key, rest) = piece.split_at(usize::try_from(len).expect("was in memory"));
        let code = part.interner.code(key).ok_or(StreamError::TooManyGroups)?;
        part.codes.push(code);
        piece = rest;
    }
    Ok(())
}

/// Appends what a row is told to `record`.
fn put(scored: &Scored, checked: bool, record: &mut Vec<u8>) {
    for number in [scored.twice_rank, scored.size, scored.scored] {
        varint::write(u64::from(number), record);
    }
    if checked {
        record.extend_from_slice(&scored.check.to_le_bytes());
    }
    record.push(u8::from(scored.keep));
    for float in [scored.advantage, scored.mean, scored.std] {
        record.extend_from_slice(&float.to_le_bytes());
    }
}

/// Takes what [`put`] has appended.
fn take(record: &mut &[u8], checked: bool) -> Scored {
    let mut number = || {
        let number = varint::take(record).expect("whole records");
        u32::try_from(number).expect("was one of 32 bits")
    };
    let (twice_rank, size, scored) = (number(), number(), number());
    let check = if checked {
        u32::from_le_bytes(bytes(record))
    } else {
        0
    };
    let [keep] = bytes(record);
    let mut float = || f64::from_le_bytes(bytes(record));
    Scored {
        twice_rank,
        size,
        scored,
        check,
        keep: keep == 1,
        advantage: float(),
        mean: float(),
        std: float(),
    }
}

fn bytes<const N: usize>(piece: &mut &[u8]) -> [u8; N] {
    let (found, rest) = piece.split_first_chunk().expect("whole records");
    *piece = rest;
    *found
}
