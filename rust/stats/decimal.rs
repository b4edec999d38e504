//! Numbers as a person wrote them in decimals: 0.2 is 1/5, whatever its nearest float64.
//!
//! What was written is the shortest decimal that reads as the same float64.

/// A number of at least 0, as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Written {
    value: f64,
    numerator: u64,
    /// A power of ten; 0 where the digits do not fit, and `value` has to do.
    denominator: u64,
}

impl From<f64> for Written {
    fn from(value: f64) -> Self {
        let (numerator, denominator) = fraction(value).unwrap_or((0, 0));
        Self {
            value,
            numerator,
            denominator,
        }
    }
}

impl Written {
    /// The nearest float64.
    #[must_use]
    pub fn value(self) -> f64 {
        self.value
    }

    /// `n` times this: a whole number where the decimals give one, such as 7 for 0.07 and 100, else
    /// what float64 gives.
    #[must_use]
    pub fn times(self, n: usize) -> f64 {
        if let Some(product) = self.numerator.checked_mul(n as u64)
            && self.denominator > 0
        {
            return match product % self.denominator {
                0 => (product / self.denominator) as f64,
                _ => self.value * n as f64,
            };
        }
        let product = u128::from(self.numerator) * n as u128;
        let denominator = u128::from(self.denominator);
        match product.checked_rem(denominator) {
            Some(0) => (product / denominator) as f64,
            _ => self.value * n as f64,
        }
    }
}

/// Whether `a - b > margin`, all of them as they were written; `margin` is not negative.
///
/// # Examples
/// ```
/// use gspo_rs::exceeds;
///
/// assert!(0.9 - 0.6 > 0.3 && !exceeds(0.9, 0.6, 0.3));
/// assert!(exceeds(0.9, 0.6, 0.2));
/// ```
#[must_use]
pub fn exceeds(a: f64, b: f64, margin: f64) -> bool {
    let step = a - b;
    let doubt = 4.0 * f64::EPSILON * (a.abs() + b.abs() + margin);
    if margin == 0.0 || (step - margin).abs() > doubt || !doubt.is_finite() {
        return a > b && step > margin;
    }
    // Digits too far apart for one integer are too far apart to be a tie.
    difference(a, b, margin).map_or(step > margin, |sign| sign > 0)
}

/// The sign of `a - b - margin`.
fn difference(a: f64, b: f64, margin: f64) -> Option<i128> {
    let terms = [digits(a)?, digits(b)?, digits(margin)?];
    let present = terms.iter().filter(|(digits, _)| *digits != 0);
    let lowest = present.map(|&(_, power)| power).min()?;
    let mut aligned = [0_i128; 3];
    for (place, &(digits, power)) in aligned.iter_mut().zip(&terms) {
        if digits != 0 {
            let tens = 10_i128.checked_pow(u32::try_from(power - lowest).ok()?)?;
            *place = digits.checked_mul(tens)?;
        }
    }
    let [a, b, margin] = aligned;
    Some(a.checked_sub(b)?.checked_sub(margin)?.signum())
}

/// Whole digits and the power of ten that they are multiplied by.
fn digits(value: f64) -> Option<(i128, i32)> {
    let text = format!("{value:e}");
    let (mantissa, power) = text.split_once('e')?;
    let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{rest}").parse().ok()?;
    let places = i32::try_from(rest.len()).ok()?;
    Some((digits, power.parse::<i32>().ok()? - places))
}

fn fraction(value: f64) -> Option<(u64, u64)> {
    let (digits, power) = digits(value)?;
    let digits = u64::try_from(digits).ok()?;
    if power > 0 {
        Some((
            digits.checked_mul(10_u64.checked_pow(power.unsigned_abs())?)?,
            1,
        ))
    } else {
        Some((digits, 10_u64.checked_pow(power.unsigned_abs())?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_of_a_hundred_is_a_whole_number() {
        for percent in 0..=100_u32 {
            let written = Written::from(f64::from(percent) / 100.0);
            assert_eq!(written.times(100), f64::from(percent));
        }
        assert_eq!(Written::from(1.0 / 3.0).times(3), 1.0);
        assert_eq!(Written::from(0.15).times(10), 1.5);
    }

    #[test]
    fn what_has_too_many_digits_goes_by_its_float() {
        assert_eq!(Written::from(1e-30).times(7), 7e-30);
        assert_eq!(Written::from(1.0).times(usize::MAX), usize::MAX as f64);
    }

    #[test]
    fn ends_of_the_range_have_a_difference() {
        assert!(exceeds(f64::MAX, -f64::MAX, 1e308) && exceeds(1.0, 0.0, 5e-324));
        assert!(exceeds(1.0_f64.next_up(), 1.0, 1e-16) && !exceeds(1.0_f64.next_up(), 1.0, 2e-16));
        assert!(!exceeds(1.0, 0.0, f64::INFINITY) && !exceeds(1.0, 1.0, 0.0));
    }

    proptest! {
        #[test]
        fn decimals_differ_by_what_their_digits_say(
            a in -2000_i32..2000, b in -2000_i32..2000, margin in 0_i32..2000, places in 1_i32..5
        ) {
            let unit = 10_f64.powi(places);
            let [x, y, m] = [a, b, margin].map(|number| f64::from(number) / unit);
            prop_assert_eq!(exceeds(x, y, m), a - b > margin);
        }
    }
}
