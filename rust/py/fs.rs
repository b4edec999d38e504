//! Binds what `gspo_rs.files` asks of the disk.

use std::path::PathBuf;

use parquet::errors::ParquetError;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use crate::scoring::parquet::{note, pages};

/// The XXH3 digest of a file, or of its first `size` bytes, 128 bits, as `xxh128sum` prints it.
#[pyfunction]
#[pyo3(signature = (path, size=None))]
pub(super) fn file_digest(py: Python<'_>, path: PathBuf, size: Option<u64>) -> PyResult<String> {
    py.detach(|| {
        use std::io::Read;
        let mut file = std::fs::File::open(path)?.take(size.unwrap_or(u64::MAX));
        let mut hash = Xxh3::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(hash.digest128())),
                n => hash.update(&buffer[..n]),
            }
        }
    })
}

/// Checks the footer of a Parquet file, and the pages of `columns` that carry checksums; returns
/// its number of row groups, and the rows of the largest.
#[pyfunction]
pub(super) fn check_parquet(
    py: Python<'_>,
    path: PathBuf,
    columns: Vec<String>,
) -> PyResult<(usize, i64)> {
    py.detach(|| pages::check(&path, &columns))
        .map_err(|error| PyOSError::new_err(message(&error)))
}

/// Returns the number of the row group whose `columns`, or all columns, take the most bytes in a
/// Parquet file, and these.
#[pyfunction]
pub(super) fn packed_bytes(
    py: Python<'_>,
    path: PathBuf,
    columns: Option<Vec<String>>,
) -> PyResult<(usize, u64)> {
    py.detach(|| pages::packed(&path, columns.as_deref()))
        .map_err(|error| PyOSError::new_err(message(&error)))
}

/// Binds [`note::with_note`].
#[pyfunction]
#[pyo3(signature = (path, note, *, rows))]
pub(super) fn noted_footer(
    py: Python<'_>,
    path: PathBuf,
    note: String,
    rows: bool,
) -> PyResult<Vec<u8>> {
    py.detach(|| note::with_note(&path, &note, rows))
        .map_err(|error| PyOSError::new_err(message(&error)))
}

/// What is wrong with a Parquet file, without the words that only say by whom it was found.
pub(super) fn message(error: &ParquetError) -> String {
    match error {
        ParquetError::General(message) => message.clone(),
        ParquetError::External(error) => error.to_string(),
        other => other.to_string(),
    }
}

pub(super) fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

/// Swaps two directory entries at once, so that each name has one or the other at any time.
#[pyfunction]
pub(super) fn exchange(one: PathBuf, other: PathBuf) -> PyResult<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| std::io::Error::from(error).into())
}
