//! Rewards of any type of number as 64-bit floats.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, Float64Array};
use arrow_schema::DataType;

use super::decimals;
use super::settings::Settings;
use crate::error::StreamError;

/// A column of numbers or flags as floats; null, and NaN of any bits, are the one NaN.
///
/// # Errors
/// If it is of another type, or a decimal has more digits than a float.
pub(super) fn floats(
    column: &ArrayRef,
    settings: &Settings,
    first_row: usize,
) -> Result<Float64Array, StreamError> {
    use DataType as T;
    Ok(match column.data_type() {
        T::Float64 => read::<Float64Type>(column, |value| value),
        T::Float32 => read::<Float32Type>(column, f64::from),
        T::Float16 => read::<Float16Type>(column, f64::from),
        T::Int8 => read::<Int8Type>(column, f64::from),
        T::Int16 => read::<Int16Type>(column, f64::from),
        T::Int32 => read::<Int32Type>(column, f64::from),
        T::Int64 => read::<Int64Type>(column, |value| value as f64),
        T::UInt8 => read::<UInt8Type>(column, f64::from),
        T::UInt16 => read::<UInt16Type>(column, f64::from),
        T::UInt32 => read::<UInt32Type>(column, f64::from),
        T::UInt64 => read::<UInt64Type>(column, |value| value as f64),
        T::Boolean => filled(column.as_boolean().iter().map(|flag| flag.map(f64::from))),
        T::Null => filled((0..column.len()).map(|_| None)),
        other => match decimals::floats(column, settings, first_row)? {
            Some(floats) => floats.into(),
            None => return Err(StreamError::Source(format!("rewards cannot be {other}"))),
        },
    })
}

fn read<T: ArrowPrimitiveType>(column: &ArrayRef, to: impl Fn(T::Native) -> f64) -> Float64Array {
    filled(
        column
            .as_primitive::<T>()
            .iter()
            .map(|value| value.map(&to)),
    )
}

fn filled(rewards: impl ExactSizeIterator<Item = Option<f64>>) -> Float64Array {
    let filled = rewards.map(|reward| match reward {
        Some(reward) if !reward.is_nan() => reward,
        _ => f64::NAN,
    });
    Float64Array::from_iter_values(filled)
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        BooleanArray, Decimal32Array, Decimal64Array, Decimal128Array, Decimal256Array,
        Float16Array, Float32Array, Int8Array, Int16Array, Int32Array, Int64Array, NullArray,
        StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    };
    use arrow_buffer::i256;

    use super::*;

    fn of(column: &dyn Array) -> Result<Vec<u64>, StreamError> {
        let settings = Settings {
            by: vec!["key".to_owned()],
            reward: "reward".to_owned(),
            checked: false,
            refuse_negative: false,
            rows: 0,
            budget: 0,
            directory: std::env::temp_dir(),
        };
        let found = floats(&column.slice(1, column.len() - 1), &settings, 0)?;
        Ok(found.values().iter().map(|value| value.to_bits()).collect())
    }

    #[test]
    fn rewards_of_every_type_are_the_floats_that_they_say() {
        let whole = |column: &dyn Array| {
            let expected = [2.0, f64::NAN, 3.0].map(f64::to_bits);
            assert_eq!(of(column).unwrap(), expected, "{column:?}");
        };
        whole(&Int8Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&Int16Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&Int32Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&Int64Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&UInt8Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&UInt16Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&UInt32Array::from(vec![Some(9), Some(2), None, Some(3)]));
        whole(&UInt64Array::from(vec![Some(9), Some(2), None, Some(3)]));
        let half = <Float16Type as ArrowPrimitiveType>::Native::from_f32;
        let halves = [Some(9.0), Some(2.0), None, Some(3.0)].map(|value| value.map(half));
        whole(&Float16Array::from(halves.to_vec()));
        let tenths = Decimal32Array::from(vec![Some(9), Some(20), None, Some(30)]);
        whole(&tenths.with_precision_and_scale(9, 1).unwrap());
        let tenths = Decimal64Array::from(vec![Some(9), Some(20), None, Some(30)]);
        whole(&tenths.with_precision_and_scale(18, 1).unwrap());
        let whole_ones = Decimal128Array::from(vec![Some(9), Some(2), None, Some(3)]);
        whole(&whole_ones.with_precision_and_scale(38, 0).unwrap());
        let wide = [Some(9), Some(200), None, Some(300)].map(|value| value.map(i256::from_i128));
        let hundredths = Decimal256Array::from(wide.to_vec());
        whole(&hundredths.with_precision_and_scale(76, 2).unwrap());
        let odd = f64::from_bits(f64::NAN.to_bits() | 1);
        whole(&Float64Array::from(vec![9.0, 2.0, odd, 3.0]));
        whole(&Float32Array::from(vec![9.0, 2.0, f32::NAN, 3.0]));
    }

    #[test]
    fn flags_are_0_and_1_and_a_column_of_no_type_has_no_reward() {
        let flags = BooleanArray::from(vec![Some(false), Some(true), None, Some(false)]);
        let expected = [1.0, f64::NAN, 0.0].map(f64::to_bits);
        assert_eq!(of(&flags).unwrap(), expected);
        assert_eq!(of(&NullArray::new(3)).unwrap(), [f64::NAN.to_bits(); 2]);
    }

    #[test]
    fn a_column_of_text_has_no_rewards() {
        let error = of(&StringArray::from(vec!["1", "2"])).unwrap_err();
        assert_eq!(error.to_string(), "rewards cannot be Utf8");
    }
}
