//! Several lists of one length, sorted side by side by exchanges that do not depend on the numbers.

/// How many lists.
pub(crate) const LANES: usize = 8;

/// One number of each list.
pub(super) type Row = [f64; LANES];

/// Sorts every lane: the merge exchange of K. E. Batcher (D. E. Knuth, The Art of Computer
/// Programming 3, algorithm 5.2.2M).
pub(super) fn sort(rows: &mut [Row]) {
    // For no rows, `next_power_of_two` is 1.
    let top = rows.len().next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            for i in (0..rows.len() - d).filter(|i| i & p == r) {
                exchange(rows, i, i + d);
            }
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
}

#[inline]
fn exchange(rows: &mut [Row], a: usize, b: usize) {
    let (mine, other) = (rows[a], rows[b]);
    for lane in 0..LANES {
        rows[a][lane] = lesser(mine[lane], other[lane]);
        rows[b][lane] = greater(mine[lane], other[lane]);
    }
}

/// One instruction, which `f64::min` with its rule for NaN is not.
#[inline]
pub(super) fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline]
pub(super) fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_of_any_length_rises() {
        for n in 0..70_usize {
            let number = |k: usize, lane: usize| ((k * 7919 + lane * 104_729) % 31) as f64;
            let mut rows: Vec<Row> = (0..n)
                .map(|k| std::array::from_fn(|lane| number(k, lane)))
                .collect();
            sort(&mut rows);
            for lane in 0..LANES {
                let mut expected: Vec<f64> = (0..n).map(|k| number(k, lane)).collect();
                expected.sort_by(f64::total_cmp);
                let found: Vec<f64> = rows.iter().map(|row| row[lane]).collect();
                assert_eq!(found, expected);
            }
        }
    }
}
