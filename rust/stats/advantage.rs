//! The advantage estimators: how far each completion stands above its group.
//!
//! A group with fewer than two scorable members, or with equal ones, has advantage exactly 0;
//! so has a member without a score.

use super::decimal::Written;
use super::draws;
use super::group::Group;
use super::needs::Needs;
use super::normal::{self, Scores, Tables};
use super::quantile::quantile_of;
use super::rank::{self, Ties};
use super::sorted::Sorted;
use super::winrate::soft_wins;

/// An estimator with its options; formulas in `docs/reference/estimators.md`.
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
        q: Written,
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
    /// The mean normal score of the ranks that tied members share.
    Normal {
        /// The quantile that a rank scores.
        scores: Scores,
    },
    /// Mean of `tanh((reward - other) / (2 tau))` over the others.
    SoftWinrate {
        /// The difference that begins to count, in units of reward.
        tau: f64,
    },
    /// Reward minus a quantile of the group, over standard deviation plus `eps`.
    Quantile {
        /// The quantile, in [0, 1].
        k: Written,
        /// Degrees of freedom taken off.
        ddof: usize,
        /// Added to the deviation.
        eps: f64,
    },
    /// Reward over mean, minus 1; for rewards that are not negative.
    MaxRl,
    /// The best reward minus the second for the best, 0 for the rest.
    BestMinusSecond,
    /// Right and wrong answers by what they do for the chance that `k` draws hold a right one.
    PassAtK {
        /// Draws.
        k: usize,
        /// The lowest reward of a right answer.
        threshold: f64,
    },
    /// The share in the gradient of the mean best of `k` draws.
    Pkpo {
        /// Draws.
        k: usize,
        /// Whether the best that the others would bring is taken off.
        leave_one_out: bool,
    },
}

impl Estimator {
    /// What it asks of a group, if that is no more than [`plain`] does.
    pub(crate) fn needs(self) -> Option<Needs> {
        let mut needs = Needs::default();
        match self {
            Self::Percentile {
                ties: Ties::Average,
                ..
            }
            | Self::TopFraction { .. }
            | Self::Normal { .. }
            | Self::Gopo => needs.standings = true,
            Self::Mean | Self::Rloo | Self::MaxRl => needs.mean = true,
            Self::Zscore { .. } => needs.spread = true,
            Self::Quantile { .. } => (needs.order, needs.spread) = (true, true),
            Self::SoftWinrate { .. } => needs.order = true,
            Self::BestMinusSecond => needs.best = true,
            Self::PassAtK { .. } => {}
            _ => return None,
        }
        Some(needs)
    }
}

/// Writes the advantages of one group over the zeros in `out`.
pub fn advantages(group: &Sorted, estimator: Estimator, tables: &mut Tables, out: &mut [f64]) {
    match estimator {
        _ if !group.is_informative() => {}
        Estimator::Percentile { unit, ties } if ties != Ties::Average => {
            by_rank(group, ties, scale_of(group, unit), out);
        }
        Estimator::Normal { scores } => normal::normal_scores(group, scores, tables, out),
        Estimator::Pkpo { k, leave_one_out } => {
            draws::max_at_k_advantages(group, k, leave_one_out, out);
        }
        _ => plain(group, estimator, tables, out),
    }
}

