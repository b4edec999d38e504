//! The keys of files that are scored one by one: none may come back in a later file.

use super::scores::Scores;
use crate::keys::interner::Interner;

/// Keys by their bytes, so that two are never taken for one.
#[derive(Debug, Default)]
pub struct KnownKeys {
    keys: Interner,
    /// How many keys of the file in hand are among them.
    taken: usize,
}

impl KnownKeys {
    /// Takes in the keys that `scores`, of the file in hand, has met since the last call.
    ///
    /// False if an earlier file has one of them, or if they are in memory no more.
    pub fn take(&mut self, scores: &Scores) -> bool {
        let Some(keys) = scores.keys_after(self.taken) else {
            return false;
        };
        for key in keys {
            let known = self.keys.len();
            if self.keys.code(key).is_none() || self.keys.len() == known {
                return false;
            }
            self.taken += 1;
        }
        true
    }

    /// Begins a file: the keys so far are those of earlier ones.
    ///
    /// With `carried`, its first key may be one of them: [`Scores::carry`] has brought it.
    pub fn begin_file(&mut self, carried: bool) {
        self.taken = usize::from(carried);
    }

    /// Bytes of memory taken.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.keys.memory()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, RecordBatch, StringArray};

    use super::*;
    use crate::scoring::Settings;

    fn scores(budget: usize) -> Scores {
        Scores::new(Settings {
            by: vec!["key".to_owned()],
            reward: "reward".to_owned(),
            checked: false,
            refuse_negative: false,
            rows: 0,
            budget,
            directory: std::env::temp_dir(),
        })
    }

    fn push(scores: &mut Scores, keys: &[&str]) {
        let rewards = Float64Array::from(vec![1.0; keys.len()]);
        let keys = StringArray::from(keys.to_vec());
        let columns = [
            ("key", Arc::new(keys) as _),
            ("reward", Arc::new(rewards) as _),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        scores.push(&batch, 0).unwrap();
    }

    #[test]
    fn a_key_may_come_back_in_its_file_but_in_no_later_one() {
        let mut seen = KnownKeys::default();
        let (mut one, mut other) = (scores(1 << 20), scores(1 << 20));
        push(&mut one, &["a", "b", "a"]);
        assert!(seen.take(&one));
        push(&mut one, &["b", "", "c"]);
        assert!(seen.take(&one));
        seen.begin_file(false);
        push(&mut other, &["d", "ab"]);
        assert!(seen.take(&other));
        push(&mut other, &["d", ""]);
        assert!(!seen.take(&other));
    }

    #[test]
    fn a_key_that_is_carried_is_no_return_and_its_group_has_the_rows_of_both_files() {
        let mut seen = KnownKeys::default();
        let (mut one, mut other) = (scores(1 << 20), scores(1 << 20));
        push(&mut one, &["b", "a", "b"]);
        assert!(seen.take(&one));
        seen.begin_file(true);
        let key = one.last_key().unwrap();
        other.carry(&key, &one.rewards_of(&key)).unwrap();
        push(&mut other, &["b", "c"]);
        assert!(seen.take(&other));
        assert_eq!(other.rewards_of(b"b").len(), 3);
        push(&mut other, &["a"]);
        assert!(!seen.take(&other));
    }

    #[test]
    fn keys_that_have_gone_to_the_disk_are_not_vouched_for() {
        let mut small = scores(0);
        push(&mut small, &["a"]);
        assert!(!KnownKeys::default().take(&small));
    }
}
