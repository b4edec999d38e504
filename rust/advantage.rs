//! The advantage estimators: how far each completion stands above its group.
//!
//! A group with fewer than two scorable members, or with equal ones, has advantage exactly 0;
//! so has a member without a score.

use crate::rank::{self, Ties};
use crate::sorted::Sorted;

/// An estimator with its options; formulas in `docs/estimators.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Estimator {
    /// `2 p - 1`, times `sqrt(3 (N - 1) / (N + 1))` for unit scale.
    Percentile {
        /// Whether an untied group is given unit variance.
        unit: bool,
        /// The rank rule that decides `p`.
        ties: Ties,
    },
    /// Share in the best fraction `q`, minus `q`.
    TopFraction {
        /// The fraction, in (0, 1].
        q: f64,
    },
    /// Twice the percentile score, the scale of GOPO.
    Gopo,
    /// Reward minus group mean.
    Mean,
    /// Reward minus the mean of the others.
    Rloo,
    /// Reward minus mean, over standard deviation plus `eps`.
    Zscore {
        /// Degrees of freedom taken off.
        ddof: usize,
        /// Added to the deviation.
        eps: f64,
    },
}

/// Writes the advantages of one group over the zeros in `out`.
pub fn advantages(group: &Sorted, estimator: Estimator, out: &mut [f64]) {
    if !group.is_informative() {
        return;
    }
    let n = group.values().len() as f64;
    match estimator {
        Estimator::Percentile { unit, ties } => {
            let scale = if unit {
                (3.0 * (n - 1.0) / (n + 1.0)).sqrt()
            } else {
                1.0
            };
            by_rank(group, ties, scale / (n - 1.0), out);
        }
        Estimator::Gopo => by_rank(group, Ties::Average, 2.0 / (n - 1.0), out),
        Estimator::TopFraction { q } => {
            rank::top_fraction(group, q, out);
            adjust(group, out, |share| share - q);
        }
        Estimator::Mean => centred(group, 1.0, out),
        Estimator::Rloo => centred(group, n / (n - 1.0), out),
        Estimator::Zscore { ddof, eps } => {
            let standardise = group.moments().standardise(ddof, eps);
            for (place, &value) in group.places().zip(group.values()) {
                out[place] = standardise(value);
            }
        }
    }
}

/// `scale` times wins minus losses; with other tie rules, twice the rank minus its mean.
fn by_rank(group: &Sorted, ties: Ties, scale: f64, out: &mut [f64]) {
    if ties == Ties::Average {
        rank::margins(group, out);
        adjust(group, out, |margin| margin * scale);
    } else {
        let n = group.values().len() as f64;
        rank::ranks(group, ties, out);
        adjust(group, out, |rank| (2.0 * rank - n - 1.0) * scale);
    }
}

fn centred(group: &Sorted, scale: f64, out: &mut [f64]) {
    let mean = group.moments().mean;
    for (place, &value) in group.places().zip(group.values()) {
        out[place] = (value - mean) * scale;
    }
}

fn adjust(group: &Sorted, out: &mut [f64], change: impl Fn(f64) -> f64) {
    for place in group.places() {
        out[place] = change(out[place]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Estimator; 6] = [
        Estimator::Percentile {
            unit: true,
            ties: Ties::Average,
        },
        Estimator::TopFraction { q: 0.2 },
        Estimator::Gopo,
        Estimator::Mean,
        Estimator::Rloo,
        Estimator::Zscore { ddof: 1, eps: 0.0 },
    ];

    fn of(rewards: &[f64], estimator: Estimator) -> Vec<f64> {
        let mut group = Sorted::default();
        group.load(rewards).unwrap();
        let mut out = vec![0.0; rewards.len()];
        advantages(&group, estimator, &mut out);
        out
    }

    proptest! {
        #[test]
        fn a_group_of_equal_rewards_has_no_advantage(
            reward in any::<f64>().prop_filter("finite", |r| r.is_finite()), n in 0_usize..40
        ) {
            for estimator in ALL {
                prop_assert_eq!(of(&vec![reward; n], estimator), vec![0.0; n]);
            }
        }

        #[test]
        fn wins_minus_losses_sum_to_zero_under_any_ties(
            rewards in prop::collection::vec((0_u8..5).prop_map(f64::from), 0..40)
        ) {
            let mut group = Sorted::default();
            group.load(&rewards).unwrap();
            let mut out = vec![0.0; rewards.len()];
            rank::margins(&group, &mut out);
            prop_assert_eq!(out.iter().sum::<f64>(), 0.0);
        }
    }

    #[test]
    fn binary_percentiles_are_leave_one_out_advantages() {
        let rewards = [1.0, 0.0, 0.0, 1.0, 0.0];
        let percentile = Estimator::Percentile {
            unit: false,
            ties: Ties::Average,
        };
        for (p, r) in of(&rewards, percentile)
            .iter()
            .zip(of(&rewards, Estimator::Rloo))
        {
            assert!((p - r).abs() < 1e-15);
        }
    }
}
