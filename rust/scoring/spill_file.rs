//! Records sorted into buckets through one nameless temporary file.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Memory that all buckets together may hold before they are written.
const HELD: usize = 16 << 20;

/// Buckets of bytes, written a piece at a time; the file is gone when this process is.
#[derive(Debug)]
pub(super) struct Buckets {
    file: File,
    end: u64,
    held: Vec<Vec<u8>>,
    written: Vec<Vec<(u64, usize)>>,
    /// Bytes of a bucket that are held at most.
    patience: usize,
}

impl Buckets {
    /// Makes the temporary file inside `directory`.
    pub(super) fn new(directory: &Path, buckets: usize) -> io::Result<Self> {
        let path = directory.join(format!(".gspo_rs-spill-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(&path)?;
        remove_file(&path)?;
        Ok(Self {
            file,
            end: 0,
            held: vec![Vec::new(); buckets],
            written: vec![Vec::new(); buckets],
            patience: HELD / buckets.max(1),
        })
    }

    /// Appends one record, which is never cut by the border of a piece.
    pub(super) fn push(&mut self, bucket: usize, record: &[&[u8]]) -> io::Result<()> {
        for part in record {
            self.held[bucket].extend_from_slice(part);
        }
        if self.held[bucket].len() >= self.patience {
            self.write(bucket)?;
        }
        Ok(())
    }

    fn write(&mut self, bucket: usize) -> io::Result<()> {
        let held = &mut self.held[bucket];
        self.file.write_all_at(held, self.end)?;
        self.written[bucket].push((self.end, held.len()));
        self.end += held.len() as u64;
        held.clear();
        Ok(())
    }

    /// Bytes of one bucket.
    pub(super) fn len(&self, bucket: usize) -> usize {
        let written: usize = self.written[bucket].iter().map(|&(_, len)| len).sum();
        written + self.held[bucket].len()
    }

    /// Gives the pieces of one bucket in the order in which they came.
    pub(super) fn read<E: From<io::Error>>(
        &self,
        bucket: usize,
        mut piece: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = Vec::new();
        for &(start, len) in &self.written[bucket] {
            buffer.resize(len, 0);
            self.file.read_exact_at(&mut buffer, start)?;
            piece(&buffer)?;
        }
        piece(&self.held[bucket])
    }
}
