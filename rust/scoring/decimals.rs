//! Rewards that are decimals, as the floats nearest to them.

use arrow_array::cast::AsArray;
use arrow_array::types::Decimal256Type;
use arrow_array::{Array, ArrayRef, Float64Array};
use arrow_cast::cast;
use arrow_schema::DataType;

use super::settings::Settings;
use crate::error::StreamError;

/// Two different decimals of so many digits are two different floats.
const DIGITS: usize = 15;

/// The floats nearest to a column of decimals; `None` if it is no such column.
///
/// # Errors
/// If a decimal has so many digits that another one may have the same float.
pub(super) fn floats(
    column: &ArrayRef,
    settings: &Settings,
    first_row: usize,
) -> Result<Option<Float64Array>, StreamError> {
    use DataType as T;
    let (T::Decimal32(_, scale)
    | T::Decimal64(_, scale)
    | T::Decimal128(_, scale)
    | T::Decimal256(_, scale)) = *column.data_type()
    else {
        return Ok(None);
    };
    let wide = cast(column, &T::Decimal256(76, scale));
    let wide = wide.map_err(|error| StreamError::Source(error.to_string()))?;
    let values = wide.as_primitive::<Decimal256Type>();
    let float = |row: usize| {
        if values.is_null(row) {
            return Ok(f64::NAN);
        }
        let digits = values.value(row).to_string();
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
    let floats: Result<Vec<f64>, StreamError> = (0..values.len()).map(float).collect();
    floats.map(|floats| Some(floats.into()))
}
