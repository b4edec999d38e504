//! Advantages that look at the whole batch: weighted sums of those of several rewards, and what is
//! scaled by the deviation of all.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::advantage::Estimator;
use super::column::Column;
use super::ends::Ends;
use super::moments::Moments;
use super::rows::{self, Input};
use super::widest::{Loops, widest};
use crate::error::Error;
use crate::groups::Groups;
use crate::pool::Cancel;

/// The deviation by which the advantages of a batch are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// That of the rewards.
    Rewards,
    /// That of the rewards less the mean of their group.
    Centred,
}

/// Computes reward minus group mean, over a deviation and `eps`. Unscorable rows get 0, dropped
/// ones NaN.
///
/// # Errors
/// As [`rows::rows`].
pub fn scaled(
    rewards: &[f64],
    groups: &Groups,
    scale: Scale,
    eps: f64,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    let ends = Ends::widest(rewards);
    let factor = factor(ends.reach());
    let moved: Vec<f64>;
    let rewards = if factor == 1.0 {
        rewards
    } else {
        moved = rewards.iter().map(|reward| reward * factor).collect();
        &moved
    };
    let mut centred = one(rewards, groups, Column::Advantage(Estimator::Mean), cancel)?;
    let (values, others) = match scale {
        Scale::Rewards => (rewards, centred.as_slice()),
        Scale::Centred => (centred.as_slice(), rewards),
    };
    // What is in no group has no advantage.
    let all = ends.finite && groups.n_kept() == values.len();
    let deviation = if all {
        Moments::unsorted(values, cancel)?.std(1)
    } else {
        deviation(values, |row| others[row].is_nan(), cancel)?
    };
    divide(&mut centred, deviation, eps * factor);
    Ok(centred)
}

/// Adds up `column` of each of `rewards`, times its weight, and divides the sum by its deviation
/// and `eps` where that is given. Rows without any reward get 0, dropped ones NaN.
///
/// # Errors
/// [`Error::Overflow`] with the first such row, else as [`rows::rows`].
pub fn weighted(
    (rewards, weights): (&[&[f64]], &[f64]),
    groups: &Groups,
    column: Column,
    eps: Option<f64>,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    let mut total = vec![0.0; groups.n_rows()];
    let mut last = Vec::new();
    for (rewards, weight) in rewards.iter().zip(weights) {
        drop(std::mem::take(&mut last)); // or it would be held while the next one is computed
        last = one(rewards, groups, column, cancel)?;
        for (total, term) in total.iter_mut().zip(&last) {
            *total += weight * term;
        }
    }
    if !Ends::widest(&total).finite {
        // What is in no group is NaN throughout.
        let mut sums = total.iter().zip(last);
        if let Some(row) = sums.position(|(total, term)| !total.is_finite() && !term.is_nan()) {
            let what = "weighted sum of the advantages";
            return Err(Error::Overflow { row, what });
        }
    }
    if let Some(eps) = eps {
        let unscorable = |row: usize| rewards.iter().all(|one| one[row].is_nan());
        let deviation = deviation(&total, unscorable, cancel)?;
        divide(&mut total, deviation, eps);
    }
    Ok(total)
}

/// One column of all rows.
fn one(
    rewards: &[f64],
    groups: &Groups,
    column: Column,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    let (mut out, mut spare) = (vec![0.0; rewards.len()], Vec::new());
    let input = Input { rewards, groups };
    if groups.is_clustered() {
        rows::rows(input, &[column], &mut [&mut out], cancel)?;
    } else {
        spare.resize(rewards.len(), 0.0);
        rows::rows(input, &[column], &mut [&mut spare, &mut out], cancel)?;
    }
    Ok(out)
}

/// The sample deviation of `values` but for NaN and for rows that are left `out`.
fn deviation(values: &[f64], out: impl Fn(usize) -> bool, cancel: &Cancel) -> Result<f64, Error> {
    let rows = values.iter().enumerate().filter(|&(row, _)| !out(row));
    let kept: Vec<f64> = rows.map(|(_, &value)| value).collect();
    Ok(Moments::unsorted(&kept, cancel)?.std(1))
}

/// Without a deviation nothing differs, and every advantage is 0 as it is.
fn divide(advantages: &mut [f64], deviation: f64, eps: f64) {
    if deviation > 0.0 {
        widest(Over(advantages, deviation + eps));
    }
}

struct Over<'a>(&'a mut [f64], f64);

impl Loops for Over<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for advantage in self.0 {
            *advantage /= self.1;
        }
    }
}

/// What brings rewards where float64 holds their differences: a power of two. What is divided by a
/// deviation of the batch does not change under it.
fn factor(reach: f64) -> f64 {
    if reach > 1e307 {
        0.25
    } else if reach < 1e-200 {
        2_f64.powi(500)
    } else {
        1.0
    }
}
