//! Micro-batches of whole sequences under a token budget.

use std::collections::BTreeMap;

use crate::error::Error;

/// Packs sequences by best fit, longest first; deterministic.
///
/// Indices rise inside a pack, and packs are ordered by their first index.
///
/// # Errors
/// [`Error::TooLong`] or [`Error::NegativeLength`] with the first such index.
///
/// # Examples
/// ```
/// assert_eq!(gspo_rs::pack(&[5, 3, 4, 2], 7)?, [vec![0, 3], vec![1, 2]]);
/// # Ok::<(), gspo_rs::Error>(())
/// ```
pub fn pack(lengths: &[i64], budget: i64) -> Result<Vec<Vec<usize>>, Error> {
    for (index, &length) in lengths.iter().enumerate() {
        if length < 0 {
            return Err(Error::NegativeLength { index, length });
        }
        if length > budget {
            return Err(Error::TooLong {
                index,
                length,
                budget,
            });
        }
    }
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut packs: Vec<Vec<usize>> = Vec::new();
    // Room left → packs with that room; the smallest room that fits is the best fit.
    let mut by_room: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for i in longest_first {
        let room = by_room.range(lengths[i]..).next().map(|(&room, _)| room);
        let pack = room
            .and_then(|room| take(&mut by_room, room))
            .unwrap_or(packs.len());
        if pack == packs.len() {
            packs.push(Vec::new());
        }
        packs[pack].push(i);
        by_room
            .entry(room.unwrap_or(budget) - lengths[i])
            .or_default()
            .push(pack);
    }
    for pack in &mut packs {
        pack.sort_unstable();
    }
    packs.sort_unstable();
    Ok(packs)
}

fn take(by_room: &mut BTreeMap<i64, Vec<usize>>, room: i64) -> Option<usize> {
    let packs = by_room.get_mut(&room)?;
    let pack = packs.pop();
    if packs.is_empty() {
        by_room.remove(&room);
    }
    pack
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_sequence_is_packed_once_and_no_pack_is_over_budget(
            lengths in prop::collection::vec(0_i64..100, 0..200), budget in 99_i64..400
        ) {
            let packs = pack(&lengths, budget).unwrap();
            let at = |&i: &usize| lengths[i];
            prop_assert!(packs.iter().all(|p| p.iter().map(at).sum::<i64>() <= budget));
            let mut all = packs.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sequence_over_the_budget_is_named() {
        let error = Error::TooLong {
            index: 1,
            length: 9,
            budget: 8,
        };
        assert_eq!(pack(&[1, 9], 8), Err(error));
    }
}
