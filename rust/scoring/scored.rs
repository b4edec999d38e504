//! The scores of one row.

/// What one row is told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(
    clippy::struct_field_names,
    reason = "it counts the members that have a score"
)]
pub struct Scored {
    /// Twice the mid-rank; 0 for an unscorable row.
    pub twice_rank: u32,
    /// Members of its group.
    pub size: u32,
    /// Scorable members.
    pub scored: u32,
    /// Whether the row was chosen.
    pub keep: bool,
    /// The advantage.
    pub advantage: f64,
    /// The mean of the group; NaN if nothing in it is scorable.
    pub mean: f64,
    /// Its sample deviation; NaN for fewer than two.
    pub std: f64,
}

impl Scored {
    /// The rank in the group, 1 for the lowest; ties share.
    #[must_use]
    pub fn rank(&self) -> Option<f64> {
        rank(self.twice_rank)
    }

    /// The share of the others that the row beats, to the bit as the kernel gives it.
    #[must_use]
    pub fn percentile(&self) -> Option<f64> {
        percentile(self.twice_rank, self.scored)
    }
}

pub(super) fn rank(twice: u32) -> Option<f64> {
    (twice > 0).then(|| f64::from(twice) / 2.0)
}

pub(super) fn percentile(twice_rank: u32, scored: u32) -> Option<f64> {
    let beaten = rank(twice_rank)? - 1.0;
    let others = f64::from(scored - 1);
    Some(if scored > 1 { beaten / others } else { 0.5 })
}
