//! Groups side by side, so that one instruction works on several of them.

use super::group::Group;
use super::mean;
use super::moments::{BLOCK, LARGE, Moments, SMALL, halfway};
use super::network::{LANES, Row, greater, lesser, sort};

/// Members of the largest groups for which this beats one group after the other.
const MOST: usize = 64;
/// The same where standings are asked for, for which every two members are compared.
const COMPARED: usize = 8;

/// Fills up the lanes of smaller groups; it stays last when they are sorted.
const NONE: f64 = f64::INFINITY;

/// What is asked of a group besides its rewards.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be needed")]
pub(crate) struct Needs {
    /// How many are below a reward, and equal to it.
    pub(crate) standings: bool,
    /// The rewards in order.
    pub(crate) order: bool,
    /// Their mean.
    pub(crate) mean: bool,
    /// Their spread, which takes the others but standings.
    pub(crate) spread: bool,
}

impl Needs {
    /// What either asks for.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            standings: self.standings | other.standings,
            order: self.order | other.order,
            mean: self.mean | other.mean,
            spread: self.spread | other.spread,
        }
    }
}

/// Rewards of several groups, all scorable and none extreme.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    sizes: [usize; LANES],
    /// Member by member; `NONE` where a group has no more.
    members: Vec<Row>,
    low: Row,
    high: Row,
    /// What was needed; the rest is left over from other groups.
    rising: Vec<Row>,
    below: Vec<Row>,
    above: Vec<Row>,
    mean: Row,
    norm: Row,
}

impl Lanes {
    /// Takes the rewards of the next groups, of `sizes` members, and prepares what `needs` asks.
    /// False if that is not for here: groups too large or too unlike, or rewards that are
    /// unscorable, infinite or extreme.
    pub(crate) fn load(&mut self, rewards: &[f64], sizes: &[usize], needs: Needs) -> bool {
        let most = sizes.iter().fold(0, |most, &size| most.max(size));
        let limit = if needs.standings { COMPARED } else { MOST };
        let finite = |fine, reward: &f64| fine & reward.is_finite();
        let full = most * LANES == rewards.len();
        if most > limit || 2 * rewards.len() < most * LANES || !rewards.iter().fold(true, finite) {
            return false;
        }
        self.fill(rewards, sizes, most);
        if full {
            self.prepare::<false>(needs)
        } else {
            self.prepare::<true>(needs)
        }
    }

    fn fill(&mut self, rewards: &[f64], sizes: &[usize], most: usize) {
        self.members.clear();
        self.members.resize(most, [NONE; LANES]);
        // A lane without a group has one member.
        self.members[0] = [0.0; LANES];
        self.sizes = [1; LANES];
        self.sizes[..sizes.len()].copy_from_slice(sizes);
        let mut rest = rewards;
        for (lane, &size) in sizes.iter().enumerate() {
            let (group, others) = rest.split_at(size);
            for (row, reward) in self.members.iter_mut().zip(group) {
                row[lane] = reward + 0.0;
            }
            rest = others;
        }
    }

    /// `PADDED` is whether some groups are smaller than others.
    fn prepare<const PADDED: bool>(&mut self, needs: Needs) -> bool {
        if !self.bound::<PADDED>() {
            return false;
        }
        if needs.mean || needs.spread {
            self.average::<PADDED>();
        }
        if needs.standings {
            self.compare();
        }
        if needs.order || needs.spread {
            self.rising.clone_from(&self.members);
            sort(&mut self.rising);
        }
        if needs.spread {
            self.spread::<PADDED>();
        }
        true
    }

    /// Finds the lowest and the highest; tells whether no number is out of the ordinary.
    fn bound<const PADDED: bool>(&mut self) -> bool {
        let first = self.members[0];
        (self.low, self.high) = (first, first);
        for row in &self.members {
            for lane in 0..LANES {
                let value = known::<PADDED>(row[lane], first[lane]);
                self.low[lane] = lesser(self.low[lane], value);
                self.high[lane] = greater(self.high[lane], value);
            }
        }
        (0..LANES).fold(true, |fine, lane| {
            let (low, high) = (self.low[lane], self.high[lane]);
            let near = -LARGE < low && high < LARGE;
            fine && near && (low == high || high - low > SMALL)
        })
    }

