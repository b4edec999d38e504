//! Runs and packed bits mixed, as Parquet writes levels and dictionary indices.

use crate::scoring::varint;

/// Values that are packed together.
const GROUP: usize = 8;
/// Eight values of as many bits fill the widest integer.
pub(super) const WIDEST: usize = 16;

/// Appends `values`, each of `width` bits, to `out`.
///
/// # Panics
/// If `width` is more than [`WIDEST`].
pub(super) fn encode(values: &[u32], width: usize, out: &mut Vec<u8>) {
    assert!(width <= WIDEST);
    let (mut first, mut at) = (0, 0);
    while at < values.len() {
        let value = values[at];
        let differs = values[at..].iter().position(|&other| other != value);
        let run = differs.unwrap_or(values.len() - at);
        if run >= GROUP {
            pack(&values[first..at], width, out);
            repeat(value, run, width, out);
            at += run;
            first = at;
        } else {
            at = values.len().min(at + GROUP);
        }
    }
    pack(&values[first..], width, out);
}

/// Appends `value`, of `width` bits, `run` times.
pub(super) fn repeat(value: u32, run: usize, width: usize, out: &mut Vec<u8>) {
    varint::write((run << 1) as u64, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8)]);
}

/// Only the last values of a page may be no multiple of eight; zeros fill them up.
fn pack(values: &[u32], width: usize, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    varint::write((values.len().div_ceil(GROUP) << 1 | 1) as u64, out);
    for group in values.chunks(GROUP) {
        let packed = packed(group, width);
        // All bytes and then fewer: a copy of as many as are needed would be a call.
        out.extend_from_slice(&packed.to_le_bytes());
        out.truncate(out.len() - size_of::<u128>() + width);
    }
}

/// At most eight values side by side, the first in the lowest bits.
fn packed(values: &[u32], width: usize) -> u128 {
    let half = |values: &[u32]| {
        let last_first = values.iter().rev();
        last_first.fold(0, |all: u64, &value| all << width | u64::from(value))
    };
    let (low, high) = values.split_at(values.len().min(GROUP / 2));
    u128::from(half(high)) << (width * GROUP / 2) | u128::from(half(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(values: &[u32], width: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, width, &mut out);
        out
    }

    #[test]
    fn the_numbers_of_the_format_s_own_example_are_packed_as_it_says() {
        let expected = [1 << 1 | 1, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(encoded(&[0, 1, 2, 3, 4, 5, 6, 7], 3), expected);
    }

    #[test]
    fn a_run_is_its_length_and_its_value_in_whole_bytes() {
        assert_eq!(encoded(&[300; 100], 9), [0xc8, 0x01, 0x2c, 0x01]);
    }

    #[test]
    fn a_run_begins_where_a_packed_group_ends_and_the_last_group_is_filled_up() {
        let values = [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0];
        let expected = [1 << 1 | 1, 1, 9 << 1, 1, 1 << 1 | 1, 0];
        assert_eq!(encoded(&values, 1), expected);
    }
}
