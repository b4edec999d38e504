"""The formulas of the statistics, written once more: 80-bit floats, whole numbers, 40 digits.

Every function takes the scorable rewards of one group, at least two and not all equal, as
longdouble and in row order. It returns what is expected and how far float64 may be from it.
"""

from fractions import Fraction
from functools import cache
from math import comb

import mpmath
import numpy as np

ULP, TINY = 2.0**-52, 5e-324
LARGEST = np.finfo(np.float64).max
# Rows of which O(n²) formulas are computed, where there are more.
SAMPLE = 40


def rounding(v, extra=0.0):
    """Some roundings of a number as large as the largest reward."""
    return np.abs(v).max() * ULP * (8 + np.log2(len(v)) + extra)


def slack_of(v, extra=0.0, terms=1):
    """The same, of a sum of so many terms that float64 has to hold."""
    return rounding(v, extra) + terms * TINY


def below_and_up_to(v):
    """How many are lower than each, and how many are not higher."""
    order = np.sort(v)
    return np.searchsorted(order, v, "left"), np.searchsorted(order, v, "right")


def ranks(v, method):
    below, up_to = below_and_up_to(v)
    if method in ("average", "midrank"):
        return (below + up_to + 1) / 2
    if method == "min":
        return below + 1.0
    if method == "max":
        return up_to + 0.0
    if method == "dense":
        return np.searchsorted(np.unique(v), v) + 1.0
    found = np.empty(len(v))
    found[np.argsort(v, kind="stable")] = np.arange(1, len(v) + 1)
    return found


def percentile(v, scale="unit", ties="midrank"):
    n = len(v)
    factor = np.sqrt(np.longdouble(3 * (n - 1)) / (n + 1)) if scale == "unit" else np.longdouble(1)
    found = (2 * ranks(v, ties) - n - 1) * factor / (n - 1)
    return found, 8 * ULP


def gopo(v):
    return 2 * percentile(v, scale="none")[0], 8 * ULP


def share(v, q):
    n, (below, up_to) = len(v), below_and_up_to(v)
    tied = up_to - below
    found = np.clip((np.longdouble(q) * n - (n - up_to)) / tied, 0, 1)
    return found, ULP * (4 + q * n / tied)


def top_fraction(v, q=0.2):
    found, slack = share(v, q)
    return found - q, slack


