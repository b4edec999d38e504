//! Records sorted into buckets through one nameless temporary file, whose pieces are packed.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rayon::prelude::*;
use zstd::bulk::{Compressor, Decompressor};

/// Memory that all buckets together may hold before they are written.
const HELD: usize = 16 << 20;
/// The fastest that packs: disks are slower, and smaller than what is spilled.
const LEVEL: i32 = 1;

/// Buckets of bytes, written a piece at a time; the file is gone when this process is.
#[derive(Debug)]
pub(super) struct Buckets {
    file: File,
    end: u64,
    held: Vec<Vec<u8>>,
    written: Vec<Vec<Piece>>,
    /// Bytes of a bucket from which on they are written.
    patience: usize,
}

/// Where a piece lies in the file, and its bytes there and unpacked.
#[derive(Debug)]
struct Piece {
    start: u64,
    packed: usize,
    len: usize,
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
            written: (0..buckets).map(|_| Vec::new()).collect(),
            patience: HELD / buckets.max(1),
        })
    }

    /// The bytes of a bucket, at whose end a record is to be put; no piece cuts it.
    pub(super) fn bucket(&mut self, bucket: usize) -> &mut Vec<u8> {
        &mut self.held[bucket]
    }

    /// Writes the buckets that hold enough; to be called every few thousand records.
    pub(super) fn write_full(&mut self) -> io::Result<()> {
        let patience = self.patience;
        let full = self.held.iter_mut().enumerate();
        let full: Vec<_> = full.filter(|(_, held)| held.len() >= patience).collect();
        // To begin packing costs as much as some pieces do.
        let share = full.len().div_ceil(rayon::current_num_threads()).max(1);
        let packed: io::Result<Vec<(usize, usize, Vec<u8>)>> = full
            .into_par_iter()
            .with_min_len(share)
            .map_init(
                || Compressor::new(LEVEL),
                |zstd, (bucket, held)| {
                    let zstd = zstd
                        .as_mut()
                        .map_err(|error| io::Error::other(error.to_string()))?;
                    let packed = zstd.compress(held)?;
                    let len = held.len();
                    held.clear();
                    Ok((bucket, len, packed))
                },
            )
            .collect();
        for (bucket, len, packed) in packed? {
            self.file.write_all_at(&packed, self.end)?;
            self.written[bucket].push(Piece {
                start: self.end,
                packed: packed.len(),
                len,
            });
            self.end += packed.len() as u64;
        }
        Ok(())
    }

    /// Gives the pieces of one bucket in the order in which they came.
    pub(super) fn read<E: From<io::Error>>(
        &self,
        bucket: usize,
        mut piece: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut zstd = Decompressor::new()?;
        let (mut packed, mut buffer) = (Vec::new(), Vec::new());
        for written in &self.written[bucket] {
            packed.resize(written.packed, 0);
            self.file.read_exact_at(&mut packed, written.start)?;
            buffer.resize(written.len, 0);
            zstd.decompress_to_buffer(&packed, &mut buffer[..])?;
            piece(&buffer)?;
        }
        piece(&self.held[bucket])
    }
}
