//! Where each reward stands in its group: ranks, percentiles, the share in the top.

use crate::sorted::Sorted;

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
    for (level, (below, tied)) in group.ties().enumerate() {
        for (i, &(_, place)) in tied.iter().enumerate() {
            out[place as usize] = match ties {
                Ties::Average => below as f64 + (tied.len() + 1) as f64 / 2.0,
                Ties::Min => (below + 1) as f64,
                Ties::Max => (below + tied.len()) as f64,
                Ties::Dense => (level + 1) as f64,
                Ties::Ordinal => (below + i + 1) as f64,
            };
        }
    }
}

/// Writes wins minus losses over the scored members: `less - greater`, an exact integer.
pub fn margins(group: &Sorted, out: &mut [f64]) {
    let n = group.values().len();
    for (below, tied) in group.ties() {
        let above = n - below - tied.len();
        for &(_, place) in tied {
            out[place as usize] = below as f64 - above as f64;
        }
    }
}

/// Writes the share of the others that each beats, ties counting half; 0.5 for a lone member.
pub fn percentiles(group: &Sorted, out: &mut [f64]) {
    let n = group.values().len();
    for (below, tied) in group.ties() {
        let beaten = below as f64 + (tied.len() - 1) as f64 / 2.0;
        let share = if n > 1 { beaten / (n - 1) as f64 } else { 0.5 };
        for &(_, place) in tied {
            out[place as usize] = share;
        }
    }
}

/// Writes the share of each in the best `q n` slots of the group, tied members sharing theirs.
pub fn top_fraction(group: &Sorted, q: f64, out: &mut [f64]) {
    let n = group.values().len();
    for (below, tied) in group.ties() {
        let above = n - below - tied.len();
        let share = ((q * n as f64 - above as f64) / tied.len() as f64).clamp(0.0, 1.0);
        for &(_, place) in tied {
            out[place as usize] = share;
        }
    }
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
