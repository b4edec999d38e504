"""The numbers of the report, against Polars, enumeration and plain Python on the texts."""

import math
import statistics
from collections import defaultdict
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_equal

from gspo_rs.data.source import locate
from gspo_rs.groups.statistics import stats
from gspo_rs.report import comparisons, duplicates, examples, facts, lengths, load

pytestmark = pytest.mark.slow

NONE = {"prompt": None, "completion": None, "model": None}


def narrow_of(frame, *, by="id"):
    source = locate(frame)
    chosen = load.choose(source, by=by, reward="reward", given=NONE)
    return load.read(source, chosen)


def stats_of(found):
    return stats(found.reward, found.groups)


def facts_of(frame, threshold=None, **options):
    found = narrow_of(frame, **options)
    return facts.find_facts(found, stats_of(found), threshold)


def by_group(frame, column="reward"):
    """The scored values of each group, by plain Python."""
    groups = defaultdict(list)
    for row in frame.iter_rows(named=True):
        if row["reward"] is not None and not math.isnan(row["reward"]):
            groups[row["id"]].append(row[column])
    return groups


@st.composite
def frames(draw, *, rewards=(0.0, -0.0, 0.25, 1.0, 3.0, float("nan"), None)):
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from("abcd"),
                st.sampled_from(rewards),
                st.sampled_from(["", "x", "yy", "zzz", "é", None]),
                st.sampled_from(["m", "n", "o"]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    # At least one reward, without which there is no report.
    columns = [*zip(*rows, ("a", 1.0, "x", "m"), strict=True)]
    schema = {"id": pl.String, "reward": pl.Float64, "completion": pl.String, "model": pl.String}
    return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)


@given(frames())
def test_groups_are_sorted_by_what_their_rewards_teach_as_counted_by_hand(frame):
    found = facts_of(frame)
    scored = list(by_group(frame).values())
    assert found.n_rollouts == frame.height
    assert found.n_groups == frame["id"].n_unique()
    assert found.n_unscorable == frame.height - sum(map(len, scored))
    assert found.n_informative == sum(len(set(group)) > 1 for group in scored)
    assert found.n_equal == sum(len(group) > 1 and len(set(group)) == 1 for group in scored)
    assert found.n_lone == sum(len(group) == 1 for group in scored)
    assert found.n_unscored == found.n_groups - len(scored)
    sizes = dict(frame["id"].value_counts().iter_rows())
    groups = by_group(frame)
    assert found.n_alone == sum(len(group) == sizes[id_] == 1 for id_, group in groups.items())
    assert found.n_half_scored == found.n_lone - found.n_alone
    every = [reward for group in scored for reward in group]
    equal = [group for group in scored if len(group) > 1 and len(set(group)) == 1]
    assert found.n_equal_top == sum(group[0] == max(every) for group in equal)
    assert found.n_equal_bottom == sum(group[0] == min(every) for group in equal)
    assert found.n_values == len(set(every))
    beside = sum(sizes[id_] - len(group) for id_, group in groups.items())
    assert found.n_unscorable_beside == beside
    taught = [len(group) for group in scored if len(set(group)) > 1]
    assert_equal(found.median_taught, statistics.median(taught) if taught else math.nan)
    assert found.median_distinct == statistics.median(len(set(group)) for group in scored)


@given(frames(rewards=(0.0, 1.0, None)))
def test_rewards_of_0_and_1_need_no_threshold_to_tell_all_right_from_all_wrong(frame):
    found = facts_of(frame)
    groups = [group for group in by_group(frame).values() if len(group) > 1]
    assert found.threshold == 0.5
    assert found.n_equal_right == sum(min(group) == 1 for group in groups)
    assert found.n_equal - found.n_equal_right == sum(max(group) == 0 for group in groups)


@given(frames())
def test_the_variance_within_and_between_groups_adds_up_to_that_of_all_rewards(frame):
    found = facts_of(frame)
    groups = by_group(frame).values()
    rewards = [reward for group in groups for reward in group]
    within = [reward - statistics.fmean(group) for group in groups for reward in group]
    assert_allclose(found.spread.within, np.mean(np.square(within)), atol=1e-12)
    assert_allclose(found.spread.within + found.spread.between, np.var(rewards), atol=1e-12)
    assert_allclose(found.mean, statistics.fmean(rewards))
    assert_allclose(found.quantiles, np.percentile(rewards, [0, 25, 50, 75, 100]))


@given(frames())
def test_tied_pairs_are_those_that_a_walk_over_all_pairs_finds(frame):
    found = facts_of(frame)
    pairs = [pair for group in by_group(frame).values() for pair in combinations(group, 2)]
    assert found.n_pairs == len(pairs)
    assert found.tied_pairs == sum(a == b for a, b in pairs)


def test_a_threshold_that_is_not_finite_or_no_reward_at_all_is_refused():
    frame = pl.DataFrame({"id": ["a"], "reward": [None]}, schema_overrides={"reward": pl.Float64})
    with pytest.raises(ValueError, match="no row has a reward"):
        facts_of(frame)
    with pytest.raises(ValueError, match="threshold is nan"):
        facts_of(pl.DataFrame({"id": ["a"], "reward": [0.25]}), threshold=math.nan)


