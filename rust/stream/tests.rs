use std::iter::repeat_n;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, DictionaryArray, Float64Array, Int64Array,
    LargeStringArray, RecordBatch, RecordBatchIterator, RecordBatchReader, StringArray,
    StringViewArray, UInt64Array,
};
use arrow_schema::ArrowError;
use proptest::prelude::*;

use super::whole_groups::*;
use crate::error::StreamError;

/// The columns `keys` and a column `row` in record batches with the borders `borders`.
fn stream(keys: &[ArrayRef], borders: &[usize]) -> impl RecordBatchReader + use<> {
    let len = keys[0].len();
    let rows = Int64Array::from_iter_values(0..i64::try_from(len).unwrap());
    let keys = keys
        .iter()
        .enumerate()
        .map(|(i, key)| (format!("key{i}"), Arc::clone(key)));
    let row = ("row".to_owned(), Arc::new(rows) as ArrayRef);
    let whole = RecordBatch::try_from_iter(keys.chain([row])).unwrap();

    let mut borders: Vec<usize> = borders.iter().map(|border| border % (len + 1)).collect();
    borders.extend([0, len]);
    borders.sort_unstable();
    // Equal borders leave a record batch without rows between them, as producers do.
    let parts = borders
        .windows(2)
        .map(|pair| Ok(whole.slice(pair[0], pair[1] - pair[0])));
    RecordBatchIterator::new(parts.collect::<Vec<_>>(), whole.schema())
}

fn cut(
    keys: &[ArrayRef],
    borders: &[usize],
    batch_groups: usize,
) -> Result<Vec<GroupBatch>, StreamError> {
    let by = (0..keys.len()).map(|i| format!("key{i}")).collect();
    WholeGroups::new(stream(keys, borders), by, batch_groups, 0)?.collect()
}

/// The rows of every group, from the column `row` and the offsets of each cut.
fn groups(cuts: &[GroupBatch]) -> Vec<Vec<i64>> {
    let mut groups = Vec::new();
    for cut in cuts {
        let rows = cut
            .batch
            .column_by_name("row")
            .unwrap()
            .as_primitive::<Int64Type>();
        assert_eq!(rows.value(0), i64::try_from(cut.first_row).unwrap());
        assert_eq!(cut.offsets.last(), Some(&cut.batch.num_rows()));
        for pair in cut.offsets.windows(2) {
            groups.push(rows.values()[pair[0]..pair[1]].to_vec());
        }
    }
    groups
}

/// The row that belongs to a group that had ended, by looking back at every earlier row.
fn naive_return(keys: &[i64]) -> Option<usize> {
    (1..keys.len()).find(|&row| keys[row] != keys[row - 1] && keys[..row].contains(&keys[row]))
}

