//! Files read and written in long pieces, digested on the way.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};
use xxhash_rust::xxh3::Xxh3;

/// Bytes read and written at a time.
const BUFFER: usize = 1 << 20;

/// A file that is read in long pieces.
pub(super) struct Chunks(pub(super) File);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut file = self.0.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::with_capacity(BUFFER, file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Bytes after which the disk is asked to begin.
const STRIDE: u64 = 8 << 20;

/// A file whose bytes are digested on their way.
pub(super) struct Hashed {
    file: BufWriter<File>,
    hash: Box<Xxh3>,
    bytes: u64,
    /// Bytes that the disk has been asked to take.
    begun: u64,
}

impl Hashed {
    /// Makes the file `target`.
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, File::create(target)?),
            hash: Box::new(Xxh3::new()),
            bytes: 0,
            begun: 0,
        })
    }

    /// Lets the disk begin with what is written, so that less is left for the end to wait for.
    fn begin(&mut self) {
        use rustix::fs::{Advice, fadvise};
        if self.bytes - self.begun >= STRIDE {
            let stride = std::num::NonZeroU64::new(self.bytes - self.begun);
            // The kernel starts to write pages that are said to be needed no more. A refusal of
            // advice is no failure, and one of the disk is told by `sync_all`.
            let _ = fadvise(self.file.get_ref(), self.begun, stride, Advice::DontNeed);
            self.begun = self.bytes;
        }
    }

    /// Brings the file to the disk; returns its bytes and their XXH3 digest.
    pub(super) fn finish(&mut self) -> io::Result<(u64, u128)> {
        self.flush()?;
        self.file.get_ref().sync_all()?;
        Ok((self.bytes, self.hash.digest128()))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        self.begin();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
