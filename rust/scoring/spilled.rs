//! Rows that do not fit the memory: partitioned by key on disk, scored one partition after the
//! other, and brought back to row order through windows of rows.

use super::part::Part;
use super::scored::Scored;
use super::settings::Settings;
use super::spill_file::Buckets;
use crate::error::StreamError;

/// Partitions of the keys.
const PARTITIONS: usize = 128;
/// Bytes of a row's scores in a window.
const IN_MEMORY: usize = size_of::<Scored>();
/// Bytes of a record before its key: its length, reward, row and check.
const HEAD: usize = 4 + 8 + 8 + 4;

#[derive(Debug)]
pub(super) struct Spilled {
    keys: Buckets,
    windows: Option<Buckets>,
    settings: Settings,
    /// The partition in memory, the rows that its rows are, and the number of the next one.
    part: Part,
    rows: Vec<u64>,
    next: usize,
    n_groups: usize,
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
            windows: None,
            settings: settings.clone(),
            part: Part::default(),
            rows: Vec::new(),
            next: 0,
            n_groups: 0,
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

    pub(super) fn n_groups(&self) -> usize {
        self.n_groups
    }

    pub(super) fn push(
        &mut self,
        key: &[u8],
        reward: f64,
        row: u64,
        check: u32,
    ) -> Result<(), StreamError> {
        let len = u32::try_from(key.len()).map_err(|_| StreamError::TooManyGroups)?;
        let record: [&[u8]; 5] = [
            &len.to_le_bytes(),
            &reward.to_le_bytes(),
            &row.to_le_bytes(),
            &check.to_le_bytes(),
            key,
        ];
        Ok(self.keys.push(partition(key), &record)?)
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
        self.keys
            .read(number, |piece| read(piece, part, rows, checked))?;
        self.n_groups += part.n_groups();
        part.group();
        Ok(())
    }

    /// Sends the rows of the partition in memory to their windows.
    fn send(&mut self) -> Result<(), StreamError> {
        let windows = self.windows.as_mut().expect("started");
        for (at, &row) in self.rows.iter().enumerate() {
            let scored = self.part.scored(at);
            let window = usize::try_from(row / self.width).unwrap_or(usize::MAX);
            windows.push(window, &[&row.to_le_bytes(), &bytes(&scored)])?;
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
            let pieces = self.windows.as_mut().expect("started");
            pieces.read(number, |piece| {
                for record in piece.chunks_exact(8 + RECORD) {
                    let (row, scored) = record.split_at(8);
                    let row = u64::from_le_bytes(row.try_into().expect("8 bytes"));
                    window[usize::try_from(row - first).expect("in the window")] = parse(scored);
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

/// Reads the records of a piece.
fn read(
    mut piece: &[u8],
    part: &mut Part,
    rows: &mut Vec<u64>,
    checked: bool,
) -> Result<(), StreamError> {
    while let Some((head, rest)) = piece.split_at_checked(HEAD) {
        let len = u32::from_le_bytes(head[..4].try_into().expect("4 bytes")) as usize;
        let (key, rest) = rest.split_at(len);
        let code = part.interner.code(key).ok_or(StreamError::TooManyGroups)?;
        part.codes.push(code);
        let reward = f64::from_le_bytes(head[4..12].try_into().expect("8 bytes"));
        part.extend([reward].into_iter());
        rows.push(u64::from_le_bytes(
            head[12..20].try_into().expect("8 bytes"),
        ));
        if checked {
            let check = head[20..].try_into().expect("4 bytes");
            part.checks.push(u32::from_le_bytes(check));
        }
        piece = rest;
    }
    Ok(())
}

/// Bytes of a row's scores on disk.
const RECORD: usize = 4 * 4 + 1 + 3 * 8;

fn bytes(scored: &Scored) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let words = [scored.twice_rank, scored.size, scored.scored, scored.check];
    for (to, word) in record[..16].chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    record[16] = u8::from(scored.keep);
    let floats = [scored.advantage, scored.mean, scored.std];
    for (to, float) in record[17..].chunks_exact_mut(8).zip(floats) {
        to.copy_from_slice(&float.to_le_bytes());
    }
    record
}

fn parse(record: &[u8]) -> Scored {
    let word = |at: usize| {
        let bytes = record[4 * at..4 * at + 4].try_into().expect("4 bytes");
        u32::from_le_bytes(bytes)
    };
    let float = |at: usize| {
        let start = 17 + 8 * at;
        f64::from_le_bytes(record[start..start + 8].try_into().expect("8 bytes"))
    };
    Scored {
        twice_rank: word(0),
        size: word(1),
        scored: word(2),
        check: word(3),
        keep: record[16] == 1,
        advantage: float(0),
        mean: float(1),
        std: float(2),
    }
}
