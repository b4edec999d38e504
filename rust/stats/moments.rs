//! Mean and spread of sorted rewards: the mean rounded once, the spread in a pass around it.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::ends::Ends;
use super::mean;
use super::network::greater;
use super::radix;
use super::steady;
use crate::error::Error;
use crate::pool::{CHECK_EVERY, Cancel};

/// Beyond these bounds a square or a sum leaves the range of float64, and work is scaled.
pub(super) const SMALL: f64 = 1e-140;
pub(super) const LARGE: f64 = 1e140;

/// Mean and centred sum of squares of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// The float64 nearest to the arithmetic mean; NaN for an empty group.
    pub mean: f64,
    /// The mean of the scaled values: it keeps the digits that a subnormal mean has not.
    centre: f64,
    /// The root of the centred sum of squares of the scaled values.
    norm: f64,
    /// A power of two, 1 but for extreme values.
    scale: f64,
    count: usize,
}

impl Moments {
    /// Of ascending `values`; a group of equal values has exactly its value and spread 0.
    #[must_use]
    pub fn new(values: &[f64]) -> Self {
        let (count, Some(&low), Some(&high)) = (values.len(), values.first(), values.last()) else {
            return Self {
                mean: f64::NAN,
                centre: f64::NAN,
                norm: f64::NAN,
                scale: 1.0,
                count: 0,
            };
        };
        if low >= high {
            return Self {
                mean: low,
                centre: low,
                norm: 0.0,
                scale: 1.0,
                count,
            };
        }
        let reach = high.abs().max(low.abs());
        let scale = if reach >= LARGE {
            2_f64.powi(-600)
        } else if high - low <= SMALL {
            2_f64.powi(700)
        } else {
            1.0
        };
        let mean = mean::mean(values);
        let centre = if scale == 1.0 {
            mean
        } else {
            mean::scaled(values, scale)
        };
        Self {
            mean,
            centre,
            norm: norm(values, scale, centre, (low * scale, high * scale)),
            scale,
            count,
        }
    }

    /// Of values in any order: three passes where they need no scale, else they are sorted. The
    /// mean is not rounded as that of a group is.
    pub(super) fn unsorted(values: &[f64], cancel: &Cancel) -> Result<Self, Error> {
        let Ends { low, high, finite } = Ends::widest(values);
        cancel.check()?;
        let plain = -LARGE < low && high < LARGE && high - low > SMALL;
        if !plain {
            return Ok(Self::new(&radix::values(values, cancel)?));
        }
        let mut known = Vec::new();
        if !finite {
            for block in values.chunks(CHECK_EVERY) {
                cancel.check()?;
                known.extend(block.iter().filter(|value| !value.is_nan()));
            }
        }
        let values = if finite { values } else { &known };
        let mean = steady::sum(values, greater(-low, high)) / values.len() as f64;
        cancel.check()?;
        let norm = norm(values, 1.0, mean, (low, high));
        Ok(Self::of(mean, norm, values.len()))
    }

    /// Of values that need no scale.
    pub(super) fn of(mean: f64, norm: f64, count: usize) -> Self {
        Self {
            mean,
            centre: mean,
            norm,
            scale: 1.0,
            count,
        }
    }

    /// The standard deviation with `count - ddof` in the denominator; NaN where that is not
    /// positive.
    #[must_use]
    pub fn std(&self, ddof: usize) -> f64 {
        match self.count.checked_sub(ddof) {
            Some(freedom) if freedom > 0 => self.norm / (freedom as f64).sqrt() / self.scale,
            _ => f64::NAN,
        }
    }

    /// A function that gives `(value - mean) / (std + eps)`, or 0 where that has no meaning.
    pub fn standardise(self, ddof: usize, eps: f64) -> impl Fn(f64) -> f64 {
        self.standardise_around(self.centre, ddof, eps)
    }

    /// A function that gives `(value - origin) / (std + eps)`, or 0 where that has no meaning.
    pub fn standardise_from(self, origin: f64, ddof: usize, eps: f64) -> impl Fn(f64) -> f64 {
        self.standardise_around(origin * self.scale, ddof, eps)
    }

    /// A function that gives `value / mean - 1`, or 0 where the mean is not positive.
    pub fn relative(self) -> impl Fn(f64) -> f64 {
        move |value| {
            if self.centre > 0.0 {
                (value * self.scale - self.centre) / self.centre
            } else {
                0.0
            }
        }
    }

