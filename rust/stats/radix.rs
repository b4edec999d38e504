//! Sorting many rewards in linear time, as words of the same order.

use crate::error::Error;
use crate::pool::{CHECK_EVERY, Cancel};

/// A reward as a word that orders like it, and its place in the group.
pub(crate) type Key = (u64, u32);

/// All values but NaN, ascending.
pub(crate) fn values(values: &[f64], cancel: &Cancel) -> Result<Vec<f64>, Error> {
    let mut words = Vec::with_capacity(values.len());
    for block in values.chunks(CHECK_EVERY) {
        cancel.check()?;
        let scored = block.iter().filter(|value| !value.is_nan());
        words.extend(scored.map(|&value| ascending(value + 0.0)));
    }
    radix_sort(&mut words, &mut Vec::new(), |&word| word, Some(cancel))?;
    Ok(words.into_iter().map(from_ascending).collect())
}

/// Maps a number to a word of the same order.
pub(crate) fn ascending(value: f64) -> u64 {
    let bits = value.to_bits();
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    bits ^ flip
}

/// The number that a word stands for.
pub(crate) fn from_ascending(word: u64) -> f64 {
    let flip = if word >> 63 == 1 { 1 << 63 } else { u64::MAX };
    f64::from_bits(word ^ flip)
}

/// Byte by byte from the lowest; bytes that all keys share cost only the count.
pub(crate) fn radix_sort<K: Copy + Default>(
    keys: &mut Vec<K>,
    spare: &mut Vec<K>,
    word: impl Fn(&K) -> u64,
    cancel: Option<&Cancel>,
) -> Result<(), Error> {
    let check = || cancel.map_or(Ok(()), Cancel::check);
    let counts = count_bytes(keys, &word, cancel)?;
    spare.clear();
    spare.reserve_exact(keys.len());
    while spare.len() < keys.len() {
        // New pages take their time.
        check()?;
        spare.resize(keys.len().min(spare.len() + CHECK_EVERY), K::default());
    }
    for (byte, count) in counts.iter().enumerate() {
        if count.contains(&keys.len()) {
            continue;
        }
        let mut next = 0;
        let mut cursor = count.map(|n| {
            next += n;
            next - n
        });
        for block in keys.chunks(CHECK_EVERY) {
            check()?;
            for key in block {
                let at = &mut cursor[word(key).to_le_bytes()[byte] as usize];
                spare[*at] = *key;
                *at += 1;
            }
        }
        std::mem::swap(keys, spare);
    }
    Ok(())
}

/// How often each byte occurs at each of the eight places of the words.
fn count_bytes<K>(
    keys: &[K],
    word: impl Fn(&K) -> u64,
    cancel: Option<&Cancel>,
) -> Result<[[usize; 256]; 8], Error> {
    let mut counts = [[0; 256]; 8];
    for block in keys.chunks(CHECK_EVERY) {
        cancel.map_or(Ok(()), Cancel::check)?;
        for key in block {
            for (count, byte) in counts.iter_mut().zip(word(key).to_le_bytes()) {
                count[byte as usize] += 1;
            }
        }
    }
    Ok(counts)
}
