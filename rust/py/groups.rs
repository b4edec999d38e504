//! Binds [`Groups`] and the ways into it; documented for users in `gspo_rs.groups`.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray, UInt64Array};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString};
use pyo3_arrow::input::AnyArray;

use super::call::run;
use crate::error::Error;
use crate::groups::Groups;
use crate::identity::IntIds;
use crate::ids::{
    self,
    bytes::{ByteIds, Fixed},
};

/// Items of a list between two looks at signals.
const STRETCH: usize = 1 << 16;

/// A cut of rollouts into groups.
#[pyclass(frozen, name = "Groups", module = "gspo_rs._core")]
pub(super) struct PyGroups {
    pub(super) groups: Groups,
}

#[pymethods]
impl PyGroups {
    #[staticmethod]
    fn from_offsets(offsets: PyReadonlyArray1<'_, i64>) -> PyResult<Self> {
        Ok(Self {
            groups: Groups::from_offsets(offsets.as_array().to_vec())?,
        })
    }

    #[staticmethod]
    fn from_ints(py: Python<'_>, keys: PyReadonlyArray1<'_, i64>) -> PyResult<Self> {
        let keys = keys.as_slice()?;
        let work = |cancel: &_| Groups::new(&IntIds::new(keys), None, cancel);
        Ok(Self {
            groups: run(py, keys.len(), work)?,
        })
    }

    /// Rows of equal width, as `NumPy` keeps strings.
    #[staticmethod]
    fn from_fixed(py: Python<'_>, keys: PyReadonlyArray2<'_, u8>) -> PyResult<Self> {
        let (rows, width) = keys.as_array().dim();
        let bytes = keys.as_slice()?;
        let work = |cancel: &_| Groups::new(&ByteIds::new(Fixed { bytes, width }), None, cancel);
        Ok(Self {
            groups: run(py, rows, work)?,
        })
    }

    #[staticmethod]
    fn from_arrow(py: Python<'_>, ids: AnyArray, drop_null: bool) -> PyResult<Self> {
        let unreadable = |error| Error::UnsupportedIds {
            found: PyErr::from(error).to_string(),
        };
        let (chunks, _) = ids.into_chunked_array().map_err(unreadable)?.into_inner();
        Self::from_chunks(py, &chunks, drop_null)
    }

    #[staticmethod]
    fn from_list(py: Python<'_>, ids: &Bound<'_, PyList>, drop_null: bool) -> PyResult<Self> {
        Self::from_chunks(py, &[list_to_arrow(ids)?], drop_null)
    }

    #[getter]
    fn n_rollouts(&self) -> usize {
        self.groups.n_rows()
    }

    #[getter]
    fn n_groups(&self) -> usize {
        self.groups.n_groups()
    }

    #[getter]
    fn clustered(&self) -> bool {
        self.groups.is_clustered()
    }

    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, self.groups.offsets())
    }

    fn order<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let groups = &self.groups;
        let n = *groups.offsets().last().unwrap_or(&0);
        let work = |_: &_| {
            Ok(match groups.order() {
                None => (0..n).collect::<Vec<i64>>(),
                Some(order) => order.iter().map(|&row| i64::from(row)).collect(),
            })
        };
        Ok(run(py, groups.n_rows(), work)?.into_pyarray(py))
    }

    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let work = |_: &_| Ok(self.groups.codes());
        Ok(run(py, self.groups.n_rows(), work)?.into_pyarray(py))
    }
}

impl PyGroups {
    fn from_chunks(py: Python<'_>, chunks: &[ArrayRef], drop_null: bool) -> PyResult<Self> {
        let rows = chunks.iter().map(|chunk| chunk.len()).sum();
        let work = |cancel: &_| ids::group(chunks, drop_null, cancel);
        Ok(Self {
            groups: run(py, rows, work)?,
        })
    }
}

/// A list of integers, of strings or of bytes, with None for null, as one Arrow column.
fn list_to_arrow(ids: &Bound<'_, PyList>) -> PyResult<ArrayRef> {
    let first = ids.iter().find(|id| !id.is_none());
    refuse_mixed(ids, first.as_ref())?;
    Ok(match &first {
        Some(first) if first.is_instance_of::<PyString>() => {
            Arc::new(StringArray::from(extracted::<String>(ids)?))
        }
        Some(first) if first.is_instance_of::<PyBytes>() => Arc::new(
            extracted::<Vec<u8>>(ids)?
                .into_iter()
                .collect::<BinaryArray>(),
        ),
        _ => match extracted::<i64>(ids) {
            Err(error) if error.is_instance_of::<PyOverflowError>(ids.py()) => {
                Arc::new(UInt64Array::from(extracted::<u64>(ids)?))
            }
            ids => Arc::new(Int64Array::from(ids?)),
        },
    })
}

/// Checks that all ids but None are what the first of them is.
fn refuse_mixed(ids: &Bound<'_, PyList>, first: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let text = first.is_some_and(PyAnyMethods::is_instance_of::<PyString>);
    let bytes = first.is_some_and(PyAnyMethods::is_instance_of::<PyBytes>);
    for (row, id) in ids.iter().enumerate() {
        answer_signals(ids.py(), row)?;
        let (fits, expected) = if text {
            (id.is_instance_of::<PyString>(), "a string")
        } else if bytes {
            (id.is_instance_of::<PyBytes>(), "bytes")
        } else {
            (is_integer(&id), "an integer or a string")
        };
        if !fits && !id.is_none() {
            let found = id.get_type().name()?.to_string();
            let error = Error::MixedIds {
                row,
                found,
                expected,
            };
            return Err(error.into());
        }
    }
    Ok(())
}

fn extracted<T>(ids: &Bound<'_, PyList>) -> PyResult<Vec<Option<T>>>
where
    T: for<'a, 'py> FromPyObject<'a, 'py>,
{
    let mut found = Vec::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        answer_signals(ids.py(), row)?;
        found.push(id.extract::<Option<T>>().map_err(Into::into)?);
    }
    Ok(found)
}

/// The GIL is held: only this thread can answer Ctrl-C, and does so every few milliseconds.
fn answer_signals(py: Python<'_>, row: usize) -> PyResult<()> {
    if row.is_multiple_of(STRETCH) {
        py.check_signals()?;
    }
    Ok(())
}

/// Python integers and what stands for one exactly, such as `NumPy`'s; never a float.
fn is_integer(id: &Bound<'_, PyAny>) -> bool {
    id.is_instance_of::<PyInt>() || id.hasattr("__index__").unwrap_or(false)
}
