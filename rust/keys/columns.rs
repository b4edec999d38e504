//! One key column, of any number of chunks, as words or as bytes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryViewArray, FixedSizeBinaryArray};
use arrow_buffer::ScalarBuffer;
use arrow_schema::DataType;

use super::bytes::{ByteIds, Gathered, Views};
use super::plain;
use super::types::{Kind, kind};
use crate::error::Error;
use crate::groups::{Groups, Ids, IntIds};
use crate::pool::{CHECK_EVERY, Cancel};

/// One key column, ready to be grouped.
pub(super) enum Key {
    Ints(ScalarBuffer<i64>),
    Bytes(ByteIds<Views>),
}

impl Key {
    /// How many rows it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(keys) => keys.len(),
            Self::Bytes(ids) => ids.len(),
        }
    }
}

/// Reads a column of at least one chunk.
///
/// # Errors
/// [`Error::UnsupportedIds`], or [`Error::Interrupted`].
pub(super) fn key(column: &[ArrayRef], cancel: &Cancel) -> Result<Key, Error> {
    let found = column[0].data_type();
    if matches!(found, DataType::Dictionary(..)) {
        return Ok(Key::Ints(dictionary_codes(column, cancel)?.into()));
    }
    // A column without a type has nulls alone, which are dropped or were refused.
    let null = (*found == DataType::Null).then_some(Kind::Word);
    match kind(found).or(null) {
        Some(Kind::Bytes) => bytes(column, cancel),
        Some(Kind::Wide) => bytes(&column.iter().map(wide).collect::<Vec<_>>(), cancel),
        Some(Kind::Word) => words(column, cancel),
        None => Err(Error::UnsupportedIds {
            found: found.to_string(),
        }),
    }
}

/// The groups of the values of a column.
fn dense(key: &Key, cancel: &Cancel) -> Result<Groups, Error> {
    match key {
        Key::Ints(keys) => Groups::new(&IntIds::new(keys), None, cancel),
        Key::Bytes(ids) => Groups::new(ids, None, cancel),
    }
}

fn bytes(column: &[ArrayRef], cancel: &Cancel) -> Result<Key, Error> {
    let mut views = Gathered::with_capacity(n_rows(column));
    let is_view = |chunk: &ArrayRef| {
        let found = chunk.data_type();
        matches!(found, DataType::Utf8View | DataType::BinaryView)
    };
    match column {
        [chunk] if is_view(chunk) => {
            return Ok(Key::Bytes(ByteIds::new(Views::from(&viewed(chunk)?))));
        }
        [chunk, ..] if is_view(chunk) => {
            for chunk in column {
                views.push(&viewed(chunk)?, cancel)?;
            }
        }
        _ => {
            for block in blocks(column) {
                views.push(&viewed(&block)?, cancel)?;
            }
        }
    }
    Ok(Key::Bytes(ByteIds::new(Views::from(views))))
}

fn viewed(chunk: &ArrayRef) -> Result<BinaryViewArray, Error> {
    plain::views(chunk).ok_or_else(|| Error::UnsupportedIds {
        found: chunk.data_type().to_string(),
    })
}

fn words(column: &[ArrayRef], cancel: &Cancel) -> Result<Key, Error> {
    if let [chunk] = column
        && chunk.data_type().primitive_width() == Some(size_of::<i64>())
    {
        // Nothing is copied.
        return Ok(Key::Ints(plain::words(chunk)));
    }
    let mut keys: Vec<i64> = Vec::with_capacity(n_rows(column));
    for block in blocks(column) {
        cancel.check()?;
        keys.extend_from_slice(&plain::words(&block));
    }
    Ok(Key::Ints(keys.into()))
}

/// Values of a fixed width as the bytes that they are.
fn wide(chunk: &ArrayRef) -> ArrayRef {
    let data = chunk.to_data();
    let width = chunk.data_type().primitive_width().expect("a wide kind");
    let values = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
    let width = i32::try_from(width).expect("at most 32 bytes");
    Arc::new(FixedSizeBinaryArray::new(
        width,
        values,
        data.nulls().cloned(),
    ))
}

fn n_rows(column: &[ArrayRef]) -> usize {
    column.iter().map(Array::len).sum()
}

/// The column in pieces that take little time each.
fn blocks(column: &[ArrayRef]) -> impl Iterator<Item = ArrayRef> {
    column.iter().flat_map(|chunk| {
        let starts = (0..chunk.len()).step_by(CHECK_EVERY);
        starts.map(|from| chunk.slice(from, CHECK_EVERY.min(chunk.len() - from)))
    })
}

/// Codes by value: the same word has one code though every chunk brings its own dictionary.
fn dictionary_codes(column: &[ArrayRef], cancel: &Cancel) -> Result<Vec<i64>, Error> {
    let dictionaries = column
        .iter()
        .filter_map(|chunk| chunk.as_any_dictionary_opt());
    let words: Vec<ArrayRef> = dictionaries
        .clone()
        .map(|chunk| Arc::clone(chunk.values()))
        .collect();
    let codes = dense(&key(&words, cancel)?, cancel)?.codes(cancel)?;
    let mut rows = Vec::with_capacity(n_rows(column));
    let mut codes = codes.as_slice();
    for chunk in column {
        let (own, later) = codes.split_at(chunk.as_any_dictionary().values().len());
        codes = later;
        for block in blocks(std::slice::from_ref(chunk)) {
            cancel.check()?;
            let places = plain::places(block.as_any_dictionary());
            let places = places.map_err(|error| Error::UnsupportedIds {
                found: format!("{} ({error})", chunk.data_type()),
            })?;
            // A null row of an empty dictionary has none.
            rows.extend(
                places
                    .into_iter()
                    .map(|place| own.get(place).copied().unwrap_or_default()),
            );
        }
    }
    Ok(rows)
}
