//! The least, the largest and the 99th percentile of ratios, from their logarithms.

use super::widest::{Loops, widest};

/// Values of which the largest hundredth is guessed.
const SAMPLE: usize = 1024;
/// Values that are looked at together for one that is large.
const CHUNK: usize = 16;

/// Least, largest and 99th percentile of `exp` of `n` values, of which `largest` holds the least
/// ones that [`reach`] asks for; NaN for none.
///
/// The percentile lies at place `0.99 (n - 1)`, between neighbours on the line of their ratios
/// (type 7 of Hyndman and Fan).
pub(crate) fn extremes(least: f64, largest: &mut [f64], n: usize) -> [f64; 3] {
    if n == 0 {
        return [f64::NAN; 3];
    }
    let place = (n - 1) as f64 / 100.0;
    let (larger, &mut under, _) =
        largest.select_nth_unstable_by(reach(n) - 1, |a, b| b.total_cmp(a));
    let above = larger.iter().copied().fold(f64::INFINITY, f64::min);
    let most = larger.iter().copied().fold(under, f64::max);
    let part = place - place.floor();
    let (under, above) = (under.exp(), above.exp());
    let p99 = if part == 0.0 {
        under
    } else {
        above + (under - above) * part
    };
    [least.exp(), most.exp(), p99]
}

/// How many of the largest of `n` values the 99th percentile lies among; at least 1.
pub(crate) fn reach(n: usize) -> usize {
    n.saturating_sub(1).div_ceil(100) + 1
}

/// The [`reach`] largest of all `rows` at least, in any order; there is no NaN among them.
pub(crate) fn largest(rows: &[impl AsRef<[f32]>]) -> Vec<f64> {
    let n = rows.iter().map(|row| row.as_ref().len()).sum();
    if let Some(edge) = guess(rows, n) {
        let mut found = Vec::with_capacity(4 * reach(n));
        for row in rows {
            widest(Above(row.as_ref(), edge, &mut found));
        }
        if found.len() >= reach(n) {
            return found;
        }
    }
    let values = rows.iter().flat_map(AsRef::as_ref);
    values.copied().map(f64::from).collect()
}

/// Appends the values that are above an edge.
struct Above<'a>(&'a [f32], f32, &'a mut Vec<f64>);

impl Loops for Above<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "what is not inlined is compiled for the oldest processors"
    )]
    #[inline(always)]
    fn call(self) {
        let Self(row, edge, found) = self;
        let (chunks, rest) = row.as_chunks::<CHUNK>();
        for chunk in chunks {
            if chunk.map(|value| value > edge) != [false; CHUNK] {
                found.extend(above(chunk, edge));
            }
        }
        found.extend(above(rest, edge));
    }
}

fn above(values: &[f32], edge: f32) -> impl Iterator<Item = f64> {
    let large = values.iter().filter(move |&&value| value > edge);
    large.copied().map(f64::from)
}

/// A value that probably a little more than the [`reach`] largest of `n` are above; `None` for few.
fn guess(rows: &[impl AsRef<[f32]>], n: usize) -> Option<f32> {
    let step = n / SAMPLE;
    if step < 2 {
        return None;
    }
    let sample = |row| AsRef::<[f32]>::as_ref(row).iter().step_by(step).copied();
    let mut sample: Vec<f32> = rows.iter().flat_map(sample).collect();
    // Twice as many as wanted and the spread of that number: 1 sample in 10^4 has too few.
    let place = sample.len() / 50 + 4;
    let (_, edge, _) = sample.select_nth_unstable_by(place, |a, b| b.total_cmp(a));
    Some(*edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_those_of_a_sorted_copy() {
        for (n, scale) in [
            (1, 1.0),
            (1000, 1.0),
            (2048, 1.0),
            (70_000, 1.0),
            (70_000, 1e-3),
        ] {
            // A product modulo a prime: no order, and at the small scale many equal values.
            let value = |i: u64| ((i * 48_271 % 65_537) as f32 * scale).floor();
            let values: Vec<f32> = (1..=n).map(value).collect();
            let mut sorted: Vec<f64> = values.iter().copied().map(f64::from).collect();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let cut = values.len() / 3;
            let mut found = largest(&[&values[..cut], &values[cut..]]);
            found.sort_unstable_by(|a, b| b.total_cmp(a));
            let wanted = reach(values.len());
            assert_eq!(found[..wanted], sorted[..wanted]);
        }
    }
}
