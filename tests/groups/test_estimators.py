"""The identities of the estimators: enumeration, exact arithmetic, and each other."""

import ast
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import mpmath
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs
import gspo_rs.polars
from fixtures.one_group import levels, one_group
from fixtures.places import ROOT
from gspo_rs.conformance.advantages import estimator_name
from gspo_rs.groups import batch_estimators
from gspo_rs.groups.estimators import ESTIMATORS, Estimator
from gspo_rs.train.config.config import Config, resolve
from oracles import golden

DOCS = ROOT / "docs"

binary = st.lists(st.booleans().map(float), min_size=2, max_size=9)


def mean_gradient(probabilities, n, advantages):
    """The mean over all draws of `n` answers of sum(advantage * d log pi / d logits)."""
    pi = np.array(probabilities)
    total = np.zeros(len(pi))
    for draw in product(range(len(pi)), repeat=n):
        total += np.prod(pi[list(draw)]) * (advantages(draw) @ (np.eye(len(pi))[list(draw)] - pi))
    return total


@given(levels, st.sampled_from([1e-3, 0.3, 5.0]))
def test_soft_win_rates_sum_to_zero_and_are_bounded(rewards, tau):
    found = one_group(rewards, "soft_winrate", tau=tau)
    assert abs(found.sum()) < 1e-13
    assert (np.abs(found) <= 1).all()
    wins = np.tanh(np.subtract.outer(rewards, rewards) / (2 * tau)).sum(axis=1)
    assert_allclose(found, wins / (len(rewards) - 1), atol=1e-14)


@given(levels)
def test_soft_win_rates_run_from_the_percentile_to_leave_one_out(rewards):
    sharp = one_group(rewards, "soft_winrate", tau=1e-3)
    assert_allclose(sharp, one_group(rewards, "percentile", scale="none"), atol=1e-14)
    blunt = one_group(rewards, "soft_winrate", tau=1e5)
    assert_allclose(2e5 * blunt, one_group(rewards, "rloo"), atol=1e-8)


@given(levels)
def test_the_percentile_is_the_mean_over_thresholds_set_by_the_others(rewards):
    r = np.array(rewards)
    passed = np.greater.outer(r, r) / 2 + np.greater_equal.outer(r, r) / 2
    np.fill_diagonal(passed, 0)
    expected = passed.sum(axis=1) / (len(r) - 1)
    assert_allclose(gs.percentile(r, np.zeros(len(r), dtype=int)), expected, atol=1e-15)


def test_at_eight_members_gopo_is_a_third_above_a_z_score():
    rewards = np.arange(8.0)
    rms = [
        np.sqrt(np.mean(one_group(rewards, e, **o) ** 2))
        for e, o in (("gopo", {}), ("percentile", {"scale": "none"}))
    ]
    assert_allclose(rms, [1.3093073, 0.6546537], rtol=1e-6)


@given(levels, st.integers(1, 1000))
def test_shares_of_the_top_fill_its_slots_and_ties_share_them(rewards, thousandths):
    n, q = len(rewards), thousandths / 1000
    found = one_group(rewards, "top_fraction", q=q) + q
    if len(set(rewards)) > 1:
        exact = [
            min(max((Fraction(q) * n - sum(b > a for b in rewards)) / rewards.count(a), 0), 1)
            for a in rewards
        ]
        assert_allclose(found, [float(share) for share in exact], atol=1e-14)
    assert found.sum() == pytest.approx(q * n, abs=1e-13)


@given(st.lists(st.integers(0, 99), min_size=2, max_size=12, unique=True))
def test_the_top_slot_is_the_best_of_the_group(rewards):
    n = len(rewards)
    expected = (np.array(rewards) == max(rewards)) - 1 / n
    assert_allclose(one_group(rewards, "top_fraction", q=1 / n), expected, atol=1e-15)


@pytest.mark.parametrize("q", [0.2, 0.5])
@pytest.mark.parametrize("rewards", [(0.0, 1.0, 2.0), (1.0, 0.0, 1.0)])
def test_top_fractions_are_unbiased_for_a_place_in_the_top_against_a_frozen_policy(q, rewards):
    pi, n = np.array([0.2, 0.5, 0.3]), 4
    value = np.zeros(3)
    for mine, others in product(range(3), product(range(3), repeat=n - 1)):
        group = [rewards[mine], *(rewards[y] for y in others)]
        share = (q * n - sum(r > group[0] for r in group)) / group.count(group[0])
        value[mine] += np.prod(pi[list(others)]) * min(max(share, 0), 1)
    found = mean_gradient(
        pi, n, lambda draw: one_group([rewards[y] for y in draw], "top_fraction", q=q)
    )
    # A group that is tied has no advantage: its share q is a constant that draws no gradient.
    assert_allclose(found / n, pi * (value - pi @ value), atol=1e-12)


