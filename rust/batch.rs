//! The spread of a whole batch, whatever the groups.

use crate::error::Error;
use crate::moments::Moments;
use crate::pool::Cancel;
use crate::radix;

/// The sample standard deviation of all values but NaN; NaN for fewer than two.
///
/// The sums run over sorted values, so that the bits do not depend on their order.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn deviation(values: &[f64], cancel: &Cancel) -> Result<f64, Error> {
    Ok(Moments::new(&radix::values(values, cancel)?).std(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_batch_and_what_is_missing_change_no_bit() {
        let rewards: Vec<f64> = (0..5000)
            .map(|i| f64::from(i * 7919 % 1000) / 7.0 - 50.0)
            .collect();
        let mut shuffled: Vec<f64> = rewards.iter().rev().copied().collect();
        shuffled.insert(17, f64::NAN);
        let found = deviation(&rewards, &Cancel::default()).unwrap();
        assert_eq!(deviation(&shuffled, &Cancel::default()), Ok(found));
        // 5 times 0..1000 over 7: the variance of a uniform grid.
        let expected = ((1e6_f64 - 1.0) / 12.0 * 5000.0 / 4999.0).sqrt() / 7.0;
        assert!((found / expected - 1.0).abs() < 1e-14);
    }
}
