//! Lists of Arrow around numbers of `NumPy`, which stay where they lie.

use std::sync::Arc;

use arrow_array::types::Float64Type;
use arrow_array::{Float64Array, LargeListArray, cast::AsArray};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3_arrow::PyArray;
use pyo3_arrow::buffer::AnyBufferProtocol;

/// Makes one list after the other of `values`, as long as `lengths` say, null where `valid` is
/// false. With `gaps`, what is NaN in them becomes null.
#[pyfunction]
pub(super) fn lists(
    values: AnyBufferProtocol,
    lengths: PyReadonlyArray1<'_, u32>,
    valid: Option<PyReadonlyArray1<'_, bool>>,
    gaps: bool,
) -> PyResult<PyArray> {
    let values = values.into_arrow_array()?;
    let Some(values) = values.as_primitive_opt::<Float64Type>() else {
        return Err(PyValueError::new_err("values are float64"));
    };
    let numbers = values.values();
    // A fold, unlike a search, takes several at a time.
    let all = |all, value: &f64| all & !value.is_nan();
    let nulls = (gaps && !numbers.iter().fold(true, all)).then(|| {
        let known = |at: usize| !numbers[at].is_nan();
        NullBuffer::new(BooleanBuffer::collect_bool(numbers.len(), known))
    });
    let values = Float64Array::new(numbers.clone(), nulls);
    let lengths = lengths.as_slice()?;
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|&length| length as usize));
    let valid = match &valid {
        Some(valid) => Some(NullBuffer::from(valid.as_slice()?)),
        None => None,
    };
    let field = Arc::new(Field::new("item", DataType::Float64, true));
    let lists = LargeListArray::try_new(field, offsets, Arc::new(values), valid);
    let lists = lists.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyArray::from_array_ref(Arc::new(lists)))
}