@given(frames())
def test_the_effect_of_length_is_polars_correlation_of_ranks_inside_groups(frame):
    found = narrow_of(frame)
    effect = lengths.length_effect(found, stats_of(found))
    kept = frame.filter(pl.col("reward").is_not_null() & pl.col("reward").is_not_nan())
    # A null completion has no length; the others of its group are compared among themselves.
    kept = kept.filter(pl.len().over("id") > 1).drop_nulls("completion")
    share = (pl.col("r").rank() - 1).over("id") / (pl.len().over("id") - 1)
    ranked = [
        kept.with_columns(r=column).select(pl.when(pl.len().over("id") > 1).then(share))
        for column in (pl.col("reward") + 0.0, pl.col("completion").str.len_chars())
    ]
    x, y = (column.to_series().fill_null(0.5).to_numpy() - 0.5 for column in ranked)
    scale = math.sqrt((x @ x) * (y @ y))
    expected = x @ y / scale if scale else math.nan
    assert_allclose(effect.correlation, expected, atol=1e-12)
    assert effect.count.sum() == len(x)
    assert effect.n_groups == kept["id"].n_unique()
    assert_allclose(effect.reward @ effect.count, (x + 0.5).sum())
    assert_allclose(effect.length @ effect.count, (y + 0.5).sum())


@given(frames())
def test_the_error_of_the_correlation_is_its_slope_in_the_weight_of_each_group(frame):
    found = narrow_of(frame)
    effect = lengths.length_effect(found, stats_of(found))
    text = frame["completion"].to_list()
    products = []
    for group in by_group(frame.with_row_index("row"), "row").values():
        # `by_group` has the scored rows.
        known = [row for row in group if text[row] is not None]
        if len(group) < 2 or not known:
            continue
        pairs = [
            (
                percentile_of(len(text[row]), [len(text[one]) for one in known]) - 0.5,
                percentile_of(frame["reward"][row], [frame["reward"][one] for one in known]) - 0.5,
            )
            for row in known
        ]
        products.append(
            [
                sum(map(math.prod, zip(a, b, strict=True)))
                for a, b in (
                    (list(zip(*pairs, strict=True))[i], list(zip(*pairs, strict=True))[j])
                    for i, j in ((0, 1), (0, 0), (1, 1))
                )
            ]
        )
    table = np.array(products, dtype=complex).reshape(-1, 3)
    if math.isnan(effect.correlation) or len(table) < 2:
        assert math.isnan(effect.error)
        return
    slopes = []
    for group in range(len(table)):
        weight = np.ones(len(table), dtype=complex)
        weight[group] += 1e-20j  # the derivative without a difference
        xy, xx, yy = weight @ table
        slopes.append((xy / np.sqrt(xx * yy)).imag / 1e-20)
    n = len(slopes)
    assert_allclose(effect.error, math.sqrt(sum(s * s for s in slopes) * n / (n - 1)), atol=1e-9)


def percentile_of(value, values):
    if len(values) == 1:
        return 0.5
    below = sum(other < value for other in values) + (values.count(value) - 1) / 2
    return below / (len(values) - 1)


@given(frames())
def test_models_stand_where_the_mean_over_prompts_of_pairwise_wins_puts_them(frame):
    found = narrow_of(frame)
    rows = by_group(frame.with_row_index("row"), "row")
    reward, model = frame["reward"].to_list(), frame["model"].to_list()
    means = defaultdict(list)
    for group in rows.values():
        cells = defaultdict(list)
        for one in group:
            others = [reward[other] for other in group if other != one]
            wins = [(reward[one] > other) + (reward[one] == other) / 2 for other in others]
            if wins:
                cells[model[one]].append(statistics.fmean(wins))
        if len(cells) > 1:
            for name, wins in cells.items():
                means[name].append(statistics.fmean(wins))
    standings = comparisons.standings(found, stats_of(found))
    assert {one.model: one.n_groups for one in standings} == {k: len(v) for k, v in means.items()}
    order = [one.percentile for one in standings]
    assert order == sorted(order, reverse=True)
    for one in standings:
        assert_allclose(one.percentile, statistics.fmean(means[one.model]))
        if one.n_groups > 1:
            error = statistics.stdev(means[one.model]) / math.sqrt(one.n_groups)
            assert_allclose(one.error, error, atol=1e-12)
        else:
            assert math.isnan(one.error)


