//! Binds the stream of whole groups; used by `gspo_rs.data`.

use std::sync::{Mutex, TryLockError};

use arrow_array::RecordBatchReader;
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::{
    PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3_arrow::{PyRecordBatch, PyRecordBatchReader};

use super::frames::{Frames, Raised};
use crate::error::StreamError;
use crate::stream::{GroupBatch, Step, WholeGroups};

impl From<StreamError> for PyErr {
    fn from(error: StreamError) -> Self {
        match error {
            // Arrow carries words only: a producer in Python may have noticed Ctrl-C itself.
            StreamError::Source(message) if message.trim_end().ends_with("KeyboardInterrupt") => {
                PyKeyboardInterrupt::new_err(())
            }
            StreamError::Source(message) => PyOSError::new_err(message),
            StreamError::Disk(_) => PyOSError::new_err(error.to_string()),
            StreamError::LittleMemory { .. } => PyMemoryError::new_err(error.to_string()),
            other => PyValueError::new_err(other.to_string()),
        }
    }
}

type Reader = Box<dyn RecordBatchReader + Send>;
type Item<'py> = (PyRecordBatch, Bound<'py, PyArray1<i64>>, usize);

/// Binds [`WholeGroups`]: an iterator of (record batch, offsets, first row), out of an Arrow
/// stream or an iterator of frames.
#[pyclass(frozen, name = "WholeGroups", module = "gspo_rs._core")]
pub(super) struct PyWholeGroups {
    groups: Mutex<WholeGroups<Reader>>,
    raised: Raised,
}

#[pymethods]
impl PyWholeGroups {
    #[new]
    #[pyo3(signature = (stream, by, batch_groups, *, first_row=0))]
    fn new(
        stream: &Bound<'_, PyAny>,
        by: Vec<String>,
        batch_groups: usize,
        first_row: usize,
    ) -> PyResult<Self> {
        let raised = Raised::default();
        let reader: Reader = if stream.hasattr("__arrow_c_stream__")? {
            stream.extract::<PyRecordBatchReader>()?.into_reader()?
        } else {
            Box::new(Frames::new(stream, raised.clone())?)
        };
        let groups = Mutex::new(WholeGroups::new(reader, by, batch_groups, first_row)?);
        Ok(Self { groups, raised })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Item<'py>>> {
        // Not `lock`: a thread that waits here would hold the GIL that the producer may need.
        let mut guard = self.groups.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PyRuntimeError::new_err("another thread is reading this"),
            TryLockError::Poisoned(_) => PyRuntimeError::new_err("the producer panicked before"),
        })?;
        let groups: &mut WholeGroups<Reader> = &mut guard;
        loop {
            // Detached, because the producer may run Python code in threads of its own.
            let step = py.detach(|| groups.step());
            match step.map_err(|error| self.raised.take().unwrap_or_else(|| error.into()))? {
                Step::GroupBatch(cut) => return item(py, cut).map(Some),
                Step::End => return Ok(None),
                Step::Read => py.check_signals()?,
            }
        }
    }
}

fn item(py: Python<'_>, cut: GroupBatch) -> PyResult<Item<'_>> {
    let offsets: Result<Vec<i64>, _> = cut.offsets.into_iter().map(i64::try_from).collect();
    Ok((
        PyRecordBatch::new(cut.batch),
        offsets?.into_pyarray(py),
        cut.first_row,
    ))
}
