//! The keys of a record batch, as bytes that are equal where the keys are.

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Schema};

use super::plain;
use super::types::kind;
use crate::error::StreamError;

/// The key columns of one record batch, ready to be compared row by row.
pub(crate) struct Keys {
    columns: Vec<Column>,
    /// The first row that is null in a key column, and the place of that column in the key.
    pub(crate) first_null: Option<(usize, usize)>,
}

/// One key column whose rows can be borrowed as bytes; equal bytes are equal keys.
enum Column {
    Fixed {
        bytes: Vec<u8>,
        width: usize,
    },
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    Dictionary {
        places: Vec<usize>,
        values: Box<Column>,
    },
}

/// Checks that the first `n` columns have types that can be keys.
pub(crate) fn check_types(schema: &Schema, n: usize) -> Result<(), StreamError> {
    for field in &schema.fields()[..n] {
        if kind(field.data_type()).is_none() {
            let (name, found) = (field.name().clone(), field.data_type().to_string());
            return Err(StreamError::KeyType { name, found });
        }
    }
    Ok(())
}

impl Keys {
    /// Takes the first `n` columns out of `batch`.
    pub(crate) fn of(batch: &RecordBatch, n: usize) -> Result<Self, ArrowError> {
        let mut columns = Vec::with_capacity(n);
        let mut first_null = None;
        for (place, column) in batch.columns()[..n].iter().enumerate() {
            let valid = column.logical_nulls();
            let null = valid.and_then(|valid| valid.iter().position(|valid| !valid));
            let null = null.map(|row| (row, place));
            first_null = first_null.into_iter().chain(null).min();
            columns.push(Column::of(column)?);
        }
        Ok(Self {
            columns,
            first_null,
        })
    }

    /// Keys that are there as bytes, side by side: each ends where the next one begins.
    pub(crate) fn of_bytes(ends: Vec<i64>, bytes: Vec<u8>) -> Self {
        let ends = OffsetBuffer::new(ends.into());
        let column = LargeBinaryArray::new(ends, Buffer::from_vec(bytes), None);
        Self {
            columns: vec![Column::LargeBinary(column)],
            first_null: None,
        }
    }

    /// Whether two rows of the batch belong to the same group.
    pub(crate) fn same(&self, a: usize, b: usize) -> bool {
        self.columns
            .iter()
            .all(|column| column.row(a) == column.row(b))
    }

    /// Writes the key of `row` over `key`, so that equal bytes are equal keys in any batch.
    pub(crate) fn encode(&self, row: usize, key: &mut Vec<u8>) {
        key.clear();
        for column in &self.columns {
            let value = column.row(row);
            if self.columns.len() > 1 {
                // Without the length ("ab", "c") and ("a", "bc") would be one key.
                key.extend_from_slice(&value.len().to_le_bytes());
            }
            key.extend_from_slice(value);
        }
    }

    /// The key of `row` where it lies, or written into `scratch` if several columns make it.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, row: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if let [column] = self.columns.as_slice() {
            return column.row(row);
        }
        self.encode(row, scratch);
        scratch
    }
}

impl Column {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        if let Some(dictionary) = column.as_any_dictionary_opt() {
            return Ok(Self::Dictionary {
                places: plain::places(dictionary)?,
                values: Box::new(Self::of(dictionary.values())?),
            });
        }
        Ok(match column.data_type() {
            DataType::Utf8 => Self::Utf8(column.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeUtf8(column.as_string().clone()),
            DataType::Utf8View => Self::Utf8View(column.as_string_view().clone()),
            DataType::Binary => Self::Binary(column.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(column.as_binary().clone()),
            DataType::BinaryView => Self::BinaryView(column.as_binary_view().clone()),
            DataType::Boolean => {
                let bytes = column.as_boolean().values().iter().map(u8::from).collect();
                Self::Fixed { bytes, width: 1 }
            }
            DataType::FixedSizeBinary(_) => {
                let column = column.as_fixed_size_binary();
                let rows = (0..column.len()).flat_map(|row| column.value(row)).copied();
                Self::Fixed {
                    bytes: rows.collect(),
                    width: column.value_size(),
                }
            }
            other => {
                let width = other.primitive_width().expect("checked by `key_column`");
                let data = column.to_data();
                let bytes = &data.buffers()[0].as_slice()[data.offset() * width..];
                Self::Fixed {
                    bytes: bytes[..data.len() * width].to_vec(),
                    width,
                }
            }
        })
    }

    #[inline]
    fn row(&self, row: usize) -> &[u8] {
        match self {
            Self::Fixed { bytes, width } => &bytes[row * width..(row + 1) * width],
            Self::Utf8(column) => column.value(row).as_bytes(),
            Self::LargeUtf8(column) => column.value(row).as_bytes(),
            Self::Utf8View(column) => column.value(row).as_bytes(),
            Self::Binary(column) => column.value(row),
            Self::LargeBinary(column) => column.value(row),
            Self::BinaryView(column) => column.value(row),
            Self::Dictionary { places, values } => values.row(places[row]),
        }
    }
}
