//! Normal scores: what a rank would be worth if rewards were normal.

use super::draws::Pass;
use super::group::Group;
use super::sorted::Sorted;
use super::winrate::Class;
use crate::pool::CHECK_EVERY;

/// Groups up to this size share one table of scores per size.
const KEPT: usize = 256;

/// Which quantile of the standard normal the `k`-th lowest of `n` rewards scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// `ndtri(k / (n + 1))`.
    VanDerWaerden,
    /// `ndtri((k - 3/8) / (n + 1/4))`.
    Blom,
}

impl Scores {
    /// The score of rank `k`, counted from 1, in the lower half of `n`.
    fn score(self, k: usize, n: usize) -> f64 {
        let (k, n) = (k as f64, n as f64);
        // The distance to the middle is formed from integers: a subtraction would lose it.
        match self {
            Self::VanDerWaerden => {
                lower_ndtri(k / (n + 1.0), (n + 1.0 - 2.0 * k) / (2.0 * (n + 1.0)))
            }
            Self::Blom => {
                let whole = 8.0 * n + 2.0;
                lower_ndtri((8.0 * k - 3.0) / whole, (4.0 * n + 4.0 - 8.0 * k) / whole)
            }
        }
    }
}

/// Tables of scores and other scratch, kept from group to group.
#[derive(Debug, Default)]
pub struct Tables {
    van_der_waerden: Vec<Vec<f64>>,
    blom: Vec<Vec<f64>>,
    large: Vec<f64>,
    pub(super) classes: Vec<Class>,
    pub(super) passes: Vec<Pass>,
}

impl Tables {
    /// The scores of the lower half of `n` ranks; the upper half mirrors them.
    fn lower_half(&mut self, scores: Scores, n: usize, stopped: impl Fn() -> bool) -> &[f64] {
        if n > KEPT {
            self.large.clear();
            self.large.resize(n / 2, 0.0);
            let blocks = self
                .large
                .chunks_mut(CHECK_EVERY)
                .take_while(|_| !stopped());
            for (part, block) in blocks.enumerate() {
                for (k, score) in (part * CHECK_EVERY + 1..).zip(block) {
                    *score = scores.score(k, n);
                }
            }
            return &self.large;
        }
        let tables = match scores {
            Scores::VanDerWaerden => &mut self.van_der_waerden,
            Scores::Blom => &mut self.blom,
        };
        if tables.len() <= n {
            tables.resize(n + 1, Vec::new());
        }
        if tables[n].is_empty() {
            tables[n] = (1..=n / 2).map(|k| scores.score(k, n)).collect();
        }
        &tables[n]
    }
}

/// Writes the mean score of each tie class, so that a group sums to zero under any ties.
pub fn normal_scores(group: &Sorted, scores: Scores, tables: &mut Tables, out: &mut [f64]) {
    let n = group.values().len();
    let lower = tables.lower_half(scores, n, || group.stopped());
    for (below, tied) in group.ties() {
        let score = mean_score(lower, n, below, tied.len());
        for &place in tied {
            out[place as usize] = score;
        }
    }
}

/// Writes the same for a small group, member by member.
pub(crate) fn scores_by_standing(
    group: &impl Group,
    scores: Scores,
    tables: &mut Tables,
    out: &mut [f64],
) {
    let n = group.scored();
    let lower = tables.lower_half(scores, n, || group.stopped());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of members"
    )]
    group.by_standing(out, |below, tied| {
        mean_score(lower, n, below as usize, tied as usize)
    });
}

/// The mean score of the `tied` of `n` that `below` are below of.
fn mean_score(lower: &[f64], n: usize, below: usize, tied: usize) -> f64 {
    let above = n - below - tied;
    // Ranks whose mirror image is in the class cancel; what is left lies in one half.
    let sum: f64 = if below <= above {
        let end = (below + tied).min(above);
        lower[below..end].iter().sum()
    } else {
        let end = (above + tied).min(below);
        -lower[above..end].iter().sum::<f64>()
    };
    sum / tied as f64 + 0.0
}

