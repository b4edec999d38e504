//! Binds [`Groups`] and the ways into it; documented for users in `gspo_rs.groups`.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{LargeBinaryBuilder, LargeStringBuilder, PrimitiveBuilder};
use arrow_array::types::{ArrowPrimitiveType, Int64Type, UInt64Type};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PyString};
use pyo3_arrow::input::AnyArray;

use super::call::run;
use crate::error::Error;
use crate::groups::{Groups, IntIds, position};
use crate::keys::{
    self,
    bytes::{ByteIds, Bytes, Fixed},
};
use crate::pool::{CHECK_EVERY, Cancel};

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

    /// Groups of consecutive rows, `size` of them in each.
    #[staticmethod]
    fn from_size(n_rollouts: usize, size: usize) -> Self {
        Self {
            groups: Groups::of_size(n_rollouts, size),
        }
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
        if let Some(words) = all_strings(ids)? {
            let words = words.iter().map(|word| Ok(word.to_str()?.as_bytes()));
            let words = ByteIds::new(words.collect::<PyResult<Vec<&[u8]>>>()?);
            let work = |cancel: &_| Groups::new(&words, None, cancel);
            let groups = run(py, ids.len(), work)?;
            return Ok(Self { groups });
        }
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
        let work = |cancel: &_| rows_in_order(groups, cancel);
        Ok(run(py, groups.n_rows(), work)?.into_pyarray(py))
    }

    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let work = |cancel: &_| self.groups.codes(cancel);
        Ok(run(py, self.groups.n_rows(), work)?.into_pyarray(py))
    }
}

impl PyGroups {
    fn from_chunks(py: Python<'_>, chunks: &[ArrayRef], drop_null: bool) -> PyResult<Self> {
        let rows = chunks.iter().map(|chunk| chunk.len()).sum();
        let work = |cancel: &_| keys::group(chunks, drop_null, cancel);
        Ok(Self {
            groups: run(py, rows, work)?,
        })
    }
}

fn rows_in_order(groups: &Groups, cancel: &Cancel) -> Result<Vec<i64>, Error> {
    let order = groups.order(cancel)?;
    let n = groups.offsets().last().map_or(0, |&end| position(end));
    let mut rows = Vec::with_capacity(n);
    for from in (0..n).step_by(CHECK_EVERY) {
        cancel.check()?;
        let own = from..n.min(from + CHECK_EVERY);
        match order {
            None => rows.extend(own.map(|row| i64::try_from(row).unwrap_or(i64::MAX))),
            Some(order) => rows.extend(order[own].iter().map(|&row| i64::from(row))),
        }
    }
    Ok(rows)
}

impl Bytes for Vec<&[u8]> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn row(&self, row: usize) -> &[u8] {
        self[row]
    }
}

/// All ids, if each is a string.
fn all_strings<'py>(ids: &Bound<'py, PyList>) -> PyResult<Option<Vec<Bound<'py, PyString>>>> {
    let mut found = Vec::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        answer_signals(ids.py(), row)?;
        match id.cast_into() {
            Ok(id) => found.push(id),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// A list of integers, of strings or of bytes, with None for null, as one Arrow column.
fn list_to_arrow(ids: &Bound<'_, PyList>) -> PyResult<ArrayRef> {
    let first = ids.iter().find(|id| !id.is_none());
    refuse_mixed(ids, first.as_ref())?;
    match &first {
        Some(first) if first.is_instance_of::<PyString>() => {
            let mut words = LargeStringBuilder::new();
            each(ids, |id| {
                let word = id.map(|id| id.cast::<PyString>()?.to_str());
                words.append_option(word.transpose()?);
                Ok(())
            })?;
            Ok(Arc::new(words.finish()))
        }
        Some(first) if first.is_instance_of::<PyBytes>() => {
            let mut words = LargeBinaryBuilder::new();
            each(ids, |id| {
                let word = id.map(|id| PyResult::Ok(id.cast::<PyBytes>()?.as_bytes()));
                words.append_option(word.transpose()?);
                Ok(())
            })?;
            Ok(Arc::new(words.finish()))
        }
        _ => match integers::<Int64Type>(ids) {
            Err(error) if error.is_instance_of::<PyOverflowError>(ids.py()) => {
                integers::<UInt64Type>(ids)
            }
            ids => ids,
        },
    }
}

/// Checks that all ids but None are what the first of them is.
fn refuse_mixed(ids: &Bound<'_, PyList>, first: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let text = first.is_some_and(PyAnyMethods::is_instance_of::<PyString>);
    let bytes = first.is_some_and(PyAnyMethods::is_instance_of::<PyBytes>);
    let flags = first.is_some_and(PyAnyMethods::is_instance_of::<PyBool>);
    for (row, id) in ids.iter().enumerate() {
        answer_signals(ids.py(), row)?;
        let (fits, expected) = if text {
            (id.is_instance_of::<PyString>(), "a string")
        } else if bytes {
            (id.is_instance_of::<PyBytes>(), "bytes")
        } else {
            // True is not the id 1, as it is not in a file.
            let expected = ["an integer or a string", "a bool"][usize::from(flags)];
            (
                is_integer(&id) && id.is_instance_of::<PyBool>() == flags,
                expected,
            )
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

fn integers<T: ArrowPrimitiveType>(ids: &Bound<'_, PyList>) -> PyResult<ArrayRef>
where
    T::Native: for<'a, 'py> FromPyObject<'a, 'py>,
{
    let mut words = PrimitiveBuilder::<T>::with_capacity(ids.len());
    each(ids, |id| {
        let word = id.map(PyAnyMethods::extract::<T::Native>).transpose();
        words.append_option(word.map_err(Into::<PyErr>::into)?);
        Ok(())
    })?;
    Ok(Arc::new(words.finish()))
}

/// Passes every id on, None as none.
fn each(
    ids: &Bound<'_, PyList>,
    mut read: impl FnMut(Option<&Bound<'_, PyAny>>) -> PyResult<()>,
) -> PyResult<()> {
    for (row, id) in ids.iter().enumerate() {
        answer_signals(ids.py(), row)?;
        read(Some(&id).filter(|id| !id.is_none()))?;
    }
    Ok(())
}

/// The GIL is held: only this thread can answer Ctrl-C, and does so every few milliseconds.
fn answer_signals(py: Python<'_>, row: usize) -> PyResult<()> {
    if row.is_multiple_of(CHECK_EVERY) {
        py.check_signals()?;
    }
    Ok(())
}

/// Python integers and what stands for one exactly, such as `NumPy`'s; never a float.
fn is_integer(id: &Bound<'_, PyAny>) -> bool {
    id.is_instance_of::<PyInt>() || id.hasattr("__index__").unwrap_or(false)
}
