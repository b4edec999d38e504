//! A buffer laid open as dictionaries and lists that JSON can hold, and back.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::buffer::{Evicted, HeldState, Id, Reason, Rollout, State, Totals};

/// What a rollout carries.
pub(super) type Payload = Py<PyAny>;

/// Of the layout written here.
const FORMAT: u32 = 1;

/// One field of a dictionary; an error that names it where it is not there.
pub(super) fn field<'py>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let found = dict.get_item(name)?;
    found.ok_or_else(|| wrong(&format!("it has no {name:?}")))
}

fn wrong(problem: &str) -> PyErr {
    PyValueError::new_err(format!("this is no state of a GroupBuffer: {problem}"))
}

fn read_field<'py, T>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    let found = field(dict, name)?;
    let read = found.extract::<T>().map_err(Into::into);
    read.map_err(|error: PyErr| wrong(&format!("{name:?} cannot be read: {error}")))
}

pub(super) fn write(py: Python<'_>, state: State<Payload>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("format", FORMAT)?;
    dict.set_item("policy_version", state.version)?;
    let held = state.held.into_iter().map(|held| write_held(py, held));
    dict.set_item("held", held.collect::<PyResult<Vec<_>>>()?)?;
    let given = PyList::empty(py);
    for (id, rollouts) in state.given {
        given.append(PyList::new(
            py,
            [id.into_pyobject(py)?, list(py, rollouts)?],
        )?)?;
    }
    dict.set_item("given", given)?;
    let evicted = state.evicted.into_iter().map(|group| {
        let dict = PyDict::new(py);
        dict.set_item("group_id", group.id)?;
        dict.set_item("size", group.size)?;
        dict.set_item("rollout_ids", group.rollouts)?;
        dict.set_item("reason", group.reason.name())?;
        Ok(dict)
    });
    dict.set_item("evicted", evicted.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("totals", write_totals(py, &state.totals)?)?;
    Ok(dict)
}

fn list(py: Python<'_>, ids: Vec<Id>) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyList::new(py, ids)?.into_any())
}

fn write_held(py: Python<'_>, held: HeldState<Payload>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("group_id", held.id)?;
    dict.set_item("size", held.size)?;
    dict.set_item("age", held.age)?;
    dict.set_item("ready", held.ready)?;
    let rollouts = held.rollouts.into_iter().map(|rollout| {
        let dict = PyDict::new(py);
        dict.set_item("rollout_id", rollout.id)?;
        dict.set_item("policy_version", rollout.version)?;
        dict.set_item("n_bytes", rollout.bytes)?;
        dict.set_item("payload", rollout.payload)?;
        Ok(dict)
    });
    dict.set_item("rollouts", rollouts.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

pub(super) fn write_totals<'py>(py: Python<'py>, totals: &Totals) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, count) in Totals::NAMES.iter().zip(totals.counts) {
        dict.set_item(name, count)?;
    }
    dict.set_item("seconds_sum", totals.seconds_sum)?;
    dict.set_item("seconds_max", totals.seconds_max)?;
    Ok(dict)
}

pub(super) fn read(dict: &Bound<'_, PyDict>) -> PyResult<State<Payload>> {
    let format: u32 = read_field(dict, "format")?;
    if format != FORMAT {
        return Err(wrong(&format!("format {format} is not {FORMAT}")));
    }
    let held: Vec<Bound<'_, PyDict>> = read_field(dict, "held")?;
    let evicted: Vec<Bound<'_, PyDict>> = read_field(dict, "evicted")?;
    Ok(State {
        version: read_field(dict, "policy_version")?,
        held: held.iter().map(read_held).collect::<PyResult<_>>()?,
        given: read_given(&read_field::<Vec<_>>(dict, "given")?)?,
        evicted: evicted.iter().map(read_evicted).collect::<PyResult<_>>()?,
        totals: read_totals(&read_field(dict, "totals")?)?,
    })
}

fn read_held(dict: &Bound<'_, PyDict>) -> PyResult<HeldState<Payload>> {
    let rollouts: Vec<Bound<'_, PyDict>> = read_field(dict, "rollouts")?;
    let rollouts = rollouts.iter().map(|rollout| {
        Ok(Rollout {
            id: read_field(rollout, "rollout_id")?,
            version: read_field(rollout, "policy_version")?,
            bytes: read_field(rollout, "n_bytes")?,
            payload: field(rollout, "payload")?.unbind(),
        })
    });
    Ok(HeldState {
        id: read_field(dict, "group_id")?,
        size: read_field(dict, "size")?,
        age: read_seconds(dict, "age")?,
        ready: read_field(dict, "ready")?,
        rollouts: rollouts.collect::<PyResult<_>>()?,
    })
}

/// Lists of two, since JSON knows no tuples.
fn read_given(given: &[Bound<'_, PyList>]) -> PyResult<Vec<(Id, Vec<Id>)>> {
    let pair =
        |pair: &Bound<'_, PyList>| Ok((pair.get_item(0)?.extract()?, pair.get_item(1)?.extract()?));
    given.iter().map(pair).collect()
}

fn read_evicted(dict: &Bound<'_, PyDict>) -> PyResult<Evicted> {
    let reason: String = read_field(dict, "reason")?;
    Ok(Evicted {
        id: read_field(dict, "group_id")?,
        size: read_field(dict, "size")?,
        rollouts: read_field(dict, "rollout_ids")?,
        reason: Reason::named(&reason)
            .ok_or_else(|| wrong(&format!("{reason:?} is no reason to evict")))?,
    })
}

fn read_totals(dict: &Bound<'_, PyDict>) -> PyResult<Totals> {
    let mut totals = Totals::default();
    for (name, count) in Totals::NAMES.iter().zip(&mut totals.counts) {
        *count = read_field(dict, name)?;
    }
    totals.seconds_sum = read_seconds(dict, "seconds_sum")?;
    totals.seconds_max = read_seconds(dict, "seconds_max")?;
    Ok(totals)
}

/// A time that has passed; a hair below 0 where two threads read the clock at once.
fn read_seconds(dict: &Bound<'_, PyDict>, name: &str) -> PyResult<f64> {
    let seconds: f64 = read_field(dict, name)?;
    if seconds.is_finite() {
        return Ok(seconds);
    }
    Err(wrong(&format!(
        "{name:?} is {seconds}; it is a number of seconds"
    )))
}