    fn standardise_around(self, origin: f64, ddof: usize, eps: f64) -> impl Fn(f64) -> f64 {
        let freedom = self.count.saturating_sub(ddof) as f64;
        let scale = self.scale;
        let deviation = self.norm / freedom.sqrt() + eps * scale;
        let defined = freedom > 0.0 && deviation > 0.0;
        move |value| {
            if defined {
                (value * scale - origin) / deviation
            } else {
                0.0
            }
        }
    }
}

/// The root of the sum of squares around `centre` of values times `scale`, which lie between
/// these ends.
fn norm(values: &[f64], scale: f64, centre: f64, ends: (f64, f64)) -> f64 {
    let n = values.len() as f64;
    let reach = reach(centre, ends);
    let residue = if residue_shows(n, centre, ends) {
        steady::around(values, reach, (scale, centre))
    } else {
        0.0
    };
    root(steady::squares(values, reach, (scale, centre)), residue, n)
}

/// How far numbers between these ends are from `centre`.
#[inline(always)]
pub(super) fn reach(centre: f64, (low, high): (f64, f64)) -> f64 {
    greater(high - centre, centre - low)
}

/// Whether what rounding left in the mean of `n` values can be seen in the squares around it, the
/// sum of which is at least half of the square of what lies between the ends.
#[inline(always)]
pub(super) fn residue_shows(n: f64, mean: f64, (low, high): (f64, f64)) -> bool {
    const PART: f64 = 1.0 / (1_u64 << 40) as f64;
    n * (mean * mean) * PART >= (high - low) * (high - low)
}

/// The root of a sum of squares, less the share in it of what rounding left in the mean.
#[inline(always)]
pub(super) fn root(squares: f64, residue: f64, n: f64) -> f64 {
    greater(squares - residue * residue / n, 0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equal_values_have_their_value_as_mean_and_no_spread(
            value in any::<f64>().prop_filter("finite", |v| v.is_finite()), n in 1_usize..70
        ) {
            let moments = Moments::new(&vec![value; n]);
            prop_assert_eq!((moments.mean, moments.std(0)), (value, 0.0));
        }
    }

    #[test]
    fn the_mean_of_a_large_group_of_two_values_keeps_its_digits() {
        let mut values = vec![0.0; 8383];
        values[5599..].fill(1.0);
        assert!((Moments::new(&values).mean - 2784.0 / 8383.0).abs() < 1e-15);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let moments = Moments::new(&[-1e308, 1e308]);
        assert_eq!(moments.mean, 0.0);
        assert!((moments.std(1) / (2.0_f64.sqrt() * 1e308) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn subnormals_keep_their_spread() {
        let moments = Moments::new(&[0.0, 1e-310]);
        assert!((moments.std(1) / (1e-310 / 2.0_f64.sqrt()) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_value_has_no_sample_deviation() {
        assert!(Moments::new(&[3.0]).std(1).is_nan());
        assert!(Moments::new(&[]).mean.is_nan());
    }

    #[test]
    fn the_order_of_a_batch_and_what_is_missing_change_no_bit() {
        let deviation = |values: &[f64]| {
            let moments = Moments::unsorted(values, &Cancel::default());
            moments.unwrap().std(1)
        };
        let rewards: Vec<f64> = (0..5000)
            .map(|i| f64::from(i * 7919 % 1000) / 7.0 - 50.0)
            .collect();
        let mut shuffled: Vec<f64> = rewards.iter().rev().copied().collect();
        shuffled.insert(17, f64::NAN);
        let found = deviation(&rewards);
        assert_eq!(deviation(&shuffled), found);
        // 5 times 0..1000 over 7: the variance of a uniform grid.
        let expected = ((1e6_f64 - 1.0) / 12.0 * 5000.0 / 4999.0).sqrt() / 7.0;
        assert!((found / expected - 1.0).abs() < 1e-14);
    }

    #[test]
    fn far_from_zero_a_batch_and_a_group_keep_the_digits_of_their_spread() {
        let mut values: Vec<f64> = (0..1000)
            .map(|i| 2_f64.powi(45) + f64::from(i * 7919 % 1000))
            .collect();
        let batch = Moments::unsorted(&values, &Cancel::default()).unwrap();
        values.sort_by(f64::total_cmp);
        let expected = ((1e6_f64 - 1.0) / 12.0 * 1000.0 / 999.0).sqrt();
        for found in [batch.std(1), Moments::new(&values).std(1)] {
            assert!((found / expected - 1.0).abs() < 1e-14);
        }
    }
}