/// The standard normal quantile of `p <= 1/2`, with `gap = 1/2 - p` given by itself.
///
/// Rational approximations of M. J. Wichura (1988), algorithm AS 241, PPND16: Applied
/// Statistics 37 (3), 477-484.
fn lower_ndtri(p: f64, gap: f64) -> f64 {
    if gap <= 0.425 {
        let r = 0.180_625 - gap * gap;
        return -gap * polynomial(&CENTRE[0], r) / polynomial(&CENTRE[1], r);
    }
    let r = (-p.ln()).sqrt();
    let (terms, r) = if r <= 5.0 {
        (&TAIL, r - 1.6)
    } else {
        (&FAR, r - 5.0)
    };
    -polynomial(&terms[0], r) / polynomial(&terms[1], r)
}

/// Coefficients from the highest power down.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

#[expect(clippy::excessive_precision, reason = "as the paper prints them")]
const CENTRE: [[f64; 8]; 2] = [
    [
        2.509_080_928_730_122_672_7e3,
        3.343_057_558_358_812_810_5e4,
        6.726_577_092_700_870_085_3e4,
        4.592_195_393_154_987_145_7e4,
        1.373_169_376_550_946_112_5e4,
        1.971_590_950_306_551_442_7e3,
        1.331_416_678_917_843_774_5e2,
        3.387_132_872_796_366_608_0,
    ],
    [
        5.226_495_278_852_854_561_0e3,
        2.872_908_573_572_194_267_4e4,
        3.930_789_580_009_271_061_0e4,
        2.121_379_430_158_659_586_7e4,
        5.394_196_021_424_751_107_7e3,
        6.871_870_074_920_579_083_0e2,
        4.231_333_070_160_091_125_2e1,
        1.0,
    ],
];
#[expect(clippy::excessive_precision, reason = "as the paper prints them")]
const TAIL: [[f64; 8]; 2] = [
    [
        7.745_450_142_783_414_076_40e-4,
        2.272_384_498_926_918_458_33e-2,
        2.417_807_251_774_506_117_70e-1,
        1.270_458_252_452_368_382_58,
        3.647_848_324_763_204_605_04,
        5.769_497_221_460_691_405_50,
        4.630_337_846_156_545_295_90,
        1.423_437_110_749_683_577_34,
    ],
    [
        1.050_750_071_644_416_843_24e-9,
        5.475_938_084_995_344_946_00e-4,
        1.519_866_656_361_645_719_66e-2,
        1.481_039_764_274_800_745_90e-1,
        6.897_673_349_851_000_045_50e-1,
        1.676_384_830_183_803_849_40,
        2.053_191_626_637_758_821_87,
        1.0,
    ],
];
#[expect(clippy::excessive_precision, reason = "as the paper prints them")]
const FAR: [[f64; 8]; 2] = [
    [
        2.010_334_399_292_288_132_65e-7,
        2.711_555_568_743_487_578_15e-5,
        1.242_660_947_388_078_438_60e-3,
        2.653_218_952_657_612_309_30e-2,
        2.965_605_718_285_048_912_30e-1,
        1.784_826_539_917_291_335_80,
        5.463_784_911_164_114_369_90,
        6.657_904_643_501_103_777_20,
    ],
    [
        2.044_263_103_389_939_785_64e-15,
        1.421_511_758_316_445_888_70e-7,
        1.846_318_317_510_054_681_80e-5,
        7.868_691_311_456_132_591_00e-4,
        1.487_536_129_085_061_485_25e-2,
        1.369_298_809_227_358_053_10e-1,
        5.998_322_065_558_879_376_90e-1,
        1.0,
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_right_in_its_three_pieces() {
        // From 40-digit arithmetic.
        for (p, expected) in [
            (0.4, -0.253_347_103_135_799_7),
            (0.025, -1.959_963_984_540_054_2),
            (1e-15, -7.941_345_326_170_997),
        ] {
            let found = lower_ndtri(p, 0.5 - p);
            assert!((found / expected - 1.0).abs() < 1e-15, "{found}");
        }
    }

    #[test]
    fn a_class_in_the_middle_scores_exactly_zero_and_mirrors_cancel() {
        let mut group = Sorted::default();
        group
            .load(&[0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])
            .unwrap();
        let mut out = [f64::NAN; 8];
        normal_scores(&group, Scores::Blom, &mut Tables::default(), &mut out);
        assert_eq!(out[1..7], [0.0; 6]);
        assert_eq!(out[0], -out[7]);
    }
}
