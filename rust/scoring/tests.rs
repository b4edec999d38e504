//! Rows that go through the disk, beside those that stay in memory.

use std::sync::Arc;

use arrow_array::{Float64Array, RecordBatch, StringArray};
use proptest::prelude::*;

use super::part::Results;
use super::scored::Scored;
use super::scores::Scores;
use super::settings::Settings;

/// Scores that have been fed, in memory or, if more rows are said to come, through the disk.
fn fed(keys: &[String], rewards: &[f64], rows: usize) -> Scores {
    let mut scores = Scores::new(Settings {
        by: vec!["key".to_owned()],
        reward: "reward".to_owned(),
        checked: true,
        refuse_negative: false,
        rows,
        // Room for sixteen facts of groups, and for windows of 73 rows.
        budget: if rows == 0 { 1 << 30 } else { 1 << 14 },
        directory: std::env::temp_dir(),
    });
    for (keys, rewards) in keys.chunks(300).zip(rewards.chunks(300)) {
        let rewards = Float64Array::from(rewards.to_vec());
        let columns = [
            ("key", Arc::new(StringArray::from(keys.to_vec())) as _),
            ("reward", Arc::new(rewards) as _),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        scores.push(&batch, 0).unwrap();
    }
    scores
}

/// What a caller has found for the rows, who finds a few things.
fn found_by(scores: &mut Scores) -> Vec<Scored> {
    while let Some((rewards, offsets)) = scores.take(70).unwrap() {
        let (mut rank, mut mean) = (Vec::new(), Vec::new());
        for ends in offsets.windows(2) {
            let group = usize::try_from(ends[0]).unwrap()..usize::try_from(ends[1]).unwrap();
            rank.extend((0..group.len()).map(|at| at as f64 / 2.0));
            let sum: f64 = rewards[group.clone()].iter().sum();
            mean.extend(std::iter::repeat_n(sum, group.len()));
        }
        let keep: Vec<bool> = rewards.iter().map(|&reward| reward > 0.3).collect();
        scores.put(Results {
            rank: &rank,
            advantage: &rewards,
            keep: Some(&keep),
            mean: &mean,
            std: &rank,
            again: None,
        });
    }
    scores.settle();
    scores.scored(0, scores.n_rows()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rows_get_the_same_scores_through_the_disk_as_in_memory(
        rows in prop::collection::vec((0..300_u32, any::<u16>()), 1..1000)
    ) {
        // Some keys begin alike, further than a byte can count.
        let key = |group: u32| match group {
            0..3 => format!("{}{group}", "x".repeat(300)),
            _ => group.to_string(),
        };
        let keys: Vec<String> = rows.iter().map(|&(group, _)| key(group)).collect();
        let rewards: Vec<f64> = rows.iter().map(|row| f64::from(row.1) / 7e4).collect();
        let mut memory = fed(&keys, &rewards, 0);
        let mut disk = fed(&keys, &rewards, 1 << 20);
        prop_assert_eq!((memory.spilled(), disk.spilled()), (false, true));
        prop_assert_eq!(memory.end_file(), disk.end_file());
        prop_assert_eq!(found_by(&mut memory), found_by(&mut disk));
        let n = disk.n_rows();
        prop_assert_eq!(memory.checks(0, n).unwrap(), disk.checks(0, n).unwrap());
    }
}