@cache
def exact_scores(n, scores):
    """The scores of the lower half of n ranks, to forty digits."""
    with mpmath.workdps(40):
        quarter, half = mpmath.mpf(1) / 4, mpmath.mpf(1) / 2
        places = [(k, n + 1) for k in range(1, n // 2 + 1)]
        if scores == "blom":
            places = [(k - 3 * quarter * half, n + quarter) for k, _ in places]
        return [float(mpmath.sqrt(2) * mpmath.erfinv(2 * k / m - 1)) for k, m in places]


def normal_table(n, scores):
    if n <= 16:
        lower = np.array(exact_scores(n, scores))
    else:
        import torch  # its normal quantile is of another family of approximations

        k = np.arange(1, n // 2 + 1)
        p = k / (n + 1) if scores == "van_der_waerden" else (k - 0.375) / (n + 0.25)
        lower = torch.special.ndtri(torch.from_numpy(p)).numpy()
    return np.concatenate([lower, np.zeros(n % 2), -lower[::-1]]).astype(np.longdouble)


def normal(v, scores="van_der_waerden"):
    sums = np.concatenate([[0], np.cumsum(normal_table(len(v), scores))])
    below, up_to = below_and_up_to(v)
    return (sums[up_to] - sums[below]) / (up_to - below), ULP * (32 + 4 * np.sqrt(len(v)))


def soft_winrate(v, tau):
    """Of the first few rows only where there are many; NaN for the rest."""
    found = np.full(len(v), np.nan, dtype=np.longdouble)
    some = slice(None) if len(v) <= 1000 else slice(SAMPLE)
    found[some] = np.tanh(np.subtract.outer(v[some], v) / (2 * np.longdouble(tau))).sum(axis=1)
    return found / (len(v) - 1), ULP * (8 + len(np.unique(v)))


def mean(v):
    return v - v.mean(), slack_of(v)


def rloo(v):
    n = len(v)
    return v - (v.sum() - v) / (n - 1), 2 * slack_of(v)


def deviation(v, ddof=1):
    free = len(v) - ddof
    return np.sqrt(((v - v.mean()) ** 2).sum() / free) if free > 0 else np.longdouble(np.nan)


def over(v, centred, spread, eps):
    """`centred` over deviation plus eps; NaN deviations and a zero denominator give 0."""
    scale = spread + np.longdouble(eps)
    if not scale > 0:
        return np.zeros_like(v), 0.0
    found = centred / scale
    # The deviation is known to some roundings of itself and of the mean it is taken around.
    unsure = rounding(v) / scale + ULP * (8 + np.log2(len(v)))
    return found, unsure * (1 + np.abs(found)) + TINY


def zscore(v, ddof=1, eps=1e-6):
    return over(v, v - v.mean(), deviation(v, ddof), eps)


def quantile_of(v, q):
    s, place = np.sort(v), np.longdouble(q) * (len(v) - 1)
    k = int(np.floor(place))
    near = s[max(k - 1, 0) : k + 3]
    found = s[k] + (s[min(k + 1, len(v) - 1)] - s[k]) * (place - k)
    # The place is rounded, and moves the value by its share of the gap it falls into.
    return found, slack_of(v) + 2 * ULP * len(v) * np.max(np.diff(near), initial=0)


def quantile(v, k=0.4, ddof=1, eps=1e-6):
    origin, unsure = quantile_of(v, k)
    found, slack = over(v, v - origin, deviation(v, ddof), eps)
    scale = deviation(v, ddof) + np.longdouble(eps)
    return found, slack + (unsure / scale if scale > 0 else 0)


def maxrl(v):
    if not v.mean() > 0:
        return np.zeros_like(v), 0.0
    return v / v.mean() - 1, ULP * (8 + np.log2(len(v))) * (1 + v / v.mean()) + TINY


def best_minus_second(v):
    second, best = np.sort(v)[-2:]
    return np.where(v == best, best - second, 0), slack_of(v)


def all_wrong(n, correct, k):
    """The chance that k draws hold no right answer, exactly; None where there are no k."""
    return Fraction(comb(n - correct, k), comb(n, k)) if k <= n else None


def pass_at_k(v, k, threshold=0.5):
    n, right = len(v), v >= threshold
    correct = int(right.sum())
    miss = all_wrong(n, correct, k)
    if miss in (None, 0, 1):
        return np.zeros_like(v), 0.0
    with mpmath.workdps(40):
        rest = Fraction(comb(n - correct - 1, k - 1), comb(n - 1, k - 1))
        root = mpmath.sqrt(as_mpf(miss * (1 - miss)))
        values = [as_mpf(miss) / root, as_mpf(miss - rest) / root]
    found = np.where(right, *(np.longdouble(mpmath.nstr(value, 25)) for value in values))
    return found, np.abs(found) * ULP * (32 + 4 * min(correct, k)) + TINY


def as_mpf(fraction):
    return mpmath.mpf(fraction.numerator) / fraction.denominator


def best_weights(n, k):
    """The chance of each place, ascending, to be the best of k draws; in exact arithmetic."""
    whole = comb(n, k)
    return np.array([comb(i, k - 1) / whole for i in range(n)], dtype=np.longdouble)


def best_of(v, k):
    found = (np.sort(v) * best_weights(len(v), k)).sum()
    return found, slack_of(v, 4 * np.sqrt(len(v)), len(v))


def pkpo(v, k, baseline="none"):
    n = len(v)
    if n < k or (baseline == "leave_one_out" and n <= k):
        return np.zeros_like(v), 0.0
    order = np.argsort(v, kind="stable")
    g = v[order]
    # Of draws that hold a given lower member, those with this one as the best.
    beats = np.zeros(n, dtype=np.longdouble)
    if k > 1:
        beats[1:] = [comb(i - 1, k - 2) / comb(n, k) for i in range(1, n)]
    above = np.concatenate([np.cumsum((beats * g)[::-1])[::-1][1:], [0]])
    shares = best_weights(n, k) * g + above
    if baseline == "leave_one_out":
        weights = best_weights(n - 1, k)
        left = np.concatenate([[0], np.cumsum(weights * g[:-1])])
        right = np.concatenate([np.cumsum((weights * g[1:])[::-1])[::-1], [0]])
        shares -= np.longdouble(k) / n * (left + right)
    found = np.empty_like(v)
    found[order] = shares
    return found, slack_of(v, 8 * np.sqrt(n), 2 * n)


def opo(v, lengths):
    baseline = (v * lengths).sum() / lengths.sum()
    return v - baseline, slack_of(v, 4 * np.sqrt(len(v)), len(v))
