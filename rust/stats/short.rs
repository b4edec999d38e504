//! Results in the precision of float32.

use super::widest::{Loops, widest};

/// `values` rounded to float32, and whether none of them is infinite there.
pub(crate) fn short(values: &[f64]) -> (Vec<f32>, bool) {
    widest(Short(values))
}

struct Short<'a>(&'a [f64]);

impl Loops for Short<'_> {
    type Output = (Vec<f32>, bool);

    #[inline]
    fn call(self) -> Self::Output {
        #[expect(clippy::cast_possible_truncation, reason = "rounded as asked for")]
        let rounded: Vec<f32> = self.0.iter().map(|&value| value as f32).collect();
        let infinite = rounded.iter().filter(|value| value.is_infinite()).count();
        (rounded, infinite == 0)
    }
}