/// Writes the same for an estimator with [`Estimator::needs`].
pub(crate) fn plain(
    group: &impl Group,
    estimator: Estimator,
    tables: &mut Tables,
    out: &mut [f64],
) {
    let n = group.scored() as f64;
    match estimator {
        _ if !group.is_informative() => {}
        Estimator::Percentile { unit, .. } => by_margin(group, scale_of(group, unit), out),
        Estimator::Gopo => by_margin(group, 2.0, out),
        Estimator::Normal { scores } => normal::scores_by_standing(group, scores, tables, out),
        Estimator::TopFraction { q } => {
            rank::top_fraction(group, q, out, |share| share - q.value());
        }
        Estimator::Mean => centred(group, 1.0, out),
        Estimator::Rloo => centred(group, n / (n - 1.0), out),
        Estimator::Zscore { ddof, eps } => {
            group.by_value(out, group.moments().standardise(ddof, eps));
        }
        Estimator::Quantile { k, ddof, eps } => {
            let origin = quantile_of(group.scored(), |at| group.value(at), k);
            let standardise = group.moments().standardise_from(origin, ddof, eps);
            group.by_value(out, standardise);
        }
        Estimator::MaxRl => group.by_value(out, group.moments().relative()),
        Estimator::SoftWinrate { tau } => soft_wins(group, tau, &mut tables.classes, out),
        Estimator::BestMinusSecond => best_minus_second(group, out),
        Estimator::PassAtK { k, threshold } => {
            draws::pass_at_k_advantages(group, k, threshold, &mut tables.passes, out);
        }
        Estimator::Pkpo { .. } => unreachable!("its draws are taken above"),
    }
}

fn scale_of(group: &impl Group, unit: bool) -> f64 {
    if unit {
        unit_scale(group.scored() as f64)
    } else {
        1.0
    }
}

/// What gives the percentile advantages of an untied group variance 1.
fn unit_scale(n: f64) -> f64 {
    (3.0 * (n - 1.0) / (n + 1.0)).sqrt()
}

/// `scale` times wins minus losses over opponents. The division comes last, so that a scale that is
/// a power of two leaves it exact.
fn by_margin(group: &impl Group, scale: f64, out: &mut [f64]) {
    let others = group.scored() as f64 - 1.0;
    rank::margins(group, out, |margin| margin * scale / others);
}

/// The same with other tie rules: twice the rank minus its mean.
fn by_rank(group: &Sorted, ties: Ties, scale: f64, out: &mut [f64]) {
    let n = group.values().len() as f64;
    rank::ranks(group, ties, out);
    let score = |rank: f64| (2.0 * rank - n - 1.0) * scale / (n - 1.0);
    adjust(group, out, score);
}

fn centred(group: &impl Group, scale: f64, out: &mut [f64]) {
    let mean = group.moments().mean;
    group.by_value(out, |value| (value - mean) * scale);
}

fn best_minus_second(group: &impl Group, out: &mut [f64]) {
    let (best, second) = group.best_two();
    // Where several are best, nobody gets anything.
    group.by_value(out, |value| if value == best { best - second } else { 0.0 });
}

fn adjust(group: &Sorted, out: &mut [f64], change: impl Fn(f64) -> f64) {
    for (places, _) in group.blocks() {
        for &place in places {
            out[place as usize] = change(out[place as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> [Estimator; 13] {
        [
            Estimator::Percentile {
                unit: true,
                ties: Ties::Average,
            },
            Estimator::TopFraction { q: 0.2.into() },
            Estimator::Gopo,
            Estimator::Mean,
            Estimator::Rloo,
            Estimator::Zscore { ddof: 1, eps: 0.0 },
            Estimator::Normal {
                scores: Scores::Blom,
            },
            Estimator::SoftWinrate { tau: 0.5 },
            Estimator::Quantile {
                k: 0.4.into(),
                ddof: 1,
                eps: 0.0,
            },
            Estimator::MaxRl,
            Estimator::BestMinusSecond,
            Estimator::PassAtK {
                k: 2,
                threshold: 0.5,
            },
            Estimator::Pkpo {
                k: 2,
                leave_one_out: true,
            },
        ]
    }

    fn of(rewards: &[f64], estimator: Estimator) -> Vec<f64> {
        let mut group = Sorted::default();
        group.load(rewards).unwrap();
        let mut out = vec![0.0; rewards.len()];
        advantages(&group, estimator, &mut Tables::default(), &mut out);
        out
    }

    proptest! {
        #[test]
        fn a_group_of_equal_rewards_has_no_advantage(
            reward in any::<f64>().prop_filter("finite", |r| r.is_finite()), n in 0_usize..40
        ) {
            for estimator in all() {
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
            rank::margins(&group, &mut out, |margin| margin);
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
