//! The best of `k` draws from a group: its expectation, and advantages that raise it.
//!
//! Binomial coefficients appear only in ratios, each the last one times a fraction, so that
//! nothing overflows.

use super::group::Group;
use super::sorted::Sorted;

/// Results that are kept from group to group.
const KNOWN: usize = 128;

/// The unbiased chance that `k` draws without replacement hold a reward of at least
/// `threshold`: `1 - C(n - c, k) / C(n, k)`; NaN for fewer than `k` scorable members.
#[must_use]
pub fn pass_at_k(group: &Sorted, k: usize, threshold: f64) -> f64 {
    let (n, correct) = counts(group, threshold);
    if n < k {
        f64::NAN
    } else {
        0.0 - log_all_wrong(n, correct, k).exp_m1()
    }
}

/// The unbiased mean of the highest of `k` draws without replacement; NaN for fewer than `k`
/// scorable members.
#[must_use]
pub fn best_of(group: &Sorted, k: usize) -> f64 {
    let values = group.values();
    let n = values.len();
    if n < k {
        return f64::NAN;
    }
    let mut best = 0.0;
    let mut weight = k as f64 / n as f64;
    for below in (k - 1..n).rev() {
        best += weight * values[below];
        weight *= lower(below, k);
    }
    best.clamp(values[0], values[n - 1])
}

/// What right and wrong get of so many rewards, so many of them right, and so many draws.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pass {
    of: (usize, usize, usize),
    right: f64,
    wrong: f64,
}

/// Writes the mean over all subgroups of `k` of their z-scored pass, for right and wrong; `known`
/// is what earlier groups got.
pub fn pass_at_k_advantages(
    group: &impl Group,
    k: usize,
    threshold: f64,
    known: &mut Vec<Pass>,
    out: &mut [f64],
) {
    let (n, correct) = counts(group, threshold);
    if correct == 0 || n - correct < k {
        return;
    }
    known.resize(KNOWN, Pass::default());
    let pass = &mut known[(n + correct) % KNOWN];
    if pass.of != (n, correct, k) {
        let all_wrong = log_all_wrong(n, correct, k);
        let right = (0.5 * all_wrong).exp() / (-all_wrong.exp_m1()).sqrt();
        *pass = Pass {
            of: (n, correct, k),
            right,
            wrong: -right * (correct as f64 / (n - correct) as f64),
        };
    }
    let Pass { right, wrong, .. } = *pass;
    group.by_value(out, |value| if value >= threshold { right } else { wrong });
}

/// Writes each member's share of the gradient of the mean best of `k`: its reward where it is
/// the best of a draw, plus the rewards of those that beat it in one. With `leave_one_out`, less
/// what the others would bring without it.
pub fn max_at_k_advantages(group: &Sorted, k: usize, leave_one_out: bool, out: &mut [f64]) {
    best_with(group, k, out);
    if leave_one_out {
        subtract_best_without(group, k, out);
    }
}

fn best_with(group: &Sorted, k: usize, out: &mut [f64]) {
    let values = group.values();
    let n = values.len();
    if n < k {
        return;
    }
    let draws = k as f64 / n as f64;
    // Draws in which the member at `at` is the best, and draws in which it beats a given one.
    let (mut at, mut is_best) = (n - 1, draws);
    let mut beats = if k > 1 {
        draws * (k - 1) as f64 / (n - 1) as f64
    } else {
        0.0
    };
    let mut above = 0.0;
    for tied in group.falling_ties() {
        // Tied members are worth the same; the formula is that of the last of them.
        let share = is_best * values[at] + above;
        for &place in tied {
            out[place as usize] = share;
        }
        for _ in 0..tied.len().min(at) {
            above += beats * values[at];
            is_best *= lower(at, k);
            beats *= if at > 1 {
                (at + 1).saturating_sub(k) as f64 / (at - 1) as f64
            } else {
                0.0
            };
            at -= 1;
        }
    }
}

/// Takes `k / n` of the mean best of `k` of the others off what `out` holds; 0 where there are
/// too few others to draw from.
fn subtract_best_without(group: &Sorted, k: usize, out: &mut [f64]) {
    let values = group.values();
    let n = values.len();
    if n <= k {
        out.fill(0.0);
        return;
    }
    let others = n - 1;
    let share = k as f64 / n as f64;
    // Without a member, those above it move down by one; `chance[i]` is that of place `i`.
    let mut chance = vec![0.0; others];
    let mut weight = k as f64 / others as f64;
    for below in (k - 1..others).rev() {
        chance[below] = weight;
        weight *= lower(below, k);
    }
    let mut above: Vec<f64> = vec![0.0; n];
    for at in (0..others).rev() {
        above[at] = above[at + 1] + chance[at] * values[at + 1];
    }
    let (mut at, mut under) = (0, 0.0);
    for (_, tied) in group.ties() {
        let baseline = share * (under + above[at]);
        for &place in tied {
            out[place as usize] -= baseline;
        }
        for _ in tied {
            under += chance.get(at).map_or(0.0, |chance| chance * values[at]);
            at += 1;
        }
    }
}

/// `C(below - 1, k - 1) / C(below, k - 1)`.
fn lower(below: usize, k: usize) -> f64 {
    if below == 0 {
        0.0
    } else {
        (below + 1).saturating_sub(k) as f64 / below as f64
    }
}

/// How many are scorable, and how many of these are right.
fn counts(group: &impl Group, threshold: f64) -> (usize, usize) {
    (group.scored(), group.scored() - group.below(threshold))
}

/// `ln(C(n - c, k) / C(n, k))`, which is the same with `c` and `k` exchanged.
fn log_all_wrong(n: usize, correct: usize, k: usize) -> f64 {
    if n - correct < k {
        return f64::NEG_INFINITY;
    }
    let (few, many) = (correct.min(k), correct.max(k));
    (0..few)
        .map(|i| (-(many as f64) / (n - i) as f64).ln_1p())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rewards: &[f64]) -> Sorted<'static> {
        let mut group = Sorted::default();
        group.load(rewards).unwrap();
        group
    }

    #[test]
    fn a_rare_success_keeps_its_digits() {
        let mut rewards = vec![0.0; 1_000_000];
        rewards[7] = 1.0;
        let found = pass_at_k(&group(&rewards), 3, 0.5);
        assert!((found / 3e-6 - 1.0).abs() < 1e-15, "{found}");
    }

    #[test]
    fn the_best_of_all_is_the_maximum_and_of_one_the_mean() {
        let group = group(&[4.0, 1.0, 1.0, 2.0]);
        assert_eq!([best_of(&group, 4), best_of(&group, 1)], [4.0, 2.0]);
        assert!(best_of(&group, 5).is_nan() && pass_at_k(&group, 5, 0.5).is_nan());
    }

    #[test]
    fn tied_members_share_the_gradient_of_the_best_draw_to_the_bit() {
        let mut out = [f64::NAN; 5];
        max_at_k_advantages(&group(&[1.0, 0.3, 1.0, 0.3, 0.3]), 2, false, &mut out);
        // C(5, 2) = 10 pairs: a winner is in 4 of them, a loser meets a winner in 2, else 0.3.
        assert_eq!(out[0], out[2]);
        assert_eq!((out[1], out[1]), (out[3], out[4]));
        assert!((out[0] - 0.4).abs() < 1e-15 && (out[1] - 0.26).abs() < 1e-15);
    }
}
