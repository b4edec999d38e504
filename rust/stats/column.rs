//! One column of what rows are told about their group.

use super::advantage::{self, Estimator};
use super::checks::first_infinite;
use super::decimal::Written;
use super::group::Group;
use super::needs::Needs;
use super::normal::Tables;
use super::rank::{self, Ties};
use super::sorted::Sorted;
use crate::error::Error;

/// One output column. Rows without a score get NaN as rank, percentile and top share,
/// 0 as advantage, and their group's size, mean and deviation like every other row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Column {
    /// The rank, 1 for the lowest reward.
    Rank(Ties),
    /// The share of the others that the row beats.
    Percentile,
    /// The share of the row in the best `q` of its group.
    TopFraction(Written),
    /// The advantage.
    Advantage(Estimator),
    /// How many rows the group has.
    GroupSize,
    /// The mean of the group's scorable rewards.
    GroupMean,
    /// Their sample standard deviation.
    GroupStd,
}

impl Column {
    /// Whether the time grows with the pairs of members, not with the members.
    #[must_use]
    pub fn compares_pairs(self) -> bool {
        matches!(self, Self::Advantage(Estimator::SoftWinrate { .. }))
    }

    pub(crate) fn check(self, rewards: &[f64]) -> Result<(), Error> {
        match self {
            Self::TopFraction(q) | Self::Advantage(Estimator::TopFraction { q }) => {
                let q = q.value();
                within("q", q, q > 0.0 && q <= 1.0)
            }
            Self::Advantage(Estimator::Quantile { k, .. }) => {
                let k = k.value();
                within("k", k, (0.0..=1.0).contains(&k))
            }
            Self::Advantage(Estimator::SoftWinrate { tau }) => {
                within("tau", tau, tau > 0.0 && tau.is_finite())
            }
            Self::Advantage(Estimator::MaxRl) => match rewards.iter().position(|&r| r < 0.0) {
                Some(row) => Err(negative_or_infinite(row, rewards)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What it asks of a group, if that is no more than [`Self::write_plain`] does.
    pub(crate) fn needs(self) -> Option<Needs> {
        let mut needs = Needs::default();
        match self {
            Self::Rank(Ties::Average) | Self::Percentile | Self::TopFraction(_) => {
                needs.standings = true;
            }
            Self::Advantage(estimator) => return estimator.needs(),
            Self::GroupMean => needs.mean = true,
            Self::GroupStd => needs.spread = true,
            Self::GroupSize => {}
            Self::Rank(_) => return None,
        }
        Some(needs)
    }

    /// Writes the column of a group without unscorable rewards, of which no difference overflows.
    pub(crate) fn write_plain(self, group: &impl Group, tables: &mut Tables, out: &mut [f64]) {
        match self {
            Self::Rank(_) => rank::mean_ranks(group, out),
            Self::Percentile => rank::percentiles(group, out),
            Self::TopFraction(q) => rank::top_fraction(group, q, out, |share| share),
            Self::Advantage(estimator) => {
                out.fill(0.0);
                advantage::plain(group, estimator, tables, out);
            }
            Self::GroupSize => out.fill(group.scored() as f64),
            Self::GroupMean => out.fill(group.moments().mean),
            Self::GroupStd => out.fill(group.moments().std(1)),
        }
    }

    /// # Errors
    /// [`Error::Overflow`] with the place in the group as its row.
    pub(crate) fn write(
        self,
        group: &Sorted,
        tables: &mut Tables,
        out: &mut [f64],
    ) -> Result<(), Error> {
        match self {
            Self::Rank(_) | Self::Percentile | Self::TopFraction(_) => out.fill(f64::NAN),
            Self::Advantage(_) => out.fill(0.0),
            _ => {}
        }
        match self {
            Self::Rank(ties) => rank::ranks(group, ties, out),
            Self::Percentile => rank::percentiles(group, out),
            Self::TopFraction(q) => rank::top_fraction(group, q, out, |share| share),
            Self::Advantage(estimator) => advantage::advantages(group, estimator, tables, out),
            Self::GroupSize => out.fill(group.size() as f64),
            Self::GroupMean => out.fill(group.moments().mean),
            Self::GroupStd => out.fill(group.moments().std(1)),
        }
        match self {
            Self::Advantage(_) => refuse_overflow(group, "advantage", out),
            Self::GroupStd => refuse_overflow(group, "standard deviation", out),
            _ => Ok(()),
        }
    }
}

/// Looks at `out` only if a difference of two rewards can leave float64.
fn refuse_overflow(group: &Sorted, what: &'static str, out: &[f64]) -> Result<(), Error> {
    let ends = [group.values().first(), group.values().last()];
    if ends
        .into_iter()
        .flatten()
        .all(|end| end.abs() < f64::MAX / 4.0)
    {
        return Ok(());
    }
    match out.iter().position(|value| value.is_infinite()) {
        Some(row) => Err(Error::Overflow { row, what }),
        None => Ok(()),
    }
}

fn within(name: &'static str, value: f64, fine: bool) -> Result<(), Error> {
    if fine {
        Ok(())
    } else {
        Err(Error::BadFraction { name, value })
    }
}

fn negative_or_infinite(row: usize, rewards: &[f64]) -> Error {
    let value = rewards[row];
    first_infinite(rewards).unwrap_or(Error::Negative { row, value })
}
