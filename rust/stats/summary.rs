//! What each group is like: one record per group.

use std::ops::Range;

use super::checks::{check_count, first_infinite};
use super::decimal::Written;
use super::draws;
use super::group::Group;
use super::quantile::{median, quantile};
use super::sorted::Sorted;
use crate::error::Error;
use crate::groups::Groups;
use crate::pool::{self, Cancel};

/// Groups per task.
const TASK: usize = 1024;

/// The statistics of one group; of its scorable rewards, but for `size`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Members, unscorable ones included.
    pub size: i64,
    /// Scorable members.
    pub scored: i64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation; NaN for fewer than two.
    pub std: f64,
    /// Lowest reward.
    pub min: f64,
    /// Highest reward.
    pub max: f64,
    /// Middle reward, or the mean of the two middle ones.
    pub median: f64,
    /// Number of distinct rewards.
    pub distinct: i64,
}

impl Summary {
    fn new(group: &Sorted) -> Self {
        let values = group.values();
        let moments = group.moments();
        Self {
            size: count(group.size()),
            scored: count(values.len()),
            mean: moments.mean,
            std: moments.std(1),
            min: values.first().copied().unwrap_or(f64::NAN),
            max: values.last().copied().unwrap_or(f64::NAN),
            median: median(values),
            distinct: count(group.ties().count()),
        }
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).expect("a count fits")
}

/// Summarises every group.
///
/// # Errors
/// [`Error::RewardCount`], [`Error::Infinite`] or [`Error::Interrupted`].
pub fn summaries(rewards: &[f64], groups: &Groups, cancel: &Cancel) -> Result<Vec<Summary>, Error> {
    per_group(rewards, groups, cancel, |_, group, out| {
        out.push(Summary::new(group));
    })
}

/// The quantiles `qs` of every group, group after group.
///
/// # Errors
/// [`Error::BadFraction`] for a `q` outside [0, 1], else as [`summaries`].
pub fn quantiles(
    rewards: &[f64],
    groups: &Groups,
    qs: &[f64],
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    if let Some(&value) = qs.iter().find(|q| !(0.0..=1.0).contains(*q)) {
        return Err(Error::BadFraction { name: "q", value });
    }
    let qs: Vec<Written> = qs.iter().copied().map(Written::from).collect();
    per_group(rewards, groups, cancel, |_, group, out| {
        out.extend(qs.iter().map(|&q| quantile(group.values(), q)));
    })
}

/// The chance of each group that `k` draws hold a reward of at least `threshold`.
///
/// # Errors
/// As [`summaries`].
pub fn pass_at_k(
    rewards: &[f64],
    groups: &Groups,
    k: usize,
    threshold: f64,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    per_group(rewards, groups, cancel, |_, group, out| {
        out.push(draws::pass_at_k(group, k, threshold));
    })
}

/// The mean best of `k` draws from each group.
///
/// # Errors
/// As [`summaries`].
pub fn best_of(
    rewards: &[f64],
    groups: &Groups,
    k: usize,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    per_group(rewards, groups, cancel, |_, group, out| {
        out.push(draws::best_of(group, k));
    })
}

/// What `describe` pushes for every group, given its number, in the order of the groups.
pub(crate) fn per_group<T: Send>(
    rewards: &[f64],
    groups: &Groups,
    cancel: &Cancel,
    describe: impl Fn(usize, &Sorted<'_>, &mut Vec<T>) + Sync,
) -> Result<Vec<T>, Error> {
    check_count(rewards, groups)?;
    let order = groups.order(cancel)?;
    let parts: Vec<Vec<T>> = pool::map_init(
        (0..groups.n_groups()).step_by(TASK),
        || (Sorted::until(cancel), Vec::new()),
        |(sorted, own), from| {
            cancel.check()?;
            let mut out = Vec::new();
            for g in from..groups.n_groups().min(from + TASK) {
                let loaded = sorted.load(gathered(rewards, order, groups.range(g), own));
                loaded.map_err(|error| first_infinite(rewards).unwrap_or(error))?;
                describe(g, sorted, &mut out);
            }
            cancel.check()?;
            Ok(out)
        },
    )?;
    let rest = parts.iter().skip(1).map(Vec::len).sum();
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    all.reserve_exact(rest);
    for mut part in parts {
        cancel.check()?;
        all.append(&mut part);
    }
    Ok(all)
}

/// The rewards of one group; in `own` where its rows are scattered.
fn gathered<'a>(
    rewards: &'a [f64],
    order: Option<&[u32]>,
    places: Range<usize>,
    own: &'a mut Vec<f64>,
) -> &'a [f64] {
    let Some(order) = order else {
        return &rewards[places];
    };
    own.clear();
    own.extend(order[places].iter().map(|&row| rewards[row as usize]));
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_scores_is_counted_and_has_no_statistics() {
        let groups = Groups::from_offsets(vec![0, 2, 3]).unwrap();
        let rewards = [f64::NAN, f64::NAN, 2.0];
        let found = summaries(&rewards, &groups, &Cancel::default()).unwrap();
        assert_eq!(
            (found[0].size, found[0].scored, found[0].distinct),
            (2, 0, 0)
        );
        assert!(found[0].mean.is_nan() && found[0].median.is_nan());
        assert_eq!(
            (found[1].scored, found[1].mean, found[1].median),
            (1, 2.0, 2.0)
        );
    }

    #[test]
    fn a_quantile_outside_its_range_is_refused() {
        let groups = Groups::from_offsets(vec![0, 1]).unwrap();
        let found = quantiles(&[1.0], &groups, &[0.5, 1.5], &Cancel::default());
        assert_eq!(
            found,
            Err(Error::BadFraction {
                name: "q",
                value: 1.5
            })
        );
    }
}
