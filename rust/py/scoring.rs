//! Binds the scores of data sets; used by `gspo_rs.files`.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use parquet::errors::ParquetError;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_arrow::PyRecordBatchReader;

use super::call::{locked, run};
use super::fs::{hex, message};
use crate::error::StreamError;
use crate::pool;
use crate::scoring::parquet::{self as written, Feed, WriteSummary};
use crate::scoring::{KnownKeys, Results, Scores, Settings};

type Array<'py, T> = Bound<'py, PyArray1<T>>;
type File = (u64, u64, String);
/// What the columns are called that are written, and the scores of more estimators.
type Columns = (Vec<String>, Vec<Py<PyScores>>);

impl From<StreamError> for PyErr {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Source(message) => PyOSError::new_err(message),
            StreamError::Disk(_) => PyOSError::new_err(error.to_string()),
            StreamError::LittleMemory { .. } => PyMemoryError::new_err(error.to_string()),
            other => PyValueError::new_err(other.to_string()),
        }
    }
}

/// Binds [`Scores`].
#[pyclass(frozen, name = "Scores", module = "gspo_rs._core")]
pub(super) struct PyScores(Mutex<Scores>);

#[pymethods]
impl PyScores {
    #[new]
    #[pyo3(signature = (by, reward, *, checked, refuse_negative, rows, budget, directory))]
    #[allow(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        by: Vec<String>,
        reward: String,
        checked: bool,
        refuse_negative: bool,
        rows: usize,
        budget: usize,
        directory: PathBuf,
    ) -> Self {
        Self(Mutex::new(Scores::new(Settings {
            by,
            reward,
            checked,
            refuse_negative,
            rows,
            budget,
            directory,
        })))
    }

    fn push(&self, py: Python<'_>, batches: PyRecordBatchReader, first: usize) -> PyResult<usize> {
        let reader = batches.into_reader()?;
        let scores: &mut Scores = &mut *self.lock()?;
        in_pool(py, || {
            let mut row = first;
            for batch in reader {
                let batch = batch.map_err(|error| StreamError::Source(error.to_string()))?;
                scores.push(&batch, row)?;
                row += batch.num_rows();
            }
            Ok::<usize, StreamError>(row - first)
        })
        .map_err(PyErr::from)
    }

    fn changed(
        &self,
        py: Python<'_>,
        batches: PyRecordBatchReader,
        start: u64,
        first: usize,
    ) -> PyResult<Option<usize>> {
        let reader = batches.into_reader()?;
        let scores: &mut Scores = &mut *self.lock()?;
        in_pool(py, || {
            let (mut start, mut first) = (start, first);
            for batch in reader {
                let batch = batch.map_err(|error| StreamError::Source(error.to_string()))?;
                if let Some(row) = scores.changed(&batch, start, first)? {
                    return Ok(Some(row));
                }
                start += batch.num_rows() as u64;
                first += batch.num_rows();
            }
            Ok::<_, StreamError>(None)
        })
        .map_err(PyErr::from)
    }

    fn last_key(&self) -> PyResult<Option<Vec<u8>>> {
        Ok(self.lock()?.last_key())
    }

    fn rewards_of<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Array<'py, f64>> {
        Ok(self.lock()?.rewards_of(key).into_pyarray(py))
    }

    fn carry(&self, key: &[u8], rewards: PyReadonlyArray1<'_, f64>) -> PyResult<()> {
        Ok(self.lock()?.carry(key, rewards.as_slice()?)?)
    }

    fn leading<'py>(
        &self,
        py: Python<'py>,
        batches: PyRecordBatchReader,
        key: &[u8],
    ) -> PyResult<Array<'py, f64>> {
        let scores = self.lock()?;
        let mut found = Vec::new();
        for batch in batches.into_reader()? {
            let batch = batch.map_err(|error| StreamError::Source(error.to_string()))?;
            let rewards = scores.leading(&batch, key)?;
            found.extend_from_slice(&rewards);
            if rewards.len() < batch.num_rows() {
                break;
            }
        }
        Ok(found.into_pyarray(py))
    }

    fn end_file(&self) -> PyResult<String> {
        Ok(format!("{:016x}", self.lock()?.end_file()))
    }

    #[getter]
    fn n_rows(&self) -> PyResult<u64> {
        Ok(self.lock()?.n_rows())
    }

    #[getter]
    fn spilled(&self) -> PyResult<bool> {
        Ok(self.lock()?.spilled())
    }

    #[allow(clippy::type_complexity, reason = "a pair of arrays, or none")]
    fn take<'py>(
        &self,
        py: Python<'py>,
        rows: usize,
    ) -> PyResult<Option<(Array<'py, f64>, Array<'py, i64>)>> {
        let scores: &mut Scores = &mut *self.lock()?;
        let chunk = in_pool(py, || scores.take(rows))?;
        Ok(chunk.map(|(rewards, offsets)| (rewards.into_pyarray(py), offsets.into_pyarray(py))))
    }

    #[pyo3(signature = (columns, keep, again=None))]
    fn put(
        &self,
        py: Python<'_>,
        columns: [PyReadonlyArray1<'_, f64>; 4],
        keep: Option<PyReadonlyArray1<'_, bool>>,
        again: Option<PyReadonlyArray1<'_, bool>>,
    ) -> PyResult<usize> {
        let [rank, advantage, mean, std] = &columns;
        let results = Results {
            rank: rank.as_slice()?,
            advantage: advantage.as_slice()?,
            keep: keep.as_ref().map(|keep| keep.as_slice()).transpose()?,
            mean: mean.as_slice()?,
            std: std.as_slice()?,
            again: again.as_ref().map(|again| again.as_slice()).transpose()?,
        };
        let scores: &mut Scores = &mut *self.lock()?;
        Ok(in_pool(py, || scores.put(results)))
    }

    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let scores: &mut Scores = &mut *self.lock()?;
        in_pool(py, || scores.settle());
        Ok(())
    }

    fn columns<'py>(&self, py: Python<'py>, start: u64, stop: u64) -> PyResult<Bound<'py, PyDict>> {
        let scores: &mut Scores = &mut *self.lock()?;
        let rows = in_pool(py, || scores.scored(start, stop))?;
        let found = PyDict::new(py);
        let floats = |cell: fn(&crate::scoring::Scored) -> f64| -> Array<'py, f64> {
            rows.iter().map(cell).collect::<Vec<f64>>().into_pyarray(py)
        };
        found.set_item("rank", floats(|row| row.rank().unwrap_or(f64::NAN)))?;
        found.set_item(
            "percentile",
            floats(|row| row.percentile().unwrap_or(f64::NAN)),
        )?;
        found.set_item("advantage", floats(|row| row.advantage))?;
        let sizes: Vec<i64> = rows.iter().map(|row| i64::from(row.size)).collect();
        found.set_item("group_size", sizes.into_pyarray(py))?;
        found.set_item("group_mean", floats(|row| row.mean))?;
        found.set_item("group_std", floats(|row| row.std))?;
        let keep: Vec<bool> = rows.iter().map(|row| row.keep).collect();
        found.set_item("keep", keep.into_pyarray(py))?;
        Ok(found)
    }

    fn write_beside(
        &self,
        py: Python<'_>,
        source: PathBuf,
        target: PathBuf,
        span: (u64, u64),
        columns: Columns,
        drop: Vec<String>,
    ) -> PyResult<File> {
        self.write(py, span.0, &columns, |feed| {
            written::append(&source, &target, span.1, &drop, feed)
        })
    }

    fn write_alone(
        &self,
        py: Python<'_>,
        target: PathBuf,
        span: (u64, u64),
        columns: Columns,
    ) -> PyResult<File> {
        self.write(py, span.0, &columns, |feed| {
            written::alone(&target, span.1, feed)
        })
    }
}

