//! How far a policy has moved, from the log-ratios of its tokens: the numbers of
//! `gspo_rs.losses.policy_metrics`, in one pass over tensors in memory.

use std::borrow::Cow;
use std::ops::Range;

use super::log_sums::{BOUND, LogSums};
use super::tail::{extremes, largest, reach};

/// Mean log-ratios below this count as unmoved.
const UNMOVED: f64 = 1e-6;
/// Entries of a mask that are counted together, in a byte.
const CHUNK: usize = 128;

/// Which tokens a sequence has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// Rows of `width` tokens, of which those count where the mask is not 0.
    Padded {
        /// One entry per token.
        mask: &'a [u8],
        /// Tokens of a row.
        width: usize,
    },
    /// Runs of so many tokens, one after another.
    Flat(&'a [usize]),
}

/// One value per sequence, or one per token, those outside the mask included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values<'a> {
    Sequence(&'a [f32]),
    Token(&'a [f32]),
}

/// A clip, and what it is put on. Outside the mask ratios are 1, or advantages 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip<'a> {
    /// The bounds of the ratio.
    pub(crate) bounds: (f32, f32),
    pub(crate) ratios: Values<'a>,
    pub(crate) advantages: Values<'a>,
}

/// The name and the value of every metric; NaN where there is no token.
pub(crate) fn metrics(
    log_ratios: &[f32],
    rows: Rows,
    clip: Option<Clip>,
) -> Vec<(&'static str, f64)> {
    let ranges = ranges(rows);
    let inside: Vec<Cow<[f32]>> = match rows {
        Rows::Flat(_) => ranges
            .iter()
            .map(|range| log_ratios[range.clone()].into())
            .collect(),
        Rows::Padded { mask, .. } => {
            let row =
                |range: &Range<usize>| inside(&log_ratios[range.clone()], &mask[range.clone()]);
            ranges.iter().map(row).collect()
        }
    };
    let lengths: Vec<usize> = inside.iter().map(|tokens| tokens.len()).collect();
    let mut found = clip.map_or_else(Vec::new, |clip| clip_shares(clip, &ranges, &lengths));
    let live = inside.iter().filter(|tokens| !tokens.is_empty());
    let sums: Vec<LogSums> = live.clone().map(|tokens| LogSums::of(tokens)).collect();
    let means = live
        .zip(&sums)
        .map(|(tokens, sums)| sums.log / tokens.len() as f64);
    let all = sums.iter().copied().fold(LogSums::NONE, LogSums::and);
    found.extend(of_tokens(&inside, lengths.iter().sum(), all));
    found.extend(of_sequences(&means.collect::<Vec<_>>()));
    found.push(("log_w_seq", all.log / sums.len() as f64));
    found
}

/// Where the tokens of each sequence lie.
fn ranges(rows: Rows) -> Vec<Range<usize>> {
    match rows {
        Rows::Padded { width: 0, .. } => Vec::new(),
        Rows::Padded { mask, width } => {
            let starts = (0..mask.len()).step_by(width);
            starts.map(|start| start..start + width).collect()
        }
        Rows::Flat(lengths) => {
            let after = |end: &mut usize, &length: &usize| {
                *end += length;
                Some(*end - length..*end)
            };
            lengths.iter().scan(0, after).collect()
        }
    }
}

/// The log-ratios of a row that count; a copy only if others lie between them.
fn inside<'a>(row: &'a [f32], mask: &[u8]) -> Cow<'a, [f32]> {
    let counted = |chunk: &[u8]| chunk.iter().fold(0, |n, &entry| n + u8::from(entry != 0));
    let count = |mask: &[u8]| {
        mask.chunks(CHUNK)
            .map(|c| usize::from(counted(c)))
            .sum::<usize>()
    };
    let length = count(mask);
    let start = mask.iter().position(|&entry| entry != 0).unwrap_or(0);
    if mask
        .get(start..start + length)
        .is_some_and(|run| count(run) == length)
    {
        return row[start..start + length].into();
    }
    // Every value is written, and written over if it does not count: no branch to guess.
    let (mut tokens, mut end) = (vec![0.0; row.len() + 1], 0);
    for (&value, &entry) in row.iter().zip(mask) {
        tokens[end] = value;
        end += usize::from(entry != 0);
    }
    tokens.truncate(end);
    tokens.into()
}

