//! Binds what is computed from the rewards of groups and chosen by them; documented in
//! `gspo_rs.groups`.

use std::borrow::Cow;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::call::run;
use super::estimators::PyColumn;
use super::groups::PyGroups;
use crate::groups::Groups;
use crate::pack;
use crate::stats::batch::{self, Scale};
use crate::stats::column::Column;
use crate::stats::float32::{self, Kind};
use crate::stats::opo;
use crate::stats::pairs::{self, Strategy};
use crate::stats::rows::{self, Input};
use crate::stats::short;
use crate::stats::summary::{self, Summary};

type Array<'py, T> = Bound<'py, PyArray1<T>>;

/// Binds [`rows::rows`]: one array per column.
#[pyfunction]
#[pyo3(name = "rows")]
pub(super) fn rows_<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    columns: Vec<Bound<'py, PyColumn>>,
) -> PyResult<Vec<Array<'py, f64>>> {
    let columns: Vec<Column> = columns.iter().map(|column| column.get().0).collect();
    let groups = &groups.get().groups;
    computed(py, rewards.as_slice()?, groups, &columns)
}

/// Binds the same of one column.
#[pyfunction]
pub(super) fn column<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    column: &Bound<'py, PyColumn>,
) -> PyResult<Option<Array<'py, f64>>> {
    let groups = &groups.get().groups;
    let found = computed(py, rewards.as_slice()?, groups, &[column.get().0])?;
    Ok(found.into_iter().next())
}

fn computed<'py>(
    py: Python<'py>,
    rewards: &[f64],
    groups: &Groups,
    columns: &[Column],
) -> PyResult<Vec<Array<'py, f64>>> {
    let more = usize::from(!groups.is_clustered());
    // NumPy asks for huge pages: a fraction of the page faults of our own allocator.
    let zeros = |_| PyArray1::<f64>::zeros(py, rewards.len(), false);
    let mut arrays: Vec<Array<'py, f64>> = (0..columns.len() + more).map(zeros).collect();
    let mut borrowed: Vec<_> = arrays.iter().map(PyArrayMethods::readwrite).collect();
    let buffers = borrowed.iter_mut().map(|array| array.as_slice_mut());
    let mut buffers = buffers.collect::<Result<Vec<&mut [f64]>, _>>()?;
    let input = Input { rewards, groups };
    let compares = columns.iter().any(|column| column.compares_pairs());
    // Sixty-four comparisons take as long as a row.
    let each = if compares {
        groups.largest().div_ceil(64)
    } else {
        1
    };
    run(py, rewards.len().saturating_mul(each), |cancel| {
        rows::rows(input, columns, &mut buffers, cancel)
    })?;
    drop(borrowed);
    arrays.rotate_right(more);
    arrays.truncate(columns.len());
    Ok(arrays)
}

/// Binds [`summary::summaries`]: the fields of `GroupStats`, in its order.
#[pyfunction]
pub(super) fn stats<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
) -> PyResult<Bound<'py, PyDict>> {
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let found = run(py, rewards.len(), |cancel| {
        summary::summaries(rewards, groups, cancel)
    })?;
    let floats = |field: fn(&Summary) -> f64| -> Array<'py, f64> {
        found
            .iter()
            .map(field)
            .collect::<Vec<f64>>()
            .into_pyarray(py)
    };
    let counts = |field: fn(&Summary) -> i64| -> Array<'py, i64> {
        found
            .iter()
            .map(field)
            .collect::<Vec<i64>>()
            .into_pyarray(py)
    };
    let fields = PyDict::new(py);
    fields.set_item("size", counts(|group| group.size))?;
    fields.set_item("scored", counts(|group| group.scored))?;
    fields.set_item("mean", floats(|group| group.mean))?;
    fields.set_item("std", floats(|group| group.std))?;
    fields.set_item("min", floats(|group| group.min))?;
    fields.set_item("max", floats(|group| group.max))?;
    fields.set_item("median", floats(|group| group.median))?;
    fields.set_item("distinct", counts(|group| group.distinct))?;
    Ok(fields)
}

/// Binds [`summary::quantiles`]: flat, the quantiles of one group after another.
#[pyfunction]
pub(super) fn quantiles<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    q: Vec<f64>,
) -> PyResult<Array<'py, f64>> {
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let work = |cancel: &_| summary::quantiles(rewards, groups, &q, cancel);
    Ok(run(py, rewards.len(), work)?.into_pyarray(py))
}

/// Binds [`batch::scaled`].
#[pyfunction]
pub(super) fn scaled<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    centred: bool,
    eps: f64,
) -> PyResult<Array<'py, f64>> {
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let scale = if centred {
        Scale::Centred
    } else {
        Scale::Rewards
    };
    let work = |cancel: &_| batch::scaled(rewards, groups, scale, eps, cancel);
    Ok(run(py, rewards.len(), work)?.into_pyarray(py))
}

