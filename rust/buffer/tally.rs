//! What has happened to rollouts and groups, counted.

use super::group::{Reason, Status};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tally {
    /// Rollouts taken in.
    Accepted,
    /// Rollouts refused, by status.
    Duplicate,
    /// See above.
    Late,
    /// See above.
    Stale,
    /// Rollouts refused for want of room.
    Full,
    /// Groups given out.
    GivenGroups,
    /// Rollouts in them.
    GivenRollouts,
    /// Groups thrown out, by reason.
    EvictedStale,
    /// See above.
    EvictedBytes,
    /// See above.
    EvictedDeadline,
    /// Rollouts in the groups thrown out.
    EvictedRollouts,
    /// Sum over the groups given out of their staleness.
    StalenessSum,
    /// The largest.
    StalenessMax,
}

impl From<Status> for Tally {
    fn from(status: Status) -> Self {
        match status {
            Status::Accepted | Status::Ready => Self::Accepted,
            Status::Duplicate => Self::Duplicate,
            Status::Late => Self::Late,
            Status::Stale => Self::Stale,
            Status::Full | Status::Evicted => Self::Full,
        }
    }
}

/// How many are counted.
pub const TALLIES: usize = 13;

/// The counts, and how long groups stayed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    /// By [`Tally`].
    pub counts: [u64; TALLIES],
    /// Seconds that the groups given out stayed, summed.
    pub seconds_sum: f64,
    /// The longest of them.
    pub seconds_max: f64,
}

impl Totals {
    /// The names that users see, in the order of [`Tally`].
    pub const NAMES: [&'static str; TALLIES] = [
        "accepted",
        "duplicate",
        "late",
        "stale",
        "full",
        "given_groups",
        "given_rollouts",
        "evicted_stale",
        "evicted_bytes",
        "evicted_deadline",
        "evicted_rollouts",
        "staleness_sum",
        "staleness_max",
    ];

    pub(super) fn add(&mut self, tally: Tally, count: usize) {
        self.counts[tally as usize] += count as u64;
    }

    pub(super) fn give(&mut self, rollouts: usize, staleness: u64, seconds: f64) {
        self.add(Tally::GivenGroups, 1);
        self.add(Tally::GivenRollouts, rollouts);
        let sum = &mut self.counts[Tally::StalenessSum as usize];
        *sum = sum.saturating_add(staleness);
        let max = &mut self.counts[Tally::StalenessMax as usize];
        *max = staleness.max(*max);
        self.seconds_sum += seconds;
        self.seconds_max = self.seconds_max.max(seconds);
    }

    pub(super) fn evict(&mut self, reason: Reason, rollouts: usize) {
        let tally = match reason {
            Reason::Stale => Tally::EvictedStale,
            Reason::Bytes => Tally::EvictedBytes,
            Reason::Deadline => Tally::EvictedDeadline,
        };
        self.add(tally, 1);
        self.add(Tally::EvictedRollouts, rollouts);
    }
}
