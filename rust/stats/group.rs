//! What an estimator may ask of a group, however its rewards are kept.

use super::moments::Moments;

/// The rewards of one group.
pub(crate) trait Group {
    /// How many are scorable.
    fn scored(&self) -> usize;
    /// Whether two of them differ.
    fn is_informative(&self) -> bool;
    /// The `k`-th lowest, counted from 0.
    fn value(&self, k: usize) -> f64;
    /// The highest two of two or more.
    fn best_two(&self) -> (f64, f64);
    /// How many scorable rewards are below `threshold`.
    fn below(&self, threshold: f64) -> usize;
    /// Whether to stop, as someone has asked.
    fn stopped(&self) -> bool {
        false
    }
    /// Mean and spread.
    fn moments(&self) -> Moments;
    /// Writes what `of` makes of each scorable reward.
    fn by_value(&self, out: &mut [f64], of: impl Fn(f64) -> f64);
    /// Writes what `of` makes of each scorable reward's standing: how many are below, and how many
    /// are equal, itself included.
    fn by_standing(&self, out: &mut [f64], of: impl Fn(f64, f64) -> f64);
}