/// Binds [`batch::weighted`]: of an advantage of each of several rewards.
#[pyfunction]
pub(super) fn weighted<'py>(
    py: Python<'py>,
    rewards: Vec<PyReadonlyArray1<'py, f64>>,
    weights: Vec<f64>,
    groups: &Bound<'py, PyGroups>,
    column: &Bound<'py, PyColumn>,
    eps: Option<f64>,
) -> PyResult<Array<'py, f64>> {
    let (column, groups) = (column.get().0, &groups.get().groups);
    // Those of a matrix do not lie in one piece.
    let rewards: Vec<Cow<'_, [f64]>> = rewards
        .iter()
        .map(|rewards| match rewards.as_slice() {
            Ok(rewards) => Cow::Borrowed(rewards),
            Err(_) => Cow::Owned(rewards.as_array().to_vec()),
        })
        .collect();
    let rewards: Vec<&[f64]> = rewards.iter().map(AsRef::as_ref).collect();
    let steps = groups.n_rows().saturating_mul(rewards.len());
    let work = |cancel: &_| batch::weighted((&rewards, &weights), groups, column, eps, cancel);
    Ok(run(py, steps, work)?.into_pyarray(py))
}

/// Binds [`short::short`].
#[pyfunction]
#[pyo3(name = "short")]
pub(super) fn short_<'py>(
    py: Python<'py>,
    values: PyReadonlyArray1<'py, f64>,
) -> PyResult<(Array<'py, f32>, bool)> {
    let (rounded, fits) = short::short(values.as_slice()?);
    Ok((rounded.into_pyarray(py), fits))
}

/// Binds [`float32::advantages`] of groups of one size; None where float64 has to be asked.
#[pyfunction]
pub(super) fn in_float32<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f32>,
    groups: &Bound<'py, PyGroups>,
    estimator: &str,
    lengths: Option<PyReadonlyArray1<'py, i64>>,
) -> PyResult<Option<Array<'py, f32>>> {
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let lengths = lengths
        .as_ref()
        .map(PyReadonlyArray1::as_slice)
        .transpose()?;
    let kind = match (estimator, lengths) {
        ("mean", None) => Kind::Mean,
        ("rloo", None) => Kind::Rloo,
        ("maxrl", None) => Kind::MaxRl,
        ("opo", Some(lengths)) if lengths.len() == rewards.len() => Kind::Opo(lengths),
        _ => return Ok(None),
    };
    let Some(size) = groups.size().filter(|_| groups.n_rows() == rewards.len()) else {
        return Ok(None);
    };
    let work = |cancel: &_| float32::advantages(rewards, kind, size, cancel);
    let found = run(py, rewards.len(), work)?;
    Ok(found.map(|found| found.into_pyarray(py)))
}

/// Binds [`summary::pass_at_k`].
#[pyfunction]
pub(super) fn pass_at_k<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    k: usize,
    threshold: f64,
) -> PyResult<Array<'py, f64>> {
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let work = |cancel: &_| summary::pass_at_k(rewards, groups, k, threshold, cancel);
    Ok(run(py, rewards.len(), work)?.into_pyarray(py))
}

/// Binds [`summary::best_of`].
#[pyfunction]
pub(super) fn best_of<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    k: usize,
) -> PyResult<Array<'py, f64>> {
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let work = |cancel: &_| summary::best_of(rewards, groups, k, cancel);
    Ok(run(py, rewards.len(), work)?.into_pyarray(py))
}

/// Binds [`pairs::pairs`].
#[pyfunction]
#[pyo3(name = "pairs")]
pub(super) fn pairs_<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    strategy: &str,
    margin: f64,
    seed: u64,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let strategy = match strategy {
        "best_worst" => Strategy::BestWorst,
        "all" => Strategy::All,
        "best_random" => Strategy::BestRandom { seed },
        _ => return Err(PyValueError::new_err(format!("no strategy {strategy:?}"))),
    };
    let (rewards, groups) = (rewards.as_slice()?, &groups.get().groups);
    let work = |cancel: &_| pairs::pairs(rewards, groups, strategy, margin, cancel);
    let steps = rewards.len().saturating_mul(rewards.len());
    let pairs = run(py, steps, work)?;
    let n = pairs.len();
    pairs.into_flattened().into_pyarray(py).reshape([n, 2])
}

/// Binds [`opo::advantages`].
#[pyfunction]
#[pyo3(name = "opo")]
pub(super) fn opo_<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    lengths: PyReadonlyArray1<'py, i64>,
    groups: &Bound<'py, PyGroups>,
) -> PyResult<Array<'py, f64>> {
    let (rewards, lengths) = (rewards.as_slice()?, lengths.as_slice()?);
    let groups = &groups.get().groups;
    let work = |cancel: &_| opo::advantages(rewards, lengths, groups, cancel);
    Ok(run(py, rewards.len(), work)?.into_pyarray(py))
}

/// Binds [`pack::pack`].
#[pyfunction]
#[pyo3(name = "pack")]
pub(super) fn pack_<'py>(
    py: Python<'py>,
    lengths: PyReadonlyArray1<'py, i64>,
    max_tokens: i64,
) -> PyResult<Vec<Array<'py, i64>>> {
    let lengths = lengths.as_slice()?;
    let packs = py.detach(|| pack::pack(lengths, max_tokens))?;
    let index = |i: usize| i64::try_from(i).unwrap_or(i64::MAX);
    let packs = packs
        .into_iter()
        .map(|pack| pack.into_iter().map(index).collect::<Vec<_>>());
    Ok(packs.map(|pack| pack.into_pyarray(py)).collect())
}
