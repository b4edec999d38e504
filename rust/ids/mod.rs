//! Group ids out of Arrow columns: any integer width, strings, binary, dictionaries, times,
//! or several columns at once.

pub mod bytes;
pub(crate) mod kinds;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, FixedSizeBinaryArray, Int64Array, StructArray,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use arrow_select::concat::concat;
use arrow_select::take::take;

use self::bytes::ByteIds;
use self::kinds::{Kind, kind};
use crate::error::Error;
use crate::groups::Groups;
use crate::identity::IntIds;
use crate::pool::Cancel;

/// One key column, ready to be grouped.
enum Key {
    Ints(Int64Array),
    Bytes(ByteIds<BinaryViewArray>),
}

/// Groups the rows of one Arrow column; a struct column is grouped by all its fields together.
///
/// # Errors
/// [`Error::NullId`] unless `drop_null`, [`Error::UnsupportedIds`], or those of [`Groups::new`].
pub fn group(chunks: &[ArrayRef], drop_null: bool, cancel: &Cancel) -> Result<Groups, Error> {
    let Some(first) = chunks.first() else {
        return Groups::new(&IntIds::new(&[]), None, cancel);
    };
    let columns = match first.data_type() {
        DataType::Struct(fields) => (0..fields.len()).map(|k| field(chunks, k)).collect(),
        _ => vec![chunks.to_vec()],
    };
    let null = null_rows(&columns, drop_null)?;
    if let [column] = columns.as_slice() {
        return match key(column)? {
            Key::Ints(keys) => Groups::new(&IntIds::new(keys.values()), null.as_deref(), cancel),
            Key::Bytes(ids) => Groups::new(&ids, null.as_deref(), cancel),
        };
    }
    let mut codes: Option<Vec<i64>> = None;
    for column in &columns {
        let next = dense(&key(column)?, cancel)?;
        codes = Some(match codes {
            None => next.codes(),
            Some(codes) => combine(&codes, &next, cancel)?,
        });
    }
    Groups::new(
        &IntIds::new(&codes.unwrap_or_default()),
        null.as_deref(),
        cancel,
    )
}

fn field(chunks: &[ArrayRef], k: usize) -> Vec<ArrayRef> {
    let struct_of = |chunk: &ArrayRef| chunk.as_any().downcast_ref::<StructArray>().cloned();
    chunks
        .iter()
        .filter_map(struct_of)
        .map(|chunk| Arc::clone(chunk.column(k)))
        .collect()
}

fn dense(key: &Key, cancel: &Cancel) -> Result<Groups, Error> {
    match key {
        Key::Ints(keys) => Groups::new(&IntIds::new(keys.values()), None, cancel),
        Key::Bytes(ids) => Groups::new(ids, None, cancel),
    }
}

/// Codes of pairs: both factors count rows, which fit 32 bits, so the product fits 64.
fn combine(codes: &[i64], next: &Groups, cancel: &Cancel) -> Result<Vec<i64>, Error> {
    let n = i64::try_from(next.n_groups()).unwrap_or(i64::MAX);
    let pairs: Vec<i64> = codes
        .iter()
        .zip(next.codes())
        .map(|(a, b)| a * n + b)
        .collect();
    Ok(Groups::new(&IntIds::new(&pairs), None, cancel)?.codes())
}

/// Which rows have a null in any key column; `None` when none has.
fn null_rows(columns: &[Vec<ArrayRef>], drop_null: bool) -> Result<Option<Vec<bool>>, Error> {
    let rows = |column: &Vec<ArrayRef>| column.iter().map(Array::len).sum::<usize>();
    let mut null: Option<Vec<bool>> = None;
    for column in columns {
        let mut from = 0;
        for chunk in column {
            if let Some(valid) = chunk.logical_nulls().filter(|valid| valid.null_count() > 0) {
                let null = null.get_or_insert_with(|| vec![false; rows(column)]);
                for (flag, valid) in null[from..].iter_mut().zip(valid.iter()) {
                    *flag |= !valid;
                }
            }
            from += chunk.len();
        }
    }
    match null {
        Some(null) if !drop_null => {
            let row = null.iter().position(|&null| null).unwrap_or_default();
            Err(Error::NullId { row })
        }
        null => Ok(null),
    }
}

fn key(column: &[ArrayRef]) -> Result<Key, Error> {
    let found = column[0].data_type();
    if matches!(found, DataType::Dictionary(..)) {
        return Ok(Key::Ints(dictionary_codes(column)?.into()));
    }
    // A column without a type has nulls alone, which are dropped or were refused.
    let null = (*found == DataType::Null).then_some(Kind::Word);
    match kind(found).or(null) {
        Some(Kind::Bytes) => bytes(column),
        Some(Kind::Wide) => bytes(&column.iter().map(wide).collect::<Vec<_>>()),
        Some(Kind::Word) => words(column),
        None => Err(Error::UnsupportedIds {
            found: found.to_string(),
        }),
    }
}

fn bytes(column: &[ArrayRef]) -> Result<Key, Error> {
    let views = concatenated(column, &DataType::BinaryView)?;
    Ok(Key::Bytes(ByteIds::new(views.as_binary_view().clone())))
}

