//! Where each reward stands in its group: ranks, percentiles, the share in the top.

use super::decimal::Written;
use super::group::Group;
use super::sorted::Sorted;

/// What tied rewards get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The mean of the ranks they occupy.
    Average,
    /// The lowest of them.
    Min,
    /// The highest of them.
    Max,
    /// One rank per distinct reward, without gaps.
    Dense,
    /// Different ranks, in row order.
    Ordinal,
}

/// Writes ranks from 1, the lowest; rows without a score keep what `out` holds.
pub fn ranks(group: &Sorted, ties: Ties, out: &mut [f64]) {
    match ties {
        Ties::Average => mean_ranks(group, out),
        Ties::Min => group.by_standing(out, |below, _| below + 1.0),
        Ties::Max => group.by_standing(out, |below, tied| below + tied),
        Ties::Dense => {
            for (level, (_, tied)) in group.ties().enumerate() {
                for &place in tied {
                    out[place as usize] = (level + 1) as f64;
                }
            }
        }
        Ties::Ordinal => {
            let places = group.blocks().flat_map(|(places, _)| places);
            for (i, &place) in places.enumerate() {
                out[place as usize] = (i + 1) as f64;
            }
        }
    }
}

/// Writes the mean of the ranks that each reward occupies.
pub fn mean_ranks(group: &impl Group, out: &mut [f64]) {
    group.by_standing(out, |below, tied| below + 0.5 * tied + 0.5);
}

/// Writes what `of` makes of wins minus losses over the scored members: `less - greater`, an exact
/// integer.
pub fn margins(group: &impl Group, out: &mut [f64], of: impl Fn(f64) -> f64) {
    let n = group.scored() as f64;
    group.by_standing(out, |below, tied| of(below - (n - below - tied)));
}

/// Writes the share of the others that each beats, ties counting half; 0.5 for a lone member.
pub fn percentiles(group: &impl Group, out: &mut [f64]) {
    let n = group.scored();
    if n > 1 {
        let others = (n - 1) as f64;
        group.by_standing(out, |below, tied| (below + (tied - 1.0) / 2.0) / others);
    } else {
        group.by_standing(out, |_, _| 0.5);
    }
}

/// Writes what `of` makes of the share of each in the best `q n` slots of the group, tied members
/// sharing theirs.
pub fn top_fraction(group: &impl Group, q: Written, out: &mut [f64], of: impl Fn(f64) -> f64) {
    let n = group.scored();
    let slots = q.times(n);
    group.by_standing(out, |below, tied| {
        let above = n as f64 - below - tied;
        of(((slots - above) / tied).clamp(0.0, 1.0))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(ties: Ties) -> [f64; 4] {
        let mut group = Sorted::default();
        group.load(&[3.0, 1.0, 3.0, 0.5]).unwrap();
        let mut out = [f64::NAN; 4];
        ranks(&group, ties, &mut out);
        out
    }

    #[test]
    fn the_five_tie_rules_differ_only_on_ties() {
        assert_eq!(ranked(Ties::Average), [3.5, 2.0, 3.5, 1.0]);
        assert_eq!(ranked(Ties::Min), [3.0, 2.0, 3.0, 1.0]);
        assert_eq!(ranked(Ties::Max), [4.0, 2.0, 4.0, 1.0]);
        assert_eq!(ranked(Ties::Dense), [3.0, 2.0, 3.0, 1.0]);
        assert_eq!(ranked(Ties::Ordinal), [3.0, 2.0, 4.0, 1.0]);
    }
}
