//! Putting the members of one group in order.

use super::Sorted;
use crate::error::Error;
use crate::groups::to_u32;
use crate::pool::{Cancel, STRETCH};
use crate::radix::{ascending, from_ascending, radix_sort};

/// Up to this many, counting the smaller ones for each beats every sort; most groups are so small.
const COUNTED: usize = 32;
/// Members that are counted for at once.
const LANES: usize = 8;
/// Above this, a radix sort beats comparisons and stays linear.
const RADIX: usize = 2048;
/// Above this, scratch is given back before more is asked for.
const LARGE: usize = 1 << 20;

impl Sorted<'_> {
    /// Sorts the rewards, none of which is infinite.
    pub(super) fn arrange(&mut self, rewards: &[f64]) -> Result<(), Error> {
        if rewards.len() <= COUNTED {
            self.count(rewards);
            Ok(())
        } else {
            self.sort(rewards)
        }
    }

    /// Makes room for what is known of the members, of which so many are scorable.
    fn resize(&mut self, rewards: &[f64], scored: usize) {
        self.members.clear();
        self.members
            .extend(rewards.iter().map(|reward| reward + 0.0));
        self.below.resize(rewards.len(), 0);
        self.tied.clear();
        self.tied.resize(scored, 0);
    }

    /// Sorts by counting for each member those that are below. Comparisons with NaN are false.
    fn count(&mut self, rewards: &[f64]) {
        let scored = rewards.iter().map(|r| usize::from(!r.is_nan())).sum();
        self.resize(rewards, scored);
        self.values.resize(scored, 0.0);
        self.places.resize(scored, 0);
        let mut members = [f64::NAN; COUNTED];
        members[..self.members.len()].copy_from_slice(&self.members);
        let (lanes, _) = members.as_chunks::<LANES>();
        for (below, own) in self.below.chunks_mut(LANES).zip(lanes) {
            let mut counts = [0_usize; LANES];
            for &other in &self.members {
                for (count, &value) in counts.iter_mut().zip(own) {
                    *count += usize::from(other < value);
                }
            }
            for (below, count) in below.iter_mut().zip(counts) {
                *below = to_u32(count);
            }
        }
        for (place, (&value, &below)) in (0..).zip(self.members.iter().zip(&self.below)) {
            if !value.is_nan() {
                let tied = &mut self.tied[below as usize];
                self.values[(below + *tied) as usize] = value;
                self.places[(below + *tied) as usize] = place;
                *tied += 1;
            }
        }
    }

    /// Sorts a larger group. Of a very large one no more is held at a time than needed.
    fn sort(&mut self, rewards: &[f64]) -> Result<(), Error> {
        self.keys.clear();
        self.keys.reserve(rewards.len());
        for (part, rewards) in rewards.chunks(STRETCH).enumerate() {
            self.check()?;
            let members = (part * STRETCH..).zip(rewards);
            let scored = members.filter(|(_, reward)| !reward.is_nan());
            self.keys
                .extend(scored.map(|(place, reward)| (ascending(reward + 0.0), to_u32(place))));
        }
        if self.keys.len() <= RADIX {
            self.keys.sort_unstable();
        } else {
            radix_sort(&mut self.keys, &mut self.spare, |key| key.0, self.cancel)?;
            give_back(&mut self.spare);
        }
        self.values.clear();
        self.values.reserve(self.keys.len());
        self.places.clear();
        self.places.reserve(self.keys.len());
        for stretch in self.keys.chunks(STRETCH) {
            self.cancel.map_or(Ok(()), Cancel::check)?;
            self.values
                .extend(stretch.iter().map(|&(word, _)| from_ascending(word)));
            self.places.extend(stretch.iter().map(|&(_, place)| place));
        }
        give_back(&mut self.keys);
        self.resize(rewards, self.values.len());
        self.check()?;
        self.stand()
    }

    /// Notes the classes of equal rewards, which are sorted.
    fn stand(&mut self) -> Result<(), Error> {
        let mut start = 0;
        for class in self.values.chunk_by(|a, b| a == b) {
            let end = start + class.len();
            if (start ^ end) >= STRETCH {
                self.cancel.map_or(Ok(()), Cancel::check)?;
            }
            self.tied[start] = to_u32(class.len());
            for &place in &self.places[start..end] {
                self.below[place as usize] = to_u32(start);
            }
            start = end;
        }
        Ok(())
    }
}

/// Frees the scratch of a very large group, before more is asked for.
fn give_back<T>(scratch: &mut Vec<T>) {
    if scratch.len() > LARGE {
        *scratch = Vec::new();
    }
}
