//! Rows sorted by their codes, by counting.
//!
//! Every thread looks at all codes, for a share of them that is its own: what costs is to write
//! here and there, not to read in order.

use rayon::prelude::*;

/// The rows sorted by code, in row order where codes agree, and where each code begins; all codes
/// are less than `n_codes`.
pub(super) fn by_code(codes: &[u32], n_codes: usize) -> (Vec<u32>, Vec<u32>) {
    let share = n_codes.div_ceil(rayon::current_num_threads()).max(1);
    let mut starts = vec![0; n_codes + 1];
    let counts = starts[1..].par_chunks_mut(share).enumerate();
    counts.for_each(|(part, counts)| count(codes, part * share, counts));
    for code in 0..n_codes {
        starts[code + 1] += starts[code];
    }
    let mut order = vec![0; codes.len()];
    let mut rest = order.as_mut_slice();
    let bounds = (0..n_codes).step_by(share);
    let parts = bounds.map(|first| {
        let starts = &starts[first..=n_codes.min(first + share)];
        let rows = (starts[starts.len() - 1] - starts[0]) as usize;
        let (own, others) = std::mem::take(&mut rest).split_at_mut(rows);
        rest = others;
        (first, starts, own)
    });
    let parts: Vec<_> = parts.collect();
    let parts = parts.into_par_iter();
    parts.for_each(|(first, starts, order)| scatter(codes, first, starts, order));
    (order, starts)
}

/// Counts the codes from `first` on.
fn count(codes: &[u32], first: usize, counts: &mut [u32]) {
    for &code in codes {
        if let Some(count) = counts.get_mut((code as usize).wrapping_sub(first)) {
            *count += 1;
        }
    }
}

/// Writes the rows of the codes from `first` on, which begin at `starts`, into their part of the
/// order.
fn scatter(codes: &[u32], first: usize, starts: &[u32], order: &mut [u32]) {
    let begins = starts[..starts.len() - 1].iter();
    let mut cursor: Vec<u32> = begins.map(|start| start - starts[0]).collect();
    for (row, &code) in (0..).zip(codes) {
        if let Some(at) = cursor.get_mut((code as usize).wrapping_sub(first)) {
            order[*at as usize] = row;
            *at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_sorted_by_code_and_stay_in_order_whatever_the_threads(
            codes in prop::collection::vec(0_u32..20, 0..200),
            n_codes in 20_usize..30,
            threads in 1_usize..9,
        ) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (order, starts) = pool.install(|| by_code(&codes, n_codes));
            let mut expected: Vec<u32> = (0..).take(codes.len()).collect();
            expected.sort_by_key(|&row| codes[row as usize]);
            prop_assert_eq!(&order, &expected);
            let begin = |code: u32| codes.iter().filter(|&&other| other < code).count();
            let begins = (0..).take(n_codes + 1).map(|code| u32::try_from(begin(code)).unwrap());
            prop_assert!(begins.eq(starts));
        }
    }
}