SCORES = {
    "van_der_waerden": lambda k, n: mpmath.mpf(k) / (n + 1),
    "blom": lambda k, n: (k - mpmath.mpf(3) / 8) / (n + mpmath.mpf(1) / 4),
}


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("n", [2, 3, 8, 17, 400])
def test_normal_scores_have_the_digits_of_forty_digit_arithmetic(scores, n):
    found = one_group(np.arange(n), "normal", scores=scores)
    for k in range(1, n + 1) if n < 100 else [1, 2, 9, 50, 151, 200, 201, n]:
        with mpmath.workdps(40):
            exact = mpmath.sqrt(2) * mpmath.erfinv(2 * SCORES[scores](k, n) - 1)
        assert found[k - 1] == pytest.approx(float(exact), rel=1e-15, abs=0)


@given(levels, st.sampled_from(sorted(SCORES)))
def test_tied_members_share_the_mean_of_their_normal_scores(rewards, scores):
    n = len(rewards)
    alone = one_group(np.arange(n), "normal", scores=scores)
    found, order = one_group(rewards, "normal", scores=scores), np.sort(rewards)
    for reward, score in zip(rewards, found, strict=True):
        assert score == pytest.approx(alone[order == reward].mean(), abs=1e-15)
    assert_array_equal(one_group(np.negative(rewards), "normal", scores=scores), -found)


def test_a_score_taken_at_the_mid_rank_would_not_sum_to_zero():
    found = one_group([0, 0, 0, 1], "normal")
    at_mid_rank = float(mpmath.sqrt(2) * mpmath.erfinv(2 * 2 / mpmath.mpf(5) - 1))
    assert abs(found.sum()) < 1e-15
    assert abs(3 * at_mid_rank + found[3]) > 0.08


@pytest.mark.parametrize("right", range(1, 8))
def test_a_quantile_baseline_rewards_in_hard_groups_and_punishes_in_easy_ones(right):
    found = one_group([1.0] * right + [0.0] * (8 - right), "quantile")
    assert (found[0] > 0) == (right < 6)
    assert (found[-1] < 0) == (right > 4)


@given(binary, st.integers(1, 9))
def test_pass_at_k_advantages_are_mean_z_scores_of_subgroups(rewards, k):
    n = len(rewards)
    found = one_group(rewards, "pass_at_k", k=k)
    expected = np.zeros(n)
    if k <= n:
        draws = list(combinations(range(n), k))
        best = np.array([max(rewards[i] for i in draw) for draw in draws])
        if best.std() > 0:
            z = (best - best.mean()) / best.std()
            expected = np.array([z[[i in draw for draw in draws]].mean() for i in range(n)])
    assert_allclose(found, expected, atol=1e-12)
    assert abs(found.sum()) < 1e-12


@given(levels, st.integers(1, 6))
def test_pkpo_is_the_mean_best_of_the_draws_that_hold_a_member(rewards, k):
    n = len(rewards)
    found = one_group(rewards, "pkpo", k=k)
    if len(set(rewards)) > 1 and k <= n:
        order = np.argsort(rewards, kind="stable")
        exact = [Fraction(0)] * n
        for draw in combinations(range(n), k):
            for i in draw:
                exact[order[i]] += Fraction(rewards[order[max(draw)]])
        count = len(list(combinations(range(n), k)))
        assert_allclose(found, [float(e / count) for e in exact], rtol=1e-13)
    else:
        assert_array_equal(found, 0)


