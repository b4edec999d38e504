//! Rows that do not fit the memory: partitioned by key on disk, scored one partition after the
//! other, and brought back to row order through windows of rows.

use super::key_records::{KeyRecords, PARTITIONS};
use super::part::Part;
use super::scored::Scored;
use super::settings::Settings;
use super::windows::Windows;
use crate::error::StreamError;

#[derive(Debug)]
pub(super) struct Spilled {
    keys: KeyRecords,
    windows: Option<Windows>,
    settings: Settings,
    /// The partition in memory, the rows that its rows are, and the number of the next one.
    part: Part,
    rows: Vec<u64>,
    next: usize,
}

impl Spilled {
    /// Moves what is in memory to the disk.
    pub(super) fn new(part: &Part, settings: &Settings) -> Result<Self, StreamError> {
        let mut spilled = Self {
            keys: KeyRecords::new(settings)?,
            windows: None,
            settings: settings.clone(),
            part: Part::default(),
            rows: Vec::new(),
            next: 0,
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
        self.keys.push(key, reward, row, check)
    }

    /// Ends the feeding: `n_rows` have come.
    pub(super) fn start(&mut self, n_rows: u64) -> Result<(), StreamError> {
        self.windows = Some(Windows::new(n_rows, &self.settings)?);
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
        let number = self.next;
        self.next += 1;
        let needed = self.keys.needed(number);
        if needed > 2 * self.settings.budget {
            return Err(StreamError::LittleMemory { needed });
        }
        self.keys.read(number, &mut self.part, &mut self.rows)?;
        self.part.group();
        Ok(())
    }

    /// Sends the rows of the partition in memory to their windows.
    fn send(&mut self) -> Result<(), StreamError> {
        let (part, rows) = (std::mem::take(&mut self.part), &mut self.rows);
        let windows = self.windows.as_mut().expect("started");
        windows.send(&part, rows)?;
        rows.clear();
        Ok(())
    }

    /// The windows, which have what all rows are told.
    pub(super) fn windows(&mut self) -> &mut Windows {
        self.windows.as_mut().expect("started")
    }

    /// What the rows `start..stop` are told.
    pub(super) fn scored(&mut self, start: u64, stop: u64) -> Result<Vec<Scored>, StreamError> {
        let mut found = Vec::new();
        self.windows().each(start, stop, |part, rows| {
            found.extend(rows.map(|row| part.scored(row)));
        })?;
        Ok(found)
    }
}
