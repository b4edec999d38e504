//! Groups side by side, so that one instruction works on several of them.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::mean;
use super::moments::{self, LARGE, SMALL};
use super::needs::Needs;
use super::network::{LANES, Row, greater, lesser, sort};
use super::steady::{Cut, LEAST};
use super::widest::{Loops, widest};

/// Members of the largest groups for which this beats one group after the other.
const MOST: usize = 64;
/// The same where standings are asked for, for which every two members are compared.
const COMPARED: usize = 8;

/// Fills up the lanes of smaller groups; it stays last when they are sorted.
const NONE: f64 = f64::INFINITY;

/// Rewards of several groups, all scorable and none extreme.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(super) sizes: [usize; LANES],
    /// Member by member; `NONE` where a group has no more.
    pub(super) members: Vec<Row>,
    pub(super) low: Row,
    pub(super) high: Row,
    /// What was needed; the rest is left over from other groups.
    pub(super) rising: Vec<Row>,
    pub(super) below: Vec<Row>,
    pub(super) above: Vec<Row>,
    pub(super) mean: Row,
    pub(super) norm: Row,
    pub(super) second: Row,
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
        let lanes = self;
        if full {
            widest(Prepare::<false> { lanes, needs })
        } else {
            widest(Prepare::<true> { lanes, needs })
        }
    }

    fn fill(&mut self, rewards: &[f64], sizes: &[usize], most: usize) {
        self.members.clear();
        self.members.resize(most, Row([NONE; LANES]));
        // A lane without a group has one member.
        self.members[0] = Row::default();
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

    #[inline(always)]
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
        if needs.best {
            self.find_second::<PADDED>();
        }
        if needs.order {
            self.rising.clone_from(&self.members);
            sort(&mut self.rising);
        }
        if needs.spread {
            self.spread::<PADDED>();
        }
        true
    }

    /// Finds the lowest and the highest; tells whether no number is out of the ordinary.
    #[inline(always)]
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
    #[inline(always)]
    fn average<const PADDED: bool>(&mut self) {
        let reach = |lane: usize| greater(-self.low[lane], self.high[lane]);
        let reach = (0..LANES).fold(LEAST, |most, lane| greater(most, reach(lane)));
        let cut = Cut::new(self.members.len() as f64, reach);
        let (mut high, mut low, mut left) = (Row::default(), Row::default(), 0);
        for row in &self.members {
            for lane in 0..LANES {
                let (part, rest, less) = cut.three(known::<PADDED>(row[lane], 0.0));
                high[lane] += part;
                low[lane] += rest;
                left |= less.to_bits();
            }
        }
        // A division by a power of two rounds nothing, but where digits end.
        let share = 1.0 / self.members.len() as f64;
        let mut sure = !PADDED && self.members.len().is_power_of_two() && left == 0;
        for lane in 0..LANES {
            let sum = high[lane] + low[lane];
            self.mean[lane] = sum * share;
            sure &= (sum == 0.0) | (sum.abs() > SMALL);
        }
        if !sure {
            let sums = (left == 0).then_some((high, low));
            (0..LANES).for_each(|lane| self.average_lane(lane, sums));
        }
    }

    /// The same of one lane, whose `sums` may be exact.
    fn average_lane(&mut self, lane: usize, sums: Option<(Row, Row)>) {
        let n = self.sizes[lane];
        let mean = sums.and_then(|(high, low)| mean::over(high[lane], low[lane], 0.0, n as f64));
        let members = self.members[..n].iter().map(|row| row[lane]);
        self.mean[lane] = mean.unwrap_or_else(|| mean::exact(members, n as f64));
    }

    /// Finds the highest but one.
    #[inline(always)]
    fn find_second<const PADDED: bool>(&mut self) {
        let (mut best, mut second) = (Row([-NONE; LANES]), Row([-NONE; LANES]));
        for row in &self.members {
            for lane in 0..LANES {
                let value = known::<PADDED>(row[lane], -NONE);
                second[lane] = greater(second[lane], lesser(value, best[lane]));
                best[lane] = greater(best[lane], value);
            }
        }
        self.second = second;
    }

    /// Finds the roots of the centred sums of squares.
    #[inline(always)]
    fn spread<const PADDED: bool>(&mut self) {
        let [mut counts, mut reach, mut area] = [Row::default(); 3];
        let (mut differs, mut shows) = ([false; LANES], [false; LANES]);
        for lane in 0..LANES {
            let (mean, ends) = (self.mean[lane], (self.low[lane], self.high[lane]));
            counts[lane] = self.sizes[lane] as f64;
            differs[lane] = ends.0 < ends.1;
            shows[lane] = moments::residue_shows(counts[lane], mean, ends);
            // Without a spread, any reach will do.
            reach[lane] = if differs[lane] {
                moments::reach(mean, ends)
            } else {
                1.0
            };
            area[lane] = reach[lane] * reach[lane];
        }
        let squares = self.sums::<PADDED>(&counts, &area, |centred| centred * centred);
        let residue = if shows.contains(&true) {
            self.sums::<PADDED>(&counts, &reach, |centred| centred)
        } else {
            Row::default()
        };
        for lane in 0..LANES {
            let residue = if shows[lane] { residue[lane] } else { 0.0 };
            let root = moments::root(squares[lane], residue, counts[lane]);
            self.norm[lane] = if differs[lane] { root } else { 0.0 };
        }
    }

    /// The sums of what `of` makes of each member less its mean, in the digits of [`steady::sum`].
    ///
    /// [`steady::sum`]: super::steady::sum
    #[inline(always)]
    fn sums<const PADDED: bool>(&self, counts: &Row, reach: &Row, of: impl Fn(f64) -> f64) -> Row {
        let mut cuts = [Row::default(); 2];
        for lane in 0..LANES {
            let Cut(own) = Cut::new(counts[lane], reach[lane]);
            (cuts[0][lane], cuts[1][lane]) = (own[0], own[1]);
        }
        let (mut upper, mut lower) = (Row::default(), Row::default());
        for row in &self.members {
            for lane in 0..LANES {
                let centred = known::<PADDED>(row[lane] - self.mean[lane], 0.0);
                let cut = Cut([cuts[0][lane], cuts[1][lane]]);
                let (part, middle, _) = cut.three(of(centred));
                upper[lane] += part;
                lower[lane] += middle;
            }
        }
        for lane in 0..LANES {
            upper[lane] += lower[lane];
        }
        upper
    }

    /// Counts for each member those below and those above it.
    #[inline(always)]
    fn compare(&mut self) {
        let size = self.members.len();
        for counts in [&mut self.below, &mut self.above] {
            counts.clear();
            counts.resize(size, Row::default());
        }
        for (at, mine) in self.members.iter().enumerate() {
            let (mut below, mut above) = ([0.0; LANES], [0.0; LANES]);
            for other in &self.members {
                for lane in 0..LANES {
                    below[lane] += if other[lane] < mine[lane] { 1.0 } else { 0.0 };
                    above[lane] += if other[lane] > mine[lane] { 1.0 } else { 0.0 };
                }
            }
            (self.below[at], self.above[at]) = (Row(below), Row(above));
        }
    }
}

/// `PADDED` is whether some groups are smaller than others.
struct Prepare<'a, const PADDED: bool> {
    lanes: &'a mut Lanes,
    needs: Needs,
}

impl<const PADDED: bool> Loops for Prepare<'_, PADDED> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        self.lanes.prepare::<PADDED>(self.needs)
    }
}

/// `value`, or `other` in place of `NONE`.
#[inline(always)]
fn known<const PADDED: bool>(value: f64, other: f64) -> f64 {
    if PADDED && value == NONE {
        other
    } else {
        value
    }
}
