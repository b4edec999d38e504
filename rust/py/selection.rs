//! Binds what is drawn and chosen from groups; documented in `gspo_rs.draws`, `gspo_rs.pairs`
//! and `gspo_rs.advantages`.

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::call::run;
use super::groups::PyGroups;
use crate::stats::opo;
use crate::stats::pairs::{self, Strategy};
use crate::stats::summary;

/// Binds [`summary::pass_at_k`].
#[pyfunction]
pub(super) fn pass_at_k<'py>(
    py: Python<'py>,
    rewards: PyReadonlyArray1<'py, f64>,
    groups: &Bound<'py, PyGroups>,
    k: usize,
    threshold: f64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
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
) -> PyResult<Bound<'py, PyArray1<f64>>> {
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
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (rewards, lengths) = (rewards.as_slice()?, lengths.as_slice()?);
    let groups = &groups.get().groups;
    let work = |cancel: &_| opo::advantages(rewards, lengths, groups, cancel);
    Ok(run(py, rewards.len(), work)?.into_pyarray(py))
}
