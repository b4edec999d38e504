//! Rewards that are decimals, as the floats nearest to them.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;

use super::settings::Settings;
use crate::error::StreamError;

/// Two different decimals of so many digits are two different floats.
const DIGITS: usize = 15;

/// The floats nearest to a column of decimals, NaN for null; `None` if it is no such column.
///
/// # Errors
/// If a decimal has so many digits that another one may have the same float.
pub(super) fn floats(
    column: &ArrayRef,
    settings: &Settings,
    first_row: usize,
) -> Result<Option<Vec<f64>>, StreamError> {
    let (scale, digits) = match *column.data_type() {
        DataType::Decimal32(_, scale) => (scale, digits::<Decimal32Type>(column)),
        DataType::Decimal64(_, scale) => (scale, digits::<Decimal64Type>(column)),
        DataType::Decimal128(_, scale) => (scale, digits::<Decimal128Type>(column)),
        DataType::Decimal256(_, scale) => (scale, digits::<Decimal256Type>(column)),
        _ => return Ok(None),
    };
    let float = |(row, digits): (usize, Option<String>)| {
        let Some(digits) = digits else {
            return Ok(f64::NAN);
        };
        let value: f64 = format!("{digits}e{}", -i32::from(scale))
            .parse()
            .expect("digits and an exponent");
        let significant = digits.trim_start_matches('-').trim_end_matches('0');
        if significant.len() > DIGITS {
            let (name, row) = (settings.reward.clone(), first_row + row);
            return Err(StreamError::LongReward { name, row, value });
        }
        Ok(value)
    };
    let floats: Result<Vec<f64>, StreamError> = digits.enumerate().map(float).collect();
    floats.map(Some)
}

/// The digits of each decimal as those of an integer.
fn digits<T>(column: &ArrayRef) -> Box<dyn Iterator<Item = Option<String>> + '_>
where
    T: ArrowPrimitiveType<Native: ToString>,
{
    let rows = column.as_primitive::<T>().iter();
    Box::new(rows.map(|value| value.map(|value| value.to_string())))
}
