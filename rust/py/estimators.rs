//! Columns and estimators from their names and options, all of which Python has checked.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::stats::advantage::Estimator;
use crate::stats::column::Column;
use crate::stats::decimal::Written;
use crate::stats::normal::Scores;
use crate::stats::rank::Ties;

/// A column with its options, which are read once.
#[pyclass(frozen, name = "Column", module = "gspo_rs._core")]
pub(super) struct PyColumn(pub(super) Column);

#[pymethods]
impl PyColumn {
    #[new]
    fn new(name: &str, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self(column(name, options)?))
    }
}

fn column(name: &str, options: &Bound<'_, PyDict>) -> PyResult<Column> {
    Ok(match name {
        "rank" => Column::Rank(ties(&option::<String>(options, "method")?)?),
        "percentile" => Column::Percentile,
        "top_fraction" => Column::TopFraction(written(options, "q")?),
        "advantage" => Column::Advantage(estimator(options)?),
        "group_size" => Column::GroupSize,
        "group_mean" => Column::GroupMean,
        "group_std" => Column::GroupStd,
        _ => return Err(unknown("column", name)),
    })
}

fn estimator(options: &Bound<'_, PyDict>) -> PyResult<Estimator> {
    let name: String = option(options, "estimator")?;
    Ok(match name.as_str() {
        "percentile" => Estimator::Percentile {
            unit: option::<String>(options, "scale")? == "unit",
            ties: ties(&option::<String>(options, "ties")?)?,
        },
        "top_fraction" => Estimator::TopFraction {
            q: written(options, "q")?,
        },
        "normal" => Estimator::Normal {
            scores: scores(&option::<String>(options, "scores")?)?,
        },
        "soft_winrate" => Estimator::SoftWinrate {
            tau: option(options, "tau")?,
        },
        "gopo" => Estimator::Gopo,
        _ => by_value(&name, options)?,
    })
}

/// The estimators that look at more than ranks.
fn by_value(name: &str, options: &Bound<'_, PyDict>) -> PyResult<Estimator> {
    Ok(match name {
        "mean" => Estimator::Mean,
        "rloo" => Estimator::Rloo,
        "zscore" => Estimator::Zscore {
            ddof: option(options, "ddof")?,
            eps: option(options, "eps")?,
        },
        "quantile" => Estimator::Quantile {
            k: written(options, "k")?,
            ddof: option(options, "ddof")?,
            eps: option(options, "eps")?,
        },
        "maxrl" => Estimator::MaxRl,
        "best_minus_second" => Estimator::BestMinusSecond,
        "pass_at_k" => Estimator::PassAtK {
            k: option(options, "k")?,
            threshold: option(options, "threshold")?,
        },
        "pkpo" => Estimator::Pkpo {
            k: option(options, "k")?,
            leave_one_out: option::<String>(options, "baseline")? == "leave_one_out",
        },
        _ => return Err(unknown("estimator of one group", name)),
    })
}

fn ties(name: &str) -> PyResult<Ties> {
    Ok(match name {
        "average" | "midrank" => Ties::Average,
        "min" => Ties::Min,
        "max" => Ties::Max,
        "dense" => Ties::Dense,
        "ordinal" => Ties::Ordinal,
        _ => return Err(unknown("tie rule", name)),
    })
}

fn scores(name: &str) -> PyResult<Scores> {
    Ok(match name {
        "van_der_waerden" => Scores::VanDerWaerden,
        "blom" => Scores::Blom,
        _ => return Err(unknown("normal score", name)),
    })
}

fn unknown(what: &str, name: &str) -> PyErr {
    PyValueError::new_err(format!("no {what} {name:?}"))
}

fn written(options: &Bound<'_, PyDict>, name: &str) -> PyResult<Written> {
    Ok(option::<f64>(options, name)?.into())
}

fn option<'py, T>(options: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    let value = options.as_any().get_item(name)?;
    value.extract::<T>().map_err(Into::into)
}