    /// Finds the means.
    fn average<const PADDED: bool>(&mut self) {
        let (mut high, mut low, mut lost) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for row in &self.members {
            for lane in 0..LANES {
                let value = known::<PADDED>(row[lane], 0.0);
                let (sum, error) = mean::two_sum(high[lane], value);
                high[lane] = sum;
                let (sum, error) = mean::two_sum(low[lane], error);
                low[lane] = sum;
                lost[lane] += error.abs();
            }
        }
        // A division by a power of two rounds nothing, but where digits end.
        let share = 1.0 / self.members.len() as f64;
        let mut sure = !PADDED && self.members.len().is_power_of_two();
        for lane in 0..LANES {
            let sum = high[lane] + low[lane];
            self.mean[lane] = sum * share;
            sure &= (lost[lane] == 0.0) & ((sum == 0.0) | (sum.abs() > SMALL));
        }
        for lane in 0..LANES {
            if self.low[lane] == self.high[lane] {
                self.mean[lane] = self.low[lane];
            } else if !sure {
                let n = self.sizes[lane] as f64;
                let members = self.members[..self.sizes[lane]].iter();
                self.mean[lane] = mean::over(high[lane], low[lane], lost[lane], n)
                    .unwrap_or_else(|| mean::exact(members.map(|row| row[lane]), n));
            }
        }
    }

    /// Finds the roots of the centred sums of squares.
    fn spread<const PADDED: bool>(&mut self) {
        let (residue, squares) = pairwise::<PADDED>(&self.rising, &self.mean);
        for lane in 0..LANES {
            let n = self.sizes[lane] as f64;
            let square = squares[lane] - residue[lane] * residue[lane] / n;
            let differ = self.low[lane] < self.high[lane];
            self.norm[lane] = if differ {
                greater(square, 0.0).sqrt()
            } else {
                0.0
            };
        }
    }

    /// Counts for each member those below and those above it.
    fn compare(&mut self) {
        let size = self.members.len();
        for counts in [&mut self.below, &mut self.above] {
            counts.clear();
            counts.resize(size, [0.0; LANES]);
        }
        for second in 1..size {
            let mine = self.members[second];
            let (mut below, mut above) = ([0.0; LANES], [0.0; LANES]);
            for first in 0..second {
                let other = self.members[first];
                for lane in 0..LANES {
                    let less = if other[lane] < mine[lane] { 1.0 } else { 0.0 };
                    let more = if other[lane] > mine[lane] { 1.0 } else { 0.0 };
                    below[lane] += less;
                    above[lane] += more;
                    self.below[first][lane] += more;
                    self.above[first][lane] += less;
                }
            }
            self.below[second] = below;
            self.above[second] = above;
        }
    }

    /// Group `lane`, of which what was needed is known.
    pub(crate) fn group(&self, lane: usize) -> Lane<'_> {
        Lane { lanes: self, lane }
    }
}

/// One of the groups.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    lanes: &'a Lanes,
    lane: usize,
}

impl Group for Lane<'_> {
    fn scored(&self) -> usize {
        self.lanes.sizes[self.lane]
    }

    fn is_informative(&self) -> bool {
        self.lanes.low[self.lane] < self.lanes.high[self.lane]
    }

    fn value(&self, k: usize) -> f64 {
        self.lanes.rising[k][self.lane]
    }

    fn moments(&self) -> Moments {
        let (mean, norm) = (self.lanes.mean[self.lane], self.lanes.norm[self.lane]);
        Moments::of(mean, norm, self.scored())
    }

    fn by_value(&self, out: &mut [f64], of: impl Fn(f64) -> f64) {
        for (out, row) in out.iter_mut().zip(&self.lanes.members) {
            *out = of(row[self.lane]);
        }
    }

    fn by_standing(&self, out: &mut [f64], of: impl Fn(f64, f64) -> f64) {
        // Those that are not there count as above.
        let size = self.lanes.members.len() as f64;
        let standings = self.lanes.below.iter().zip(&self.lanes.above);
        for (out, (below, above)) in out.iter_mut().zip(standings) {
            let (below, above) = (below[self.lane], above[self.lane]);
            *out = of(below, size - below - above);
        }
    }
}

/// Two sums over rows of ascending values, in the order in which `moments` takes them.
fn pairwise<const PADDED: bool>(rows: &[Row], centre: &Row) -> (Row, Row) {
    let (mut residue, mut squares) = ([0.0; LANES], [0.0; LANES]);
    if rows.len() <= BLOCK {
        for row in rows {
            for lane in 0..LANES {
                let centred = known::<PADDED>(row[lane] - centre[lane], 0.0);
                residue[lane] += centred;
                squares[lane] += centred * centred;
            }
        }
    } else {
        let (low, high) = rows.split_at(halfway(rows.len()));
        let low = pairwise::<PADDED>(low, centre);
        let high = pairwise::<PADDED>(high, centre);
        for lane in 0..LANES {
            residue[lane] = low.0[lane] + high.0[lane];
            squares[lane] = low.1[lane] + high.1[lane];
        }
    }
    (residue, squares)
}

/// `value`, or `other` in place of `NONE`.
#[inline]
fn known<const PADDED: bool>(value: f64, other: f64) -> f64 {
    if PADDED && value == NONE {
        other
    } else {
        value
    }
}
