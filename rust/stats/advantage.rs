//! The advantage estimators: how far each completion stands above its group.
//!
//! A group with fewer than two scorable members, or with equal ones, has advantage exactly 0;
//! so has a member without a score.

use super::decimal::Written;
use super::draws;
use super::normal::{self, Scores, Tables};
use super::quantile::quantile;
use super::rank::{self, Ties};
use super::sorted::Sorted;
use crate::pool::CHECK_EVERY;

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

/// Writes the advantages of one group over the zeros in `out`.
pub fn advantages(group: &Sorted, estimator: Estimator, tables: &mut Tables, out: &mut [f64]) {
    if !group.is_informative() {
        return;
    }
    let n = group.values().len() as f64;
    match estimator {
        Estimator::Percentile { unit, ties } => {
            let scale = if unit { unit_scale(n) } else { 1.0 };
            by_rank(group, ties, scale, out);
        }
        Estimator::Gopo => by_rank(group, Ties::Average, 2.0, out),
        Estimator::TopFraction { q } => {
            rank::top_fraction(group, q, out);
            adjust(group, out, |share| share - q.value());
        }
        Estimator::Mean => centred(group, 1.0, out),
        Estimator::Rloo => centred(group, n / (n - 1.0), out),
        Estimator::Zscore { ddof, eps } => {
            group.by_value(out, group.moments().standardise(ddof, eps));
        }
        Estimator::Quantile { k, ddof, eps } => {
            let origin = quantile(group.values(), k);
            let standardise = group.moments().standardise_from(origin, ddof, eps);
            group.by_value(out, standardise);
        }
        Estimator::MaxRl => group.by_value(out, group.moments().relative()),
        Estimator::Normal { scores } => normal::normal_scores(group, scores, tables, out),
        Estimator::SoftWinrate { tau } => soft_wins(group, tau, out),
        Estimator::BestMinusSecond => best_minus_second(group, out),
        Estimator::PassAtK { k, threshold } => {
            draws::pass_at_k_advantages(group, k, threshold, out);
        }
        Estimator::Pkpo { k, leave_one_out } => {
            draws::max_at_k_advantages(group, k, leave_one_out, out);
        }
    }
}

/// What gives the percentile advantages of an untied group variance 1.
fn unit_scale(n: f64) -> f64 {
    (3.0 * (n - 1.0) / (n + 1.0)).sqrt()
}

/// `scale` times wins minus losses over opponents; with other tie rules, twice the rank minus its
/// mean. The division comes last, so that a scale that is a power of two leaves it exact.
fn by_rank(group: &Sorted, ties: Ties, scale: f64, out: &mut [f64]) {
    let n = group.values().len() as f64;
    let others = n - 1.0;
    if ties == Ties::Average {
        rank::margins(group, out, |margin| margin * scale / others);
    } else {
        rank::ranks(group, ties, out);
        let score = |rank: f64| (2.0 * rank - n - 1.0) * scale / others;
        adjust(group, out, score);
    }
}

fn centred(group: &Sorted, scale: f64, out: &mut [f64]) {
    let mean = group.moments().mean;
    group.by_value(out, |value| (value - mean) * scale);
}

/// Bradley-Terry wins minus losses; members are compared class by class of equal rewards.
fn soft_wins(group: &Sorted, tau: f64, out: &mut [f64]) {
    let values = group.values();
    let classes: Vec<(f64, f64)> = group
        .ties()
        .map(|(below, tied)| (values[below], tied.len() as f64))
        .collect();
    for (below, tied) in group.ties() {
        let mine = values[below];
        let mut wins = 0.0;
        for block in classes.chunks(CHECK_EVERY) {
            if group.stopped() {
                return;
            }
            for &(other, count) in block {
                wins += count * soft_sign(mine, other, tau);
            }
        }
        for &place in tied {
            out[place as usize] = wins / (values.len() - 1) as f64;
        }
    }
}

/// `tanh((a - b) / (2 tau))`, right where the difference leaves the range of float64.
fn soft_sign(a: f64, b: f64, tau: f64) -> f64 {
    let step = a - b;
    if step.is_finite() {
        (step / tau / 2.0).tanh()
    } else {
        ((a / 2.0 - b / 2.0) / tau).tanh()
    }
}

fn best_minus_second(group: &Sorted, out: &mut [f64]) {
    if let [.., second, best] = group.values() {
        out[group.place(group.values().len() - 1)] = best - second;
    }
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