@pytest.mark.parametrize("threshold", [None, 0.25])
@given(frame=frames())
def test_curves_are_the_mean_over_all_ways_to_draw_k_of_each_group(threshold, frame):
    worth = (lambda r: r) if threshold is None else (lambda r: float(r >= threshold))
    for curve in comparisons.curves(narrow_of(frame), threshold):
        own = frame
        if curve.name != comparisons.EVERYTHING:
            own = frame.filter(pl.col("model") == curve.name)
        groups = by_group(own).values()
        most = curve.draws[-1]
        large = [[worth(reward) for reward in group] for group in groups if len(group) >= most]
        assert curve.n_groups == len(large)
        assert 2 * len(large) >= len(groups)
        for k, mean, error in zip(curve.draws, curve.mean, curve.error, strict=True):
            best = [statistics.fmean(map(max, combinations(group, k))) for group in large]
            assert_allclose(mean, statistics.fmean(best), atol=1e-12)
            if len(best) > 1:
                expected = statistics.stdev(best) / math.sqrt(len(best))
                assert_allclose(error, expected, atol=1e-9)


@given(frames())
def test_copies_are_those_that_a_dictionary_of_the_texts_counts(frame):
    found = duplicates.copies(narrow_of(frame))
    rows = [row for row in frame.iter_rows(named=True) if row["completion"] is not None]
    sets = defaultdict(list)
    for row in rows:
        sets[row["id"], row["completion"]].append(row["reward"])
    several = {key: rewards for key, rewards in sets.items() if len(rewards) > 1}
    scored = [[r for r in rewards if r is not None and r == r] for rewards in several.values()]
    assert found.n_completions == len(rows)
    assert found.n_copies == len(rows) - len(sets)
    assert found.n_groups == len({group for group, _ in several})
    assert found.n_sets == len(several)
    assert found.n_contradicted == sum(len(set(rewards)) > 1 for rewards in scored)
    assert (found.contradiction is not None) == (found.n_contradicted > 0)
    if found.contradiction is not None:
        (one, first), (other, second) = found.contradiction
        columns = ["id", "completion"]
        assert frame.select(columns).row(one) == frame.select(columns).row(other)
        assert (frame["reward"][one], frame["reward"][other]) == (first, second)
        assert first != second


@given(frames())
def test_a_text_that_wins_in_many_groups_is_found_by_its_text(frame):
    n, shown = duplicates.repeated(narrow_of(frame))
    groups, wins = defaultdict(set), defaultdict(list)
    rows = by_group(frame.with_row_index("row"), "row")
    reward = frame["reward"].to_list()
    for group, text in frame.select("id", "completion").iter_rows():
        groups[text].add(group)
    for group in rows.values():
        for one in group:
            others = [reward[other] for other in group if other != one]
            mine = [(reward[one] > other) + (reward[one] == other) / 2 for other in others]
            wins[frame["completion"][one]].append(statistics.fmean(mine) if mine else 0.5)
    expected = {
        text: len(groups[text])
        for text, shares in wins.items()
        if text is not None and len(groups[text]) >= 3 and statistics.fmean(shares) > 0.5 + 1e-12
    }
    assert n == len(expected)
    assert {frame["completion"][one.row]: one.n_groups for one in shown} == expected
    for one in shown:
        text = frame["completion"][one.row]
        assert frame["completion"].to_list().index(text) == one.row
        assert one.n_rollouts == (frame["completion"] == text).sum()
        assert_allclose(one.percentile, statistics.fmean(wins[text]))


@given(frames())
def test_the_groups_shown_are_the_first_of_all_sorted_by_hand(frame):
    found = narrow_of(frame)
    chosen = examples.choose_groups(found, stats_of(found))
    groups = [(id_, group) for id_, group in by_group(frame).items() if len(group) > 1]
    first = frame["id"].unique(maintain_order=True).to_list()
    mean = {id_: statistics.fmean(group) for id_, group in groups}
    for kind, sign in (("best", -1), ("worst", 1)):
        values = sorted(sign * mean[id_] for id_, _ in groups)[:3]
        assert_allclose([sign * one.mean for one in chosen[kind]], values)
    wide = sorted((-statistics.pstdev(group) for _, group in groups if len(set(group)) > 1))[:3]
    shown = [-statistics.pstdev(dict(groups)[first[one.group]]) for one in chosen["divided"]]
    assert_allclose(shown, wide)
    for one in (one for kind in chosen.values() for one in kind):
        rewards = dict(groups)[first[one.group]]
        assert frame["id"][one.high] == frame["id"][one.low] == first[one.group]
        assert frame["reward"][one.high] == max(rewards)
        assert frame["reward"][one.low] == min(rewards)


def test_columns_are_found_by_name_only_where_there_is_no_doubt():
    def choose(*columns, **given):
        frame = pl.DataFrame({"id": [1], "reward": [0.5], **dict.fromkeys(columns, "t")})
        return load.choose(locate(frame), by="id", reward="reward", given={**NONE, **given})

    assert choose("response", "prompt").completion == "response"
    both = choose("response", "completion")
    assert both.completion is None
    assert both.missing["completion"].startswith("completion and response could both be meant")
    assert choose("response", "completion", completion="response").completion == "response"
    assert choose("model").model == "model"
    missing = "no column is called source or model; name one with --model-column"
    assert choose().missing["model"] == missing
    with pytest.raises(ValueError, match="no column 'answer'"):
        choose(completion="answer")
    with pytest.raises(TypeError, match=r"'reward' .* it must be text"):
        choose(completion="reward")