proptest! {
    #[test]
    fn any_borders_and_batch_size_give_the_runs_of_equal_keys(
        sizes in prop::collection::vec(1_usize..6, 0..12),
        borders in prop::collection::vec(0_usize..64, 0..8),
        batch_groups in 1_usize..5,
    ) {
        let key = sizes.iter().enumerate().flat_map(|(id, &size)| repeat_n(id as u64 ^ 5, size));
        let key: ArrayRef = Arc::new(UInt64Array::from_iter_values(key));
        let cuts = cut(&[key], &borders, batch_groups).unwrap();

        let mut row = 0;
        let expected: Vec<Vec<i64>> = sizes.iter().map(|&size| {
            (0..size).map(|_| { row += 1; row - 1 }).collect()
        }).collect();
        prop_assert_eq!(groups(&cuts), expected);
        let full = cuts.iter().rev().skip(1).all(|cut| cut.offsets.len() == batch_groups + 1);
        prop_assert!(full, "only the last batch may hold fewer groups");
    }

    #[test]
    fn a_key_that_comes_back_is_named_at_its_first_late_row(
        keys in prop::collection::vec(0_i64..4, 0..9),
        borders in prop::collection::vec(0_usize..16, 0..4),
    ) {
        let key: ArrayRef = Arc::new(Int64Array::from(keys.clone()));
        let found = cut(&[key], &borders, 2).err();
        let expected = naive_return(&keys).map(|row| StreamError::KeyReturns {
            row,
            began: keys.iter().position(|key| *key == keys[row]).unwrap(),
        });
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_key_of_any_exact_type_cuts_the_same_groups() {
    let words = ["a", "a", "", "b", "b", "b", "ab"];
    let dictionary: DictionaryArray<Int8Type> = words.into_iter().collect();
    let long = words.map(|word| format!("{word} and more than the twelve bytes of a view"));
    let keys: [ArrayRef; 7] = [
        Arc::new(StringArray::from(words.to_vec())),
        Arc::new(LargeStringArray::from(words.to_vec())),
        Arc::new(StringViewArray::from_iter_values(words)),
        Arc::new(StringViewArray::from_iter_values(&long)),
        Arc::new(BinaryViewArray::from_iter_values(words)),
        Arc::new(dictionary),
        Arc::new(Int64Array::from(vec![7, 7, 0, -1, -1, -1, i64::MIN])),
    ];
    for key in keys {
        for border in 0..words.len() {
            let cuts = cut(&[Arc::clone(&key)], &[border], 3).unwrap();
            assert_eq!(groups(&cuts), [vec![0, 1], vec![2], vec![3, 4, 5], vec![6]]);
        }
    }
}

#[test]
fn several_key_columns_are_one_key_and_never_run_into_each_other() {
    let keys: [ArrayRef; 3] = [
        Arc::new(StringArray::from(vec!["ab", "a", "a", "a"])),
        Arc::new(StringArray::from(vec!["c", "bc", "bc", "bc"])),
        Arc::new(BooleanArray::from(vec![true, true, true, false])),
    ];
    let cuts = cut(&keys, &[1], 9).unwrap();
    assert_eq!(groups(&cuts), [vec![0], vec![1, 2], vec![3]]);
}

#[test]
fn dictionaries_that_differ_between_batches_are_compared_by_value() {
    let parts = [["x", "y"], ["y", "x"]].map(|words| {
        let key: DictionaryArray<Int8Type> = words.into_iter().collect();
        RecordBatch::try_from_iter([("key0", Arc::new(key) as ArrayRef)])
    });
    let schema = parts[0].as_ref().unwrap().schema();
    let reader = RecordBatchIterator::new(parts, schema);
    let mut cutter = WholeGroups::new(reader, vec!["key0".into()], 2, 10).unwrap();
    let error = cutter.next().unwrap().unwrap_err();
    assert_eq!(error, StreamError::KeyReturns { row: 13, began: 10 });
    assert!(cutter.next().is_none(), "nothing follows an error");
}

#[test]
fn a_null_key_is_named_with_its_column_and_row_in_the_stream() {
    let keys: [ArrayRef; 2] = [
        Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(2), None])),
        Arc::new(StringArray::from(vec![Some("a"), Some("a"), None, None])),
    ];
    for border in 0..4 {
        let error = cut(&keys, &[border], 2).unwrap_err();
        assert_eq!(
            error,
            StreamError::NullKey {
                name: "key1".into(),
                row: 2
            }
        );
    }
}

#[test]
fn only_columns_that_are_there_and_exact_can_be_keys() {
    let float: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let refused = cut(&[Arc::clone(&float)], &[], 1).unwrap_err();
    assert_eq!(
        refused,
        StreamError::KeyType {
            name: "key0".into(),
            found: "Float64".into()
        }
    );

    let named = |by: &[&str], groups| {
        let by = by.iter().map(ToString::to_string).collect();
        WholeGroups::new(stream(std::slice::from_ref(&float), &[]), by, groups, 0).err()
    };
    let columns = vec!["key0".into(), "row".into()];
    let missing = StreamError::MissingColumn {
        name: "id".into(),
        columns,
    };
    assert_eq!(named(&["id"], 1), Some(missing));
    assert_eq!(named(&[], 1), Some(StreamError::NoKey));
    assert_eq!(named(&["row"], 0), Some(StreamError::NoGroups));
}

#[test]
fn a_failing_source_ends_the_stream_with_its_own_words() {
    let key: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let first = stream(&[key], &[]).next().unwrap();
    let schema = first.as_ref().unwrap().schema();
    let broken = ArrowError::CDataInterface("disk on fire".into());
    let reader = RecordBatchIterator::new([first, Err(broken)], schema);
    let mut cutter = WholeGroups::new(reader, vec!["key0".into()], 1, 0).unwrap();
    assert_eq!(cutter.by_ref().take_while(Result::is_ok).count(), 2);
    assert!(cutter.next().is_none());
}
