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

/// A file whose bytes are digested on their way.
pub(super) struct Hashed {
    file: BufWriter<File>,
    hash: Box<Xxh3>,
    bytes: u64,
}

impl Hashed {
    /// Makes the file `target`.
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, File::create(target)?),
            hash: Box::new(Xxh3::new()),
            bytes: 0,
        })
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
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