@pytest.mark.parametrize("rewards", [(0.0, 1.0, 2.5), (1.0, 0.0, 1.0)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_pkpo_is_an_unbiased_gradient_of_the_mean_best_of_k(rewards, k):
    pi, n = np.array([0.2, 0.5, 0.3]), 4

    def best(draw):
        return np.full(k, max(rewards[y] for y in draw))

    def with_baseline(draw):
        drawn = [rewards[y] for y in draw]
        return one_group(drawn, "pkpo", k=k, baseline="leave_one_out")

    def formula(draw):
        drawn = np.array([rewards[y] for y in draw])
        # The formula gives tied members k / n of their reward; the package gives them 0.
        if drawn.min() == drawn.max():
            return drawn * k / n
        return one_group(drawn, "pkpo", k=k)

    expected = mean_gradient(pi, k, best)
    assert_allclose(mean_gradient(pi, n, formula), expected, atol=1e-12)
    assert_allclose(mean_gradient(pi, n, with_baseline), expected, atol=1e-12)


@given(levels, st.integers(1, 6))
def test_the_pkpo_baseline_is_the_mean_best_of_the_others(rewards, k):
    n = len(rewards)
    found = one_group(rewards, "pkpo", k=k, baseline="leave_one_out")
    if len(set(rewards)) == 1 or n <= k:
        assert_array_equal(found, 0)
        return
    others = [np.delete(rewards, i) for i in range(n)]
    best = [gs.best_of_n(rest, np.zeros(n - 1, dtype=int), k)[0] for rest in others]
    expected = one_group(rewards, "pkpo", k=k) - np.multiply(best, k / n)
    assert_allclose(found, expected, atol=1e-13)


@given(binary, st.integers(1, 9))
def test_binary_pkpo_is_k_over_n_times_the_chance_that_the_draw_passes(rewards, k):
    n, right = len(rewards), int(sum(rewards))
    if not (0 < right < n and k <= n):
        return
    others = [(r > 0) for r in rewards]
    others.remove(False)
    passes = [any(draw) for draw in combinations(others, k - 1)]
    expected = np.where(np.array(rewards) > 0, k / n, k / n * np.mean(passes))
    assert_allclose(one_group(rewards, "pkpo", k=k), expected, atol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_maxrl_is_unbiased_for_the_log_likelihood_series_cut_after_n_minus_one(n):
    pi, rewards = np.array([0.2, 0.5, 0.3]), np.array([1.0, 0.0, 0.0])
    found = mean_gradient(pi, n, lambda draw: one_group(rewards[list(draw)], "maxrl")) / n
    p = pi @ rewards
    # log p = -sum over j of (1 - p)^j / j, to j = n - 1, has this derivative in p.
    slope = sum((1 - p) ** j for j in range(n - 1))
    assert_allclose(found, slope * pi * (rewards - p), atol=1e-13)


@given(levels)
def test_only_a_lone_winner_gets_the_gap_to_the_second(rewards):
    found = one_group(rewards, "best_minus_second")
    second, best = sorted(rewards)[-2:]
    assert_array_equal(found, [best - second if r == best else 0.0 for r in rewards])


def test_golden_gdpo_is_matched():
    case = golden.read("advantages")["gdpo"]
    rewards = np.array(case["rewards"])
    ids = np.arange(len(rewards)) // case["group_size"]
    found = gs.advantage(rewards, ids, "gdpo", weights=case["weights"], eps=case["eps"])
    assert len(case["advantages"]) == 2  # of the equations, and of another project
    for expected in case["advantages"].values():
        assert_allclose(found, expected, rtol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), min_size=2, max_size=20))
def test_opo_subtracts_the_mean_weighted_by_length(rows):
    rewards, lengths = zip(*[(float(r), length + 1) for r, length in rows], strict=True)
    found = one_group(rewards, "opo", lengths=lengths)
    dot = sum(Fraction(r) * length for r, length in zip(rewards, lengths, strict=True))
    expected = [float(Fraction(r) - dot / sum(lengths)) for r in rewards]
    assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_reference_page_has_every_estimator_with_its_options_and_plot(estimator):
    page = (DOCS / "reference/estimators.md").read_text()
    section = page.split(f"## `{estimator}`\n")[1].split("\n## ")[0]
    for word in ("Formula", "Range", "Binary rewards", "Ties", "Outliers", "Use it", "Source"):
        assert f"**{word}" in section
    missing = [name for name in ESTIMATORS[estimator].options if name not in section]
    assert missing == ([] if estimator != "percentile" else ["pool"])
    assert 0 < (DOCS / "images/estimators" / f"{estimator}.svg").stat().st_size < 30_000


# Names of algorithms, and what other tools call an estimator.
OTHER_NAMES = {"estimators.py", "presets.py", "synonyms.py"}
# Where Borda's name is that of what makes scores of comparisons.
OTHER_NAMES |= {"pairwise.py", "grade_engines.py"}
# That are also words for a statistic, a function or a loss of ours.
OTHER_THINGS = {"mean", "quantile", "normal", "percentile", "pass_at_k", "top_fraction"}


def test_what_an_estimator_needs_is_written_in_its_record_alone():
    """Elsewhere a file compares with one estimator at most, of whose values it has a use."""
    for path in Path(gs.__file__).parent.rglob("*.py"):
        if path.name not in OTHER_NAMES:
            words = {n.value for n in ast.walk(ast.parse(path.read_text())) if hasattr(n, "value")}
            assert words & set(ESTIMATORS) - OTHER_THINGS <= {"zscore"}, path


def test_one_more_estimator_is_a_record_and_a_kernel(monkeypatch, tmp_path):
    def by_best(rewards, groups, factor):
        """Of the best of all groups, so that a file alone would give other advantages."""
        return factor * gs.advantage(rewards, groups, "mean") / np.nanmax(rewards)

    monkeypatch.setitem(ESTIMATORS, "by_best", Estimator({"factor": 4.0}, "batch"))
    monkeypatch.setattr(batch_estimators, "by_best", by_best, raising=False)
    frame = pl.DataFrame({"id": list("aabb"), "reward": [1.0, 0.0, 2.0, 2.0]})
    expected = [1.0, -1.0, 0.0, 0.0]
    assert gs.advantage(frame["reward"], frame["id"], "by_best").to_list() == expected
    score = pl.col("reward").gspo.score("id", "by_best").struct.field("advantage")
    assert frame.select(score).to_series().to_list() == expected
    for name in "ab":
        frame.filter(pl.col("id") == name).write_parquet(tmp_path / f"{name}.parquet")
    gs.score(tmp_path / "*.parquet", tmp_path / "out", by="id", estimator="by_best")
    assert gs.scan(tmp_path / "out").collect()["advantage"].to_list() == expected
    assert estimator_name(lambda r, g: gs.advantage(r, g, "by_best")) == "by_best"
    config = Config(model="m", rollouts="r", advantage="by_best", advantage_options={"factor": 1.0})
    assert resolve(config).advantage == "by_best"