fn of_tokens(
    tokens: &[Cow<[f32]>],
    n: usize,
    sums: LogSums,
) -> impl Iterator<Item = (&'static str, f64)> {
    let bound = |value: &mut f64| *value = value.clamp(-f64::from(BOUND), f64::from(BOUND));
    let mut top = match sums {
        LogSums { excess, .. } if excess.is_nan() => vec![f64::NAN; reach(n)],
        LogSums { least, most, .. } if least == most => vec![f64::from(most); reach(n)],
        _ => largest(tokens),
    };
    let mut least = f64::from(sums.least) + 0.0 * sums.excess;
    bound(&mut least);
    top.iter_mut().for_each(bound);
    let [least, most, p99] = extremes(least, &mut top, n);
    let n = n as f64;
    [
        ("ratio/mean", 1.0 + (sums.bounded + sums.excess) / n),
        ("ratio/min", least),
        ("ratio/max", most),
        ("ratio/p99", p99),
        ("kl/old_k1", -sums.log / n),
        ("kl/old_k2", sums.square / 2.0 / n),
        ("kl/old_k3", sums.excess / n),
    ]
    .into_iter()
}

/// From the mean log-ratio of each sequence that has a token.
fn of_sequences(means: &[f64]) -> impl Iterator<Item = (&'static str, f64)> {
    let n = means.len() as f64;
    let unmoved = means.iter().filter(|mean| mean.abs() < UNMOVED).count();
    let bounded = |mean: &f64| mean.clamp(-f64::from(BOUND), f64::from(BOUND));
    let mut means: Vec<f64> = means.iter().map(bounded).collect();
    let grown: f64 = means.iter().map(|mean| mean.exp_m1()).sum();
    let [least, most, p99] = if grown.is_nan() {
        [f64::NAN; 3]
    } else {
        let least = means.iter().copied().fold(f64::INFINITY, f64::min);
        let n = means.len();
        extremes(least, &mut means, n)
    };
    [
        ("seq_ratio/mean", 1.0 + grown / n),
        ("seq_ratio/min", least),
        ("seq_ratio/max", most),
        ("seq_ratio/p99", p99),
        ("seq_ratio/unmoved_frac", unmoved as f64 / n),
    ]
    .into_iter()
}

/// The share of tokens, and for a clip on sequences of sequences, whose gradient it removes.
fn clip_shares(clip: Clip, ranges: &[Range<usize>], lengths: &[usize]) -> Vec<(&'static str, f64)> {
    let (mut tokens, mut shares) = ([0.0; 2], [0.0; 2]);
    for (i, (range, &length)) in ranges.iter().zip(lengths).enumerate() {
        let removed = clip.removed(i, range, length);
        for side in 0..2 {
            tokens[side] += removed[side] as f64;
            shares[side] += removed[side] as f64 / length.max(1) as f64;
        }
    }
    let n = lengths.iter().sum::<usize>() as f64;
    let sequences = lengths.iter().filter(|&&length| length > 0).count() as f64;
    let [low, high] = tokens.map(|removed| removed / n);
    let mut found = vec![
        ("clip/token_low", low),
        ("clip/token_high", high),
        ("clip/token", low + high),
    ];
    if let Values::Sequence(_) = clip.ratios {
        let [low, high] = shares.map(|share| share / sequences);
        found.extend([
            ("clip/seq_low", low),
            ("clip/seq_high", high),
            ("clip/seq", low + high),
        ]);
    }
    found
}

impl Clip<'_> {
    /// How many tokens of sequence `i`, which lies at `range`, the lower and the upper bound
    /// remove.
    fn removed(&self, i: usize, range: &Range<usize>, length: usize) -> [usize; 2] {
        use Values::{Sequence, Token};
        match (self.ratios, self.advantages) {
            (Sequence(r), Sequence(a)) => self.count([(r[i], a[i])]).map(|hit| hit * length),
            (Sequence(r), Token(a)) => self.count(within(a, range).map(|a| (r[i], a))),
            (Token(r), Sequence(a)) => self.count(within(r, range).map(|r| (r, a[i]))),
            (Token(r), Token(a)) => self.count(within(r, range).zip(within(a, range))),
        }
    }

    fn count(&self, pairs: impl IntoIterator<Item = (f32, f32)>) -> [usize; 2] {
        let (low, high) = self.bounds;
        // In 32 bits, as the values have, to be counted side by side.
        let mut removed = [0u32; 2];
        for (ratio, advantage) in pairs {
            removed[0] += u32::from(ratio < low && advantage < 0.0);
            removed[1] += u32::from(ratio > high && advantage > 0.0);
        }
        removed.map(|count| count as usize)
    }
}

fn within<'a>(values: &'a [f32], range: &Range<usize>) -> impl Iterator<Item = f32> + use<'a> {
    values[range.clone()].iter().copied()
}
