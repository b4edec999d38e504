//! Binds [`Buffer`]; documented for users in `gspo_rs.buffer`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::buffer_state::{self, Payload};
use crate::buffer::{Buffer, BufferError, Given, Id, Limits, Rollout};

impl From<BufferError> for PyErr {
    fn from(error: BufferError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

/// An id, size, staleness and seconds of a group, then names, versions and payloads.
type GivenTuple = (Id, usize, u64, f64, Vec<Id>, Vec<u64>, Vec<Payload>);

impl<'py> IntoPyObject<'py> for Id {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Int(number) => Ok(number.into_pyobject(py)?.into_any()),
            Self::Text(text) => Ok(text.into_pyobject(py)?.into_any()),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Id {
    type Error = PyErr;

    fn extract(id: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = id.cast::<PyString>() {
            let text = text.to_str().map_err(|error| {
                PyValueError::new_err(format!("the id {} is no Unicode: {error}", shown(id)))
            });
            return Ok(Self::Text(text?.to_owned()));
        }
        id.extract().map(Self::Int).map_err(|_| {
            PyTypeError::new_err(format!(
                "the id {} is neither a string nor an integer of 64 bits",
                shown(id)
            ))
        })
    }
}

fn shown(id: Borrowed<'_, '_, PyAny>) -> String {
    id.repr()
        .map_or_else(|_| "?".into(), |repr| repr.to_string())
}

/// Groups of rollouts on their way from many producers to one trainer.
///
/// While the lock is held nothing calls into Python, nor is anything of Python's made or dropped:
/// a finaliser could come back here. Each call is one step for threads and signals alike.
#[pyclass(frozen, name = "GroupBuffer", module = "gspo_rs._core")]
pub(super) struct PyGroupBuffer(Mutex<Buffer<Payload>>);

impl PyGroupBuffer {
    fn lock(&self) -> MutexGuard<'_, Buffer<Payload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyGroupBuffer {
    #[new]
    #[pyo3(signature = (limits, state, now))]
    fn new(
        limits: &Bound<'_, PyDict>,
        state: Option<&Bound<'_, PyDict>>,
        now: f64,
    ) -> PyResult<Self> {
        let limits = read_limits(limits)?;
        Ok(Self(Mutex::new(match state {
            None => Buffer::new(limits),
            Some(state) => Buffer::restore(limits, buffer_state::read(state)?, now)?,
        })))
    }

    fn expect(&self, group: Id, size: usize, now: f64) -> PyResult<&'static str> {
        Ok(self.lock().expect(&group, size, now)?.name())
    }

    fn put(
        &self,
        group: Id,
        rollout: (Id, u64, u64),
        payload: Payload,
        now: f64,
    ) -> PyResult<&'static str> {
        let (id, version, bytes) = rollout;
        let rollout = Rollout {
            id,
            version,
            bytes,
            payload,
        };
        let mut buffer = self.lock();
        let status = buffer.put(&group, rollout, now);
        let released = buffer.released();
        drop(buffer);
        drop(released);
        Ok(status?.name())
    }

    fn take(&self, now: f64) -> Option<GivenTuple> {
        let given = self.lock().take(now)?;
        Some(unfold(given))
    }

    fn advance(&self, version: u64) -> PyResult<()> {
        let mut buffer = self.lock();
        let done = buffer.advance(version);
        let released = buffer.released();
        drop(buffer);
        drop(released);
        Ok(done?)
    }

    fn evicted(&self) -> Vec<(Id, usize, Vec<Id>, &'static str)> {
        let evicted = self.lock().evicted();
        let tuple = evicted.into_iter();
        tuple
            .map(|group| (group.id, group.size, group.rollouts, group.reason.name()))
            .collect()
    }

    fn next_deadline(&self) -> Option<f64> {
        self.lock().next_deadline()
    }

    /// Groups held, ready ones, bytes, policy version.
    fn held(&self) -> (usize, usize, u64, u64) {
        let buffer = self.lock();
        let (groups, ready, bytes) = buffer.held();
        (groups, ready, bytes, buffer.version())
    }

    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let totals = self.lock().totals().clone();
        buffer_state::write_totals(py, &totals)
    }

    fn state<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Bound<'py, PyDict>> {
        let state = self.lock().state(now, |payload| payload.clone_ref(py));
        buffer_state::write(py, state)
    }

    #[allow(clippy::needless_pass_by_value, reason = "the signature is pyo3's")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Ok(buffer) => buffer
                .payloads()
                .try_for_each(|payload| visit.call(payload)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let mut buffer = self.lock();
        let payloads = buffer.clear();
        drop(buffer);
        drop(payloads);
    }
}

fn unfold(given: Given<Payload>) -> GivenTuple {
    let (mut names, mut versions, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
    for rollout in given.rollouts {
        names.push(rollout.id);
        versions.push(rollout.version);
        payloads.push(rollout.payload);
    }
    (
        given.id,
        given.size,
        given.staleness,
        given.seconds,
        names,
        versions,
        payloads,
    )
}

fn read_limits(limits: &Bound<'_, PyDict>) -> PyResult<Limits> {
    let field = |name| buffer_state::field(limits, name);
    Ok(Limits {
        group_size: field("group_size")?.extract()?,
        ready_size: field("ready_size")?.extract()?,
        deadline: field("deadline")?.extract()?,
        max_staleness: field("max_staleness")?.extract()?,
        max_groups: field("max_groups")?.extract()?,
        max_bytes: field("max_bytes")?.extract()?,
        remember: field("remember")?.extract()?,
    })
}
