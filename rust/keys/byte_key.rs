//! What stands for an id that is bytes while its row is carried to its group.

use std::hash::BuildHasher;

use crate::groups;

/// In the second word of a key whose first is only a hash: no length of bytes that it holds is as
/// large. Below it is how many bytes go with the key.
const HASHED: u64 = 0xff << 56;
/// More bytes than these are compared where they lie: what is carried takes memory.
pub(super) const MOST_CARRIED: usize = 256;

/// Up to 15 bytes as they are, with their number in the top byte; else a hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteKey([u64; 2]);

impl ByteKey {
    /// Equal bytes have equal keys.
    #[inline]
    pub(super) fn new(bytes: &[u8], hasher: &impl BuildHasher) -> Self {
        let carried = if bytes.len() > MOST_CARRIED {
            0
        } else {
            bytes.len() as u64
        };
        let long = || [hasher.hash_one(bytes), HASHED | carried];
        Self(packed(bytes).unwrap_or_else(long))
    }

    /// How many bytes go with it: all of them, or none if it holds them or if they are too many.
    #[inline]
    pub(super) fn carried(self) -> usize {
        if self.is_exact() {
            0
        } else {
            usize::try_from(self.0[1] ^ HASHED).expect("at most `MOST_CARRIED`")
        }
    }

    /// Whether it holds the bytes.
    #[inline]
    pub(super) fn is_exact(self) -> bool {
        self.0[1] < HASHED
    }

    /// A word with every bit spread.
    #[inline]
    pub(super) fn hash(self, seed: u64) -> u64 {
        let Self([low, high]) = self;
        groups::mix(groups::mix(low ^ seed) ^ high)
    }
}

/// Up to 15 bytes in two words, with their number in the top byte.
fn packed(bytes: &[u8]) -> Option<[u64; 2]> {
    let length = (bytes.len() as u64) << 56;
    match (bytes.first_chunk(), bytes.last_chunk()) {
        _ if bytes.len() > 15 => None,
        (Some(&head), Some(&tail)) => {
            // The last 8 bytes, less those that the first 8 hold.
            let known = u32::try_from(8 * (16 - bytes.len())).unwrap_or(u32::MAX);
            let tail = u64::from_le_bytes(tail).checked_shr(known).unwrap_or(0);
            Some([u64::from_le_bytes(head), tail | length])
        }
        _ => {
            let short = bytes.iter().rev();
            Some([
                short.fold(0, |word, &byte| word << 8 | u64::from(byte)),
                length,
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use foldhash::quality::FixedState;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_of_up_to_15_bytes_are_equal_only_if_the_bytes_are(
            a in prop::collection::vec(0_u8..3, 0..16), b in prop::collection::vec(0_u8..3, 0..16)
        ) {
            prop_assert_eq!(packed(&a) == packed(&b), a == b);
            let mut twin = a.clone();
            if let Some(last) = twin.last_mut() {
                *last ^= 0x80;
                prop_assert_ne!(packed(&a), packed(&twin));
            }
        }
    }

    #[test]
    fn bytes_go_with_a_key_that_does_not_hold_them_unless_they_are_too_many() {
        let key = |n| ByteKey::new(&vec![255; n], &FixedState::with_seed(0));
        for (n, carried, exact) in [
            (0, 0, true),
            (15, 0, true),
            (16, 16, false),
            (MOST_CARRIED, MOST_CARRIED, false),
            (MOST_CARRIED + 1, 0, false),
        ] {
            assert_eq!(
                (key(n).carried(), key(n).is_exact()),
                (carried, exact),
                "{n}"
            );
        }
    }
}
