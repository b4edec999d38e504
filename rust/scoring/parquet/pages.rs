//! The checksums of pages, which are checked where a file carries them.

use std::io::{self, BufRead, Read};
use std::path::Path;

use parquet::errors::Result;
use parquet::file::reader::ChunkReader;

use super::footer::{self, Column};
use super::io::Chunks;
use super::thrift::{Reader, broken};

/// Checks the pages of the `columns` of a file; returns its number of row groups,
/// and the rows of the largest.
///
/// # Errors
/// If its footer is wrong, or a page is not what its checksum says.
pub fn check(path: &Path, columns: &[String]) -> Result<(usize, i64)> {
    let asked = |name: &[u8]| columns.iter().any(|column| column.as_bytes() == name);
    let (source, footer) = footer::open(path, asked)?;
    for (number, group) in footer.groups.iter().enumerate() {
        for column in group
            .columns
            .iter()
            .filter(|column| column.asked && column.is_here())
        {
            check_column(&source, column, number)?;
        }
    }
    let largest = footer.groups.iter().map(|group| group.rows).max();
    Ok((footer.groups.len(), largest.unwrap_or(0)))
}

/// Returns the row group whose `columns`, all of them if none are given, take the most bytes as
/// they are packed in the file, and how many.
///
/// # Errors
/// If its footer is wrong.
pub fn packed(path: &Path, columns: Option<&[String]>) -> Result<(usize, u64)> {
    let asked = |name: &[u8]| {
        columns.is_none_or(|names| names.iter().any(|column| column.as_bytes() == name))
    };
    let (_, footer) = footer::open(path, asked)?;
    let bytes = footer.groups.iter().map(|group| {
        let asked = group.columns.iter().filter(|column| column.asked);
        asked.map(|column| column.size.cast_unsigned()).sum::<u64>()
    });
    let most = bytes.enumerate().max_by_key(|&(_, bytes)| bytes);
    Ok(most.unwrap_or((0, 0)))
}

/// Checks the pages of one column chunk, all or none of which have a checksum.
pub(super) fn check_column(source: &Chunks, column: &Column, group: usize) -> Result<()> {
    let mut rest = column.size.cast_unsigned();
    let start = column.start().cast_unsigned();
    // A short piece tells whether there is anything to check.
    let mut head = Reader::new(source.0.get_read(start)?.take(rest));
    if rest == 0 || column.values == 0 || header(&mut head)?.crc.is_none() {
        return Ok(());
    }
    let mut input = source.get_read(start)?.take(rest);
    while rest > 0 {
        let mut reader = Reader::new(input);
        let page = header(&mut reader)?;
        rest = rest
            .checked_sub(reader.read)
            .and_then(|rest| rest.checked_sub(page.size))
            .ok_or_else(|| broken("a page that is longer than its column"))?;
        input = reader.into_inner();
        let found = sum(&mut input, page.size)?;
        if page.crc.is_some_and(|written| written != found) {
            let place = column.start().cast_unsigned() + column.size.cast_unsigned() - rest;
            return Err(broken(&format!(
                "a page that is damaged, in row group {group} before byte {place}: its checksum \
                 is {found:08x}, not the one that was written"
            ))
            .into());
        }
    }
    Ok(())
}

#[derive(Default)]
struct Page {
    size: u64,
    crc: Option<u32>,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a checksum is 32 bits, written as a signed number"
)]
fn header(reader: &mut Reader<impl Read>) -> io::Result<Page> {
    let mut page = Page::default();
    reader.fields(|reader, (number, kind)| {
        match number {
            3 => {
                let size = reader.integer(kind)?;
                page.size = u64::try_from(size).map_err(|_| broken("a page of negative size"))?;
            }
            4 => page.crc = Some(reader.integer(kind)? as u32),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(page)
}

/// The checksum of the next `size` bytes.
fn sum(input: &mut impl BufRead, size: u64) -> io::Result<u32> {
    let (mut hasher, mut rest) = (crc32fast::Hasher::new(), size);
    while rest > 0 {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Err(broken("an end within a page"));
        }
        let n = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        hasher.update(&bytes[..n]);
        input.consume(n);
        rest -= n as u64;
    }
    Ok(hasher.finalize())
}
