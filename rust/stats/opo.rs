//! Reward minus the mean of the group weighted by completion lengths.

use super::group::Group;
use super::sorted::Sorted;
use super::summary::per_group;
use crate::error::Error;
use crate::groups::Groups;
use crate::pool::{CHECK_EVERY, Cancel};

/// Computes `reward - sum(length * reward) / sum(length)` for every row; dropped rows get NaN.
///
/// # Errors
/// [`Error::LengthCount`], [`Error::NegativeLength`], [`Error::NoTokens`] for a group whose
/// rewards differ and whose completions are all empty, else as [`crate::stats::rows::rows`].
pub fn advantages(
    rewards: &[f64],
    lengths: &[i64],
    groups: &Groups,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    check(rewards, lengths)?;
    let order = groups.order(cancel)?;
    let row_at = |at: usize| order.map_or(at, |order| order[at] as usize);
    let baselines = per_group(rewards, groups, cancel, |g, group, out| {
        let start = groups.range(g).start;
        out.push(baseline(group, |place| lengths[row_at(start + place)]));
    })?;
    let mut out = Vec::new();
    cancel.resize(&mut out, rewards.len(), &f64::NAN)?;
    for (g, baseline) in baselines.into_iter().enumerate() {
        cancel.check()?;
        for at in groups.range(g) {
            if at.is_multiple_of(CHECK_EVERY) {
                cancel.check()?;
            }
            let row = row_at(at);
            out[row] = match baseline {
                Some(baseline) if baseline.is_nan() => return Err(Error::NoTokens { row }),
                Some(baseline) if !rewards[row].is_nan() => rewards[row] - baseline,
                _ => 0.0,
            };
            if out[row].is_infinite() {
                let what = "advantage";
                return Err(Error::Overflow { row, what });
            }
        }
    }
    Ok(out)
}

/// None for a group that prefers nothing, NaN for one without tokens.
fn baseline(group: &Sorted, length: impl Fn(usize) -> i64) -> Option<f64> {
    let values = group.values();
    if !group.is_informative() {
        return None;
    }
    // Lengths of tied members are added as integers: no order of the rows shows in the sum.
    let tokens = |tied: &[u32]| -> i128 {
        let lengths = tied.iter().map(|&place| i128::from(length(place as usize)));
        lengths.sum()
    };
    let total = group.ties().map(|(_, tied)| tokens(tied)).sum::<i128>() as f64;
    let mean: f64 = group
        .ties()
        .map(|(below, tied)| values[below] * (tokens(tied) as f64 / total))
        .sum();
    Some(if mean.is_nan() {
        mean
    } else {
        mean.clamp(values[0], values[values.len() - 1])
    })
}

fn check(rewards: &[f64], lengths: &[i64]) -> Result<(), Error> {
    let (found, expected) = (lengths.len(), rewards.len());
    if found != expected {
        return Err(Error::LengthCount { found, expected });
    }
    match lengths.iter().position(|&length| length < 0) {
        Some(index) => Err(Error::NegativeLength {
            index,
            length: lengths[index],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rewards: &[f64], lengths: &[i64]) -> Result<Vec<f64>, Error> {
        let end = i64::try_from(rewards.len()).unwrap();
        let groups = Groups::from_offsets(vec![0, end]).unwrap();
        advantages(rewards, lengths, &groups, &Cancel::default())
    }

    #[test]
    fn long_completions_weigh_more_and_unscorable_ones_nothing() {
        let rewards = [1.0, 0.0, f64::NAN];
        assert_eq!(found(&rewards, &[3, 1, 50]), Ok(vec![0.25, -0.75, 0.0]));
        assert_eq!(found(&[2.5, 2.5], &[0, 0]), Ok(vec![0.0, 0.0]));
    }

    #[test]
    fn a_group_without_tokens_is_named_by_its_first_row() {
        assert_eq!(found(&[1.0, 0.0], &[0, 0]), Err(Error::NoTokens { row: 0 }));
    }
}
