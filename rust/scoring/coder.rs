//! Numbers of 64 bits written as their places in a dictionary, while there are few.

use super::dictionary::Dictionary;
use super::varint;

/// Different numbers that are kept; those that come after them are written as they are.
const MOST: usize = 1 << 16;

/// Writes numbers, in one to three bytes or in nine, and takes them back.
#[derive(Debug, Default)]
pub(super) struct Coder {
    known: Dictionary,
}

impl Coder {
    /// Appends a number to `out`.
    #[inline]
    pub(super) fn write(&mut self, number: u64, out: &mut Vec<u8>) {
        if let Some(place) = self.known.place_among(number, MOST) {
            varint::write(u64::from(place) + 1, out);
        } else {
            out.push(0);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Takes a number from the front of `bytes`.
    ///
    /// # Panics
    /// If [`Self::write`] has not written it.
    #[inline]
    pub(super) fn take(&self, bytes: &mut &[u8]) -> u64 {
        match varint::take(bytes).expect("whole records") {
            0 => u64::from_le_bytes(fixed(bytes)),
            place => self.known.values()[varint::index(place - 1)],
        }
    }
}

/// Takes `N` bytes from the front of `bytes`.
///
/// # Panics
/// If there are fewer.
pub(super) fn fixed<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (found, rest) = bytes.split_first_chunk().expect("whole records");
    *bytes = rest;
    *found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_though_there_are_more_than_are_kept() {
        let mut coder = Coder::default();
        let numbers = (0..3 * MOST as u64).map(|n| (n % (2 * MOST as u64)) << 40);
        let mut bytes = Vec::new();
        numbers.clone().for_each(|n| coder.write(n, &mut bytes));
        let mut rest = &bytes[..];
        assert!(numbers.eq((0..3 * MOST).map(|_| coder.take(&mut rest))));
        assert!(rest.is_empty());
    }
}
