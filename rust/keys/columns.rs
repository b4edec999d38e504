//! One key column, of any number of chunks, as words or as bytes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, Int64Array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take;

use super::bytes::{ByteIds, Gathered, Views};
use super::types::{Kind, kind};
use crate::error::Error;
use crate::groups::{Groups, Ids, IntIds};
use crate::pool::{CHECK_EVERY, Cancel};

/// One key column, ready to be grouped.
pub(super) enum Key {
    Ints(Int64Array),
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
        Key::Ints(keys) => Groups::new(&IntIds::new(keys.values()), None, cancel),
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
            let chunk = converted(chunk, &DataType::BinaryView)?;
            return Ok(Key::Bytes(ByteIds::new(Views::from(
                chunk.as_binary_view(),
            ))));
        }
        [chunk, ..] if is_view(chunk) => {
            for chunk in column {
                let chunk = converted(chunk, &DataType::BinaryView)?;
                views.push(chunk.as_binary_view(), cancel)?;
            }
        }
        _ => {
            for block in blocks(column) {
                let block = converted(&block, &DataType::BinaryView)?;
                views.push(block.as_binary_view(), cancel)?;
            }
        }
    }
    Ok(Key::Bytes(ByteIds::new(Views::from(views))))
}

fn words(column: &[ArrayRef], cancel: &Cancel) -> Result<Key, Error> {
    let signed = *column[0].data_type() != DataType::UInt64;
    if let [chunk] = column
        && signed
        && chunk.data_type().primitive_width() == Some(size_of::<i64>())
    {
        // Nothing is copied.
        let keys = converted(chunk, &DataType::Int64)?;
        return Ok(Key::Ints(keys.as_primitive::<Int64Type>().clone()));
    }
    let mut keys: Vec<i64> = Vec::with_capacity(n_rows(column));
    for block in blocks(column) {
        cancel.check()?;
        if signed {
            let words = converted(&block, &DataType::Int64)?;
            keys.extend_from_slice(words.as_primitive::<Int64Type>().values());
        } else {
            let words = block.as_primitive::<UInt64Type>().values().iter();
            keys.extend(words.map(|word| word.cast_signed()));
        }
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

fn converted(chunk: &ArrayRef, to: &DataType) -> Result<ArrayRef, Error> {
    cast(chunk, to).map_err(|error| unsupported(chunk, &error))
}

fn unsupported(chunk: &ArrayRef, error: &ArrowError) -> Error {
    Error::UnsupportedIds {
        found: format!("{} ({error})", chunk.data_type()),
    }
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
    let codes: ArrayRef = Arc::new(Int64Array::from(
        dense(&key(&words, cancel)?, cancel)?.codes(cancel)?,
    ));
    let mut rows = Vec::with_capacity(n_rows(column));
    let mut from = 0;
    for chunk in dictionaries {
        let words = codes.slice(from, chunk.values().len());
        from += words.len();
        for start in (0..chunk.len()).step_by(CHECK_EVERY) {
            cancel.check()?;
            let keys = chunk
                .keys()
                .slice(start, CHECK_EVERY.min(chunk.len() - start));
            let taken = take(&words, &keys, None);
            let taken = taken.map_err(|error| unsupported(&column[0], &error))?;
            rows.extend_from_slice(taken.as_primitive::<Int64Type>().values());
        }
    }
    Ok(rows)
}
