//! Binds text files; used by `gspo_rs.text_files`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::PyRecordBatch;

use super::call::locked;
use crate::pool;
use crate::text::{Asked, Format, Kind, Reader, Survey, TextError};

type Words = HashMap<String, String>;

/// Binds [`Survey`], with what each file is called in errors.
#[pyclass(frozen, name = "TextFiles", module = "gspo_rs._core")]
pub(super) struct PyTextFiles(Arc<Survey>, Vec<PathBuf>);

#[pymethods]
impl PyTextFiles {
    #[new]
    #[pyo3(signature = (paths, *, delimiter, names=None))]
    fn new(
        py: Python<'_>,
        paths: Vec<PathBuf>,
        delimiter: Option<u8>,
        names: Option<Vec<PathBuf>>,
    ) -> PyResult<Self> {
        let mut survey = Survey::new(delimiter.map_or(Format::Json, Format::Csv));
        let pool = pool::current();
        let names = names.unwrap_or_else(|| paths.clone());
        for (path, name) in paths.iter().zip(&names) {
            let begun = survey.begin(path);
            let mut look = begun.map_err(|error| located(name, "line", &error))?;
            let row = look.row();
            while py
                .detach(|| pool.install(|| survey.step(&mut look)))
                .map_err(|error| located(name, row, &error))?
            {
                py.check_signals()?;
            }
            survey.finish(look);
        }
        Ok(Self(Arc::new(survey), names))
    }

    /// The columns, as a batch of no rows.
    fn schema(&self, asked: Words) -> PyResult<PyRecordBatch> {
        let asked = asked_of(asked)?;
        let schema = Arc::new(self.0.schema(|name| of(&asked, name)));
        Ok(PyRecordBatch::new(RecordBatch::new_empty(schema)))
    }

    fn rows(&self, file: usize) -> u64 {
        self.0.rows(file)
    }

    /// Each kind of value that a column has, or a field of it, with the place of the first.
    fn kinds(&self, path: Vec<String>) -> Vec<(&'static str, String)> {
        let (mut names, survey) = (path.iter(), &self.0);
        let column = names.next().and_then(|name| survey.column(name));
        let Some(shape) = names.fold(column, |shape, name| shape?.field(name)) else {
            return Vec::new();
        };
        let mut found: Vec<_> = Kind::NAMED
            .iter()
            .filter_map(|&(kind, word)| shape.first(kind).map(|place| (place, word)))
            .collect();
        found.sort_unstable();
        let name = |file: usize| self.1[file].display();
        let places = found.into_iter().map(|((file, line), word)| {
            let place = format!("{} {line} of {}", survey.row(file), name(file));
            (word, place)
        });
        places.collect()
    }

    fn lacking(&self, name: &str) -> Option<PathBuf> {
        self.0.lacking(name).map(|file| self.1[file].clone())
    }

    fn read(&self, file: usize, columns: Vec<String>, asked: Words) -> PyResult<PyTextRows> {
        let asked = asked_of(asked)?;
        let survey = Arc::clone(&self.0);
        let reader = Reader::new(survey, file, &columns, |name| of(&asked, name));
        let (name, row) = (self.1[file].clone(), self.0.row(file));
        let reader = reader.map_err(|error| located(&name, row, &error))?;
        Ok(PyTextRows(Mutex::new(reader), name, row))
    }
}

/// Binds [`Reader`]: an iterator of lists of record batches.
#[pyclass(frozen, name = "TextRows", module = "gspo_rs._core")]
pub(super) struct PyTextRows(Mutex<Reader>, PathBuf, &'static str);

#[pymethods]
impl PyTextRows {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Vec<PyRecordBatch>>> {
        let mut guard = locked(&self.0)?;
        let (pool, reader): (_, &mut Reader) = (pool::current(), &mut guard);
        let batches = py.detach(|| pool.install(|| reader.step()));
        let batches = batches.map_err(|error| located(&self.1, self.2, &error))?;
        py.check_signals()?;
        let found: Vec<_> = batches.into_iter().map(PyRecordBatch::new).collect();
        Ok(if found.is_empty() { None } else { Some(found) })
    }
}

fn located(name: &Path, row: &str, error: &TextError) -> PyErr {
    PyOSError::new_err(format!("cannot read {}: {}", name.display(), error.of(row)))
}

fn of(asked: &HashMap<String, Asked>, name: &str) -> Asked {
    asked.get(name).copied().unwrap_or(Asked::Anything)
}

fn asked_of(words: Words) -> PyResult<HashMap<String, Asked>> {
    let one = |(name, word): (String, String)| {
        let asked = match word.as_str() {
            "key" => Asked::Key,
            "text" => Asked::Text,
            "number" => Asked::Number,
            "json" => Asked::Json,
            "items" => Asked::Items,
            _ => return Err(PyValueError::new_err(format!("asked for {word:?}"))),
        };
        Ok((name, asked))
    };
    words.into_iter().map(one).collect()
}
