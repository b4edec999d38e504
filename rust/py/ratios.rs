//! Binds what is computed from the log-ratios of tokens; documented in `gspo_rs.losses`.

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::stats::ratios::{self, Clip, Rows, Values};

/// Bounds of the ratio, ratios, advantages, and whether these are one per sequence each.
type ClipArguments<'py> = (
    (f32, f32),
    PyReadonlyArray1<'py, f32>,
    PyReadonlyArray1<'py, f32>,
    (bool, bool),
);

/// Binds [`ratios::metrics`], names and values: of a padded batch with a mask, of a flat one
/// without.
#[pyfunction]
pub(super) fn ratio_metrics<'py>(
    py: Python<'py>,
    log_ratios: PyReadonlyArray1<'py, f32>,
    mask: Option<PyReadonlyArray1<'py, u8>>,
    lengths: PyReadonlyArray1<'py, i64>,
    clip: Option<ClipArguments<'py>>,
) -> PyResult<(Vec<&'static str>, Bound<'py, PyArray1<f32>>)> {
    let log_ratios = log_ratios.as_slice()?;
    let lengths = lengths.as_slice()?.iter().copied();
    let lengths = lengths.map(usize::try_from);
    let lengths = lengths.collect::<Result<Vec<usize>, _>>()?;
    let (tokens, sequences) = (log_ratios.len(), lengths.len());
    let mask = mask.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
    let rows = if let Some(mask) = mask {
        let width = tokens / sequences.max(1);
        let mask = sized(mask, tokens)?;
        Rows::Padded { mask, width }
    } else {
        sized(log_ratios, lengths.iter().sum())?;
        Rows::Flat(&lengths)
    };
    let clip = clip.as_ref().map(|clip| bound(clip, tokens, sequences));
    let clip = clip.transpose()?;
    let metrics = py.detach(|| ratios::metrics(log_ratios, rows, clip));
    #[expect(clippy::cast_possible_truncation, reason = "rounded as tensors are")]
    let (names, values): (Vec<_>, Vec<_>) = metrics
        .into_iter()
        .map(|(name, value)| (name, value as f32))
        .unzip();
    Ok((names, PyArray1::from_vec(py, values)))
}

fn bound<'a>(
    (bounds, ratios, advantages, by_sequence): &'a ClipArguments<'_>,
    tokens: usize,
    sequences: usize,
) -> PyResult<Clip<'a>> {
    let values = |values, by_sequence| {
        if by_sequence {
            sized(values, sequences).map(Values::Sequence)
        } else {
            sized(values, tokens).map(Values::Token)
        }
    };
    Ok(Clip {
        bounds: *bounds,
        ratios: values(ratios.as_slice()?, by_sequence.0)?,
        advantages: values(advantages.as_slice()?, by_sequence.1)?,
    })
}

fn sized<T>(values: &[T], expected: usize) -> PyResult<&[T]> {
    if values.len() == expected {
        return Ok(values);
    }
    let found = values.len();
    Err(PyValueError::new_err(format!(
        "{found} values where {expected} are needed"
    )))
}
