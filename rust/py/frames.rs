//! A Python iterator of frames as a stream of record batches.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3_arrow::PyRecordBatchReader;

type Reader = Box<dyn RecordBatchReader + Send>;

/// What a Python iterator raised, kept as it was: Arrow's errors carry words only.
#[derive(Clone, Default)]
pub(super) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    /// The exception, once.
    pub(super) fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, error: PyErr) -> ArrowError {
        let reported = ArrowError::CDataInterface(error.to_string());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        reported
    }
}

/// The rows of frames that come one after the other, all of the types of the first.
pub(super) struct Frames {
    rest: Py<PyIterator>,
    schema: SchemaRef,
    frame: Reader,
    raised: Raised,
}

impl Frames {
    /// Takes the first frame.
    pub(super) fn new(frames: &Bound<'_, PyAny>, raised: Raised) -> PyResult<Self> {
        let mut frames = frames.try_iter()?;
        let first = frames.next();
        let first = first.unwrap_or_else(|| Err(PyValueError::new_err("there is no frame")))?;
        let frame = first.extract::<PyRecordBatchReader>()?.into_reader()?;
        Ok(Self {
            rest: frames.unbind(),
            schema: frame.schema(),
            frame,
            raised,
        })
    }

    fn next_frame(&self) -> PyResult<Option<Reader>> {
        Python::attach(|py| {
            let next = self.rest.bind(py).clone().next();
            next.map(|frame| frame?.extract::<PyRecordBatchReader>()?.into_reader())
                .transpose()
        })
    }
}

impl Iterator for Frames {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.frame.next() {
                return Some(batch);
            }
            match self.next_frame() {
                Ok(frame) => self.frame = frame?,
                Err(error) => return Some(Err(self.raised.keep(error))),
            }
        }
    }
}

impl RecordBatchReader for Frames {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
