//! What columns ask of groups.

/// What is asked of a group besides its rewards.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be needed")]
pub(crate) struct Needs {
    /// How many are below a reward, and equal to it.
    pub(crate) standings: bool,
    /// The rewards in order.
    pub(crate) order: bool,
    /// The highest two.
    pub(crate) best: bool,
    /// Their mean.
    pub(crate) mean: bool,
    /// Their spread, which takes the mean.
    pub(crate) spread: bool,
}

impl Needs {
    /// What either asks for.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            standings: self.standings | other.standings,
            order: self.order | other.order,
            best: self.best | other.best,
            mean: self.mean | other.mean,
            spread: self.spread | other.spread,
        }
    }
}
