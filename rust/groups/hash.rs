//! Hashing of words, seeded by process.

use std::sync::OnceLock;

/// The seed of this process's hashes. Results do not depend on it.
pub(crate) fn process_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(0x6773_706f))
}

/// A bijection of 64-bit words that spreads every bit (the finaliser of `SplitMix64`).
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
