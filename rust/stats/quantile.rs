//! Quantiles of sorted rewards, interpolated linearly between neighbours.

use super::decimal::Written;

/// The `q`-quantile of ascending `values` at place `(n - 1) q` (type 7 of Hyndman and Fan), with
/// `q` in [0, 1] as it was written; NaN for no values.
///
/// # Examples
/// ```
/// use gspo_rs::quantile;
///
/// assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
/// ```
#[must_use]
pub fn quantile(values: &[f64], q: impl Into<Written>) -> f64 {
    quantile_of(values.len(), |at| values[at], q.into())
}

/// The same of `n` values, of which `value` gives the one at a place in their order.
pub(crate) fn quantile_of(n: usize, value: impl Fn(usize) -> f64, q: Written) -> f64 {
    let Some(last) = n.checked_sub(1) else {
        return f64::NAN;
    };
    let place = q.times(last);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= q <= 1"
    )]
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    lerp(value(below), value(above), place - below as f64)
}

/// The middle of ascending `values`, or the mean of the two middle ones; NaN for no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    match values.len().checked_sub(1) {
        Some(last) if last % 2 == 0 => values[last / 2],
        Some(last) => lerp(values[last / 2], values[last / 2 + 1], 0.5),
        None => f64::NAN,
    }
}

/// Between `a` and `b`, exact at both ends, monotone, and without overflow.
fn lerp(a: f64, b: f64, t: f64) -> f64 {
    let step = b - a;
    if step.is_infinite() {
        a * (1.0 - t) + b * t
    } else if t < 0.5 {
        a + step * t
    } else {
        b - step * (1.0 - t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exact_and_the_widest_span_does_not_overflow() {
        let values = [-1.7e308, 1.7e308];
        assert_eq!(
            [0.0, 0.5, 1.0].map(|q| quantile(&values, q)),
            [-1.7e308, 0.0, 1.7e308]
        );
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(quantile(&[2.5], 0.3), 2.5);
    }
}