fn words(column: &[ArrayRef]) -> Result<Key, Error> {
    if *column[0].data_type() != DataType::UInt64 {
        let keys = concatenated(column, &DataType::Int64)?;
        return Ok(Key::Ints(keys.as_primitive::<Int64Type>().clone()));
    }
    let keys = concatenated(column, &DataType::UInt64)?;
    let keys = keys.as_primitive::<UInt64Type>().values().iter();
    let keys: Vec<i64> = keys.map(|key| key.cast_signed()).collect();
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

/// The column as one array of type `to`.
fn concatenated(column: &[ArrayRef], to: &DataType) -> Result<ArrayRef, Error> {
    let unsupported = |error: ArrowError| Error::UnsupportedIds {
        found: format!("{} ({error})", column[0].data_type()),
    };
    let cast = column.iter().map(|chunk| cast(chunk, to));
    let chunks = cast
        .collect::<Result<Vec<ArrayRef>, _>>()
        .map_err(unsupported)?;
    let chunks: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
    if let [chunk] = chunks.as_slice() {
        Ok(chunk.slice(0, chunk.len()))
    } else {
        concat(&chunks).map_err(unsupported)
    }
}

/// Codes by value: the same word has one code though every chunk brings its own dictionary.
fn dictionary_codes(column: &[ArrayRef]) -> Result<Vec<i64>, Error> {
    let dictionaries = column
        .iter()
        .filter_map(|chunk| chunk.as_any_dictionary_opt());
    let words: Vec<ArrayRef> = dictionaries
        .clone()
        .map(|chunk| Arc::clone(chunk.values()))
        .collect();
    let codes = dense(&key(&words)?, &Cancel::default())?.codes();
    let codes: ArrayRef = Arc::new(Int64Array::from(codes));
    let mut rows = Vec::new();
    let mut from = 0;
    for chunk in dictionaries {
        let words = codes.slice(from, chunk.values().len());
        from += words.len();
        let taken = take(&words, chunk.keys(), None);
        let taken = taken.map_err(|error| Error::UnsupportedIds {
            found: error.to_string(),
        })?;
        rows.extend_from_slice(taken.as_primitive::<Int64Type>().values());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        Decimal128Array, DictionaryArray, Float64Array, Int32Array, StringArray, UInt64Array,
    };

    use super::*;

    fn codes(chunks: &[ArrayRef]) -> Result<Vec<i64>, Error> {
        group(chunks, false, &Cancel::default()).map(|groups| groups.codes())
    }

    #[test]
    fn a_word_has_one_code_though_the_dictionaries_of_the_chunks_differ() {
        let a: DictionaryArray<arrow_array::types::Int8Type> =
            vec!["x", "y", "x"].into_iter().collect();
        let b: DictionaryArray<arrow_array::types::Int8Type> =
            vec!["y", "z", "x"].into_iter().collect();
        assert_eq!(
            codes(&[Arc::new(a), Arc::new(b)]),
            Ok(vec![0, 1, 0, 1, 2, 0])
        );
    }

    #[test]
    fn long_strings_that_share_a_beginning_differ() {
        let words = ["the same beginning, end one", "the same beginning, end two"];
        let column = StringArray::from(vec![words[0], words[1], words[0]]);
        assert_eq!(codes(&[Arc::new(column)]), Ok(vec![0, 1, 0]));
    }

    #[test]
    fn the_largest_unsigned_integers_differ() {
        let column = UInt64Array::from(vec![u64::MAX, u64::MAX - 1, 0, u64::MAX]);
        assert_eq!(codes(&[Arc::new(column)]), Ok(vec![0, 1, 2, 0]));
    }

    #[test]
    fn the_first_null_is_named_across_chunks() {
        let a: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let b: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        assert_eq!(
            codes(&[Arc::clone(&a), Arc::clone(&b)]),
            Err(Error::NullId { row: 3 })
        );
        let dropped = group(&[a, b], true, &Cancel::default()).unwrap();
        assert_eq!(dropped.codes(), [0, 1, 0, -1]);
    }

    #[test]
    fn decimals_are_told_apart_beyond_64_bits() {
        let large = i128::from(i64::MAX) * 4;
        let column = Decimal128Array::from(vec![large, large + 1, 1, large, 1]);
        let sliced: ArrayRef = Arc::new(column.slice(1, 4));
        assert_eq!(codes(&[Arc::new(column)]), Ok(vec![0, 1, 2, 0, 2]));
        assert_eq!(codes(&[sliced]), Ok(vec![0, 1, 2, 1]));
    }

    #[test]
    fn floats_are_no_ids() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        assert!(matches!(
            codes(&[column]),
            Err(Error::UnsupportedIds { .. })
        ));
    }

    #[test]
    fn columns_are_keyed_together() {
        let a: ArrayRef = Arc::new(Int32Array::from(vec![1, 1, 2, 1]));
        let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "x", "x"]));
        let schema = |name: &str, array: &ArrayRef| {
            Arc::new(arrow_schema::Field::new(
                name,
                array.data_type().clone(),
                true,
            ))
        };
        let both = StructArray::from(vec![(schema("a", &a), a), (schema("b", &b), b)]);
        assert_eq!(codes(&[Arc::new(both)]), Ok(vec![0, 1, 2, 0]));
    }
}