impl PyScores {
    fn lock(&self) -> PyResult<MutexGuard<'_, Scores>> {
        locked(&self.0)
    }

    /// Runs what writes rows from `start` on, in the pool.
    fn write(
        &self,
        py: Python<'_>,
        start: u64,
        (names, more): &Columns,
        work: impl FnOnce(&mut Feed<'_>) -> Result<WriteSummary, ParquetError> + Send,
    ) -> PyResult<File> {
        let each = std::iter::once(self).chain(more.iter().map(Py::get));
        let mut held = each.map(Self::lock).collect::<PyResult<Vec<_>>>()?;
        let scores = held.iter_mut().map(|held| &mut **held).collect();
        let found = run(py, usize::MAX, |cancel| {
            Ok(work(&mut Feed {
                scores,
                names,
                start,
                cancel,
            }))
        })?;
        let found = found.map_err(|error| PyOSError::new_err(message(&error)))?;
        Ok((found.rows, found.bytes, hex(found.digest)))
    }
}

/// Binds [`KnownKeys`].
#[pyclass(frozen, name = "KnownKeys", module = "gspo_rs._core")]
pub(super) struct PyKnownKeys(Mutex<KnownKeys>);

#[pymethods]
impl PyKnownKeys {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn take(&self, py: Python<'_>, scores: &PyScores) -> PyResult<bool> {
        let (seen, scores) = (&mut *locked(&self.0)?, &*scores.lock()?);
        Ok(in_pool(py, || seen.take(scores)))
    }

    #[pyo3(signature = (*, carried))]
    fn begin_file(&self, carried: bool) -> PyResult<()> {
        locked(&self.0)?.begin_file(carried);
        Ok(())
    }

    #[getter]
    fn memory(&self) -> PyResult<usize> {
        Ok(locked(&self.0)?.memory())
    }
}

/// Runs short work without the GIL, in the pool.
fn in_pool<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let pool = pool::current();
    py.detach(|| pool.install(work))
}
