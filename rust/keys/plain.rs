//! Key columns in the three layouts that grouping reads, by hand: a general cast would be a crate
//! that takes a third of the build.

use arrow_array::cast::AsArray;
use arrow_array::{AnyDictionaryArray, Array, BinaryArray, BinaryViewArray, LargeBinaryArray};
use arrow_buffer::{ArrowNativeType, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

/// Integers, and what is one underneath, as words of 64 bits, unsigned ones by their bits.
///
/// Those of 64 bits are not copied. The word of a null row is any.
pub(super) fn words(chunk: &dyn Array) -> ScalarBuffer<i64> {
    use DataType as T;
    match chunk.data_type() {
        T::Null => vec![0; chunk.len()].into(),
        T::Boolean => chunk.as_boolean().values().iter().map(i64::from).collect(),
        T::Int8 => widened::<i8>(chunk),
        T::UInt8 => widened::<u8>(chunk),
        T::Int16 => widened::<i16>(chunk),
        T::UInt16 => widened::<u16>(chunk),
        T::UInt32 => widened::<u32>(chunk),
        T::Int32 | T::Date32 | T::Time32(_) => widened::<i32>(chunk),
        _ => native(chunk),
    }
}

fn widened<N: ArrowNativeType + Into<i64>>(chunk: &dyn Array) -> ScalarBuffer<i64> {
    native::<N>(chunk).iter().map(|&word| word.into()).collect()
}

fn native<N: ArrowNativeType>(chunk: &dyn Array) -> ScalarBuffer<N> {
    let data = chunk.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// Strings and binary as views of bytes; `None` for any other type.
pub(super) fn views(chunk: &dyn Array) -> Option<BinaryViewArray> {
    use DataType as T;
    Some(match chunk.data_type() {
        T::Utf8View => chunk.as_string_view().clone().to_binary_view(),
        T::BinaryView => chunk.as_binary_view().clone(),
        T::Utf8 => (&BinaryArray::from(chunk.as_string().clone())).into(),
        T::LargeUtf8 => (&LargeBinaryArray::from(chunk.as_string().clone())).into(),
        T::Binary => chunk.as_binary::<i32>().into(),
        T::LargeBinary => chunk.as_binary::<i64>().into(),
        T::FixedSizeBinary(_) => chunk.as_fixed_size_binary().iter().collect(),
        _ => return None,
    })
}

/// Which value of a dictionary each row has, 0 for a null row.
///
/// # Errors
/// If a row has one that the dictionary lacks.
pub(super) fn places(dictionary: &dyn AnyDictionaryArray) -> Result<Vec<usize>, ArrowError> {
    let (keys, n) = (dictionary.keys(), dictionary.values().len());
    let words = words(keys);
    let place = |&word: &i64| usize::try_from(word).unwrap_or(usize::MAX);
    let mut places: Vec<usize> = words.iter().map(place).collect();
    let mut lacks = places.iter().position(|&place| place >= n);
    if let Some(nulls) = keys.nulls() {
        lacks = (0..places.len()).find(|&row| nulls.is_valid(row) && places[row] >= n);
        for (place, valid) in places.iter_mut().zip(nulls) {
            *place *= usize::from(valid);
        }
    }
    if let Some(row) = lacks {
        let problem = format!("row {row} has value {} of a dictionary of {n}", words[row]);
        return Err(ArrowError::InvalidArgumentError(problem));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int8Type;
    use arrow_array::{
        ArrayRef, BooleanArray, Date32Array, DictionaryArray, FixedSizeBinaryArray, Int8Array,
        Int16Array, Int32Array, Int64Array, LargeStringArray, NullArray, StringArray,
        StringViewArray, Time32SecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array,
        UInt32Array, UInt64Array,
    };

    use super::*;

    fn are_words(column: &dyn Array, expected: [i64; 2]) {
        let found = words(&column.slice(1, 2));
        assert_eq!(&found[..], expected, "{}", column.data_type());
    }

    #[test]
    fn integers_of_every_width_are_the_words_that_they_are() {
        are_words(&Int8Array::from(vec![7, -128, 127]), [-128, 127]);
        are_words(&UInt8Array::from(vec![7, 0, 255]), [0, 255]);
        are_words(&Int16Array::from(vec![7, -300, 300]), [-300, 300]);
        are_words(&UInt16Array::from(vec![7, 0, 65_535]), [0, 65_535]);
        let least = i64::from(i32::MIN);
        are_words(&Int32Array::from(vec![7, i32::MIN, 1]), [least, 1]);
        are_words(&UInt32Array::from(vec![7, 0, u32::MAX]), [0, (1 << 32) - 1]);
        are_words(&Int64Array::from(vec![7, i64::MIN, 1]), [i64::MIN, 1]);
        let large = vec![7, 1 << 63, u64::MAX];
        are_words(&UInt64Array::from(large), [i64::MIN, -1]);
    }

    #[test]
    fn dates_times_and_flags_are_the_integers_underneath() {
        are_words(&Date32Array::from(vec![7, -1, 20_000]), [-1, 20_000]);
        are_words(&Time32SecondArray::from(vec![7, 0, 86_399]), [0, 86_399]);
        are_words(&TimestampNanosecondArray::from(vec![7, -1, 1]), [-1, 1]);
        are_words(&BooleanArray::from(vec![true, false, true]), [0, 1]);
        are_words(&NullArray::new(3), [0, 0]);
    }

    #[test]
    fn strings_and_bytes_are_the_same_views_whatever_holds_them() {
        let rows = vec![
            Some("left out"),
            Some("six..."),
            None,
            Some("more than twelve bytes"),
        ];
        let fixed = rows[1..]
            .iter()
            .map(|row| row.map(|row| row.as_bytes()[..6].to_vec()));
        let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 6).unwrap();
        let utf8 = StringArray::from(rows.clone());
        let columns: [ArrayRef; 6] = [
            Arc::new(utf8.clone()),
            Arc::new(LargeStringArray::from(rows.clone())),
            Arc::new(StringViewArray::from(rows.clone())),
            Arc::new(BinaryArray::from(utf8)),
            Arc::new(LargeBinaryArray::from(LargeStringArray::from(rows.clone()))),
            Arc::new(StringViewArray::from(rows.clone()).to_binary_view()),
        ];
        let expected: Vec<_> = rows[1..].iter().map(|row| row.map(str::as_bytes)).collect();
        for column in columns {
            let found = views(&column.slice(1, 3)).unwrap();
            assert_eq!(
                found.iter().collect::<Vec<_>>(),
                expected,
                "{}",
                column.data_type()
            );
        }
        let found = views(&fixed).unwrap();
        let expected = [Some(&b"six..."[..]), None, Some(b"more t")];
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        assert!(views(&Int8Array::from(vec![1])).is_none());
    }

    #[test]
    fn a_row_of_a_dictionary_has_the_place_of_its_value_and_a_null_row_the_first() {
        let rows: DictionaryArray<Int8Type> =
            vec![Some("x"), None, Some("y")].into_iter().collect();
        assert_eq!(places(&rows).unwrap(), [0, 0, 1]);
        let none = DictionaryArray::<Int8Type>::from_iter([None::<&str>, None]);
        assert_eq!(places(&none).unwrap(), [0, 0]);
    }
}
