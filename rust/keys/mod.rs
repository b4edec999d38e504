//! Group ids out of Arrow columns: any integer width, strings, binary, dictionaries, times,
//! or several columns at once.

pub mod byte_key;
pub mod bytes;
mod columns;
pub(crate) mod interner;
mod plain;
pub(crate) mod rows;
mod together;
mod types;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::DataType;

use self::columns::{Key, key};
use self::together::Together;
use crate::error::Error;
use crate::groups::{Groups, IntIds};
use crate::pool::{CHECK_EVERY, Cancel};

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
    let null = null_rows(&columns, drop_null, cancel)?;
    if let [column] = columns.as_slice() {
        return match key(column, cancel)? {
            Key::Ints(keys) => Groups::new(&IntIds::new(&keys), null.as_deref(), cancel),
            Key::Bytes(ids) => Groups::new(&ids, null.as_deref(), cancel),
        };
    }
    if columns.is_empty() {
        return Groups::new(&IntIds::new(&[]), null.as_deref(), cancel);
    }
    let keys = columns.iter().map(|column| key(column, cancel));
    let keys = Together::new(keys.collect::<Result<_, Error>>()?);
    Groups::new(&keys, null.as_deref(), cancel)
}

fn field(chunks: &[ArrayRef], k: usize) -> Vec<ArrayRef> {
    let struct_of = |chunk: &ArrayRef| chunk.as_any().downcast_ref::<StructArray>().cloned();
    chunks
        .iter()
        .filter_map(struct_of)
        .map(|chunk| Arc::clone(chunk.column(k)))
        .collect()
}

/// Which rows have a null in any key column; `None` when none has.
fn null_rows(
    columns: &[Vec<ArrayRef>],
    drop_null: bool,
    cancel: &Cancel,
) -> Result<Option<Vec<bool>>, Error> {
    let rows = |column: &Vec<ArrayRef>| column.iter().map(Array::len).sum::<usize>();
    let mut null: Option<Vec<bool>> = None;
    for column in columns {
        let mut from = 0;
        for chunk in column {
            if let Some(valid) = chunk.logical_nulls().filter(|valid| valid.null_count() > 0) {
                let null = null.get_or_insert_with(|| vec![false; rows(column)]);
                let mut valid = valid.iter();
                for flags in null[from..from + chunk.len()].chunks_mut(CHECK_EVERY) {
                    cancel.check()?;
                    for (flag, valid) in flags.iter_mut().zip(valid.by_ref()) {
                        *flag |= !valid;
                    }
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

#[cfg(test)]
mod tests {
    use arrow_array::{
        Decimal128Array, DictionaryArray, Float64Array, Int32Array, StringArray, UInt64Array,
    };

    use super::*;

    fn codes(chunks: &[ArrayRef]) -> Result<Vec<i64>, Error> {
        let cancel = Cancel::default();
        group(chunks, false, &cancel)?.codes(&cancel)
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
        let cancel = Cancel::default();
        let dropped = group(&[a, b], true, &cancel).unwrap();
        assert_eq!(dropped.codes(&cancel), Ok(vec![0, 1, 0, -1]));
    }

    #[test]
    fn decimals_are_kept_apart_beyond_64_bits() {
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
