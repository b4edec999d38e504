"""Noise of graders, cheap wins and tables by value, against plain Python and Polars."""

import math
import statistics
from collections import defaultdict

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gspo_rs.data.source import locate
from gspo_rs.groups.statistics import stats
from gspo_rs.report import breakdown, grader, load

NONE = {"prompt": None, "completion": None, "model": None}
WORDS = ["", "  ", "x", "yy", "z" * 60, "z" * 61, "z" * 700, None]


@st.composite
def frames(draw):
    row = st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([0.0, 0.1, 0.5, 1.0, float("nan"), None]),
        st.sampled_from(WORDS),
        st.sampled_from(["s", "t", None]),
    )
    rows = [*draw(st.lists(row, min_size=1, max_size=60)), ("a", 1.0, "x", "s")]
    columns = dict(
        zip(["id", "reward", "completion", "task"], zip(*rows, strict=True), strict=True)
    )
    strings = dict.fromkeys(["id", "completion", "task"], pl.String)
    return pl.DataFrame(columns, schema={**strings, "reward": pl.Float64})


def read(frame, per=()):
    source = locate(frame)
    names = load.choose(source, by="id", reward="reward", given=NONE, per=per)
    found = load.read(source, names)
    return found, stats(found.reward, found.groups)


def scored(frame):
    known = pl.col("reward").is_not_null() & pl.col("reward").is_not_nan()
    return list(frame.with_row_index("row").filter(known).iter_rows(named=True))


def pooled(cells):
    squares = sum((r - statistics.fmean(cell)) ** 2 for cell in cells for r in cell)
    freedom = sum(len(cell) - 1 for cell in cells)
    return math.sqrt(squares / freedom) if freedom else math.nan, freedom


@given(frames())
def test_noise_is_the_pooled_deviation_of_equal_completions_in_a_group(frame):
    found, _ = read(frame)
    cells, whole = defaultdict(list), defaultdict(list)
    for row in scored(frame):
        if row["completion"] is not None:
            cells[row["id"], row["completion"]].append(row["reward"])
            whole[row["id"]].append(row["reward"])
    noise = grader.noise(found)
    expected, freedom = pooled(list(cells.values()))
    assert noise.n_repeats == freedom
    assert_allclose(noise.within, pooled(list(whole.values()))[0], atol=1e-12)
    if freedom < 30:
        assert math.isnan(noise.deviation)
    else:
        assert_allclose(noise.deviation, expected, atol=1e-12)


def test_noise_added_to_rewards_is_found_again():
    rng = np.random.default_rng(0)
    worth = rng.normal(size=2000)
    frame = pl.DataFrame(
        {
            "id": np.repeat(np.arange(500), 8),
            "completion": [str(i) for i in np.repeat(np.arange(2000), 2)],
            "reward": np.repeat(worth, 2) + rng.normal(scale=0.3, size=4000),
        }
    )
    noise = grader.noise(read(frame)[0])
    assert abs(noise.deviation - 0.3) < 0.02
    assert noise.n_repeats == 2000


@given(frames())
def test_cheap_wins_are_those_that_a_walk_over_the_groups_finds(frame):
    found, described = read(frame)
    members = defaultdict(list)
    for row in scored(frame):
        members[row["id"]].append(row)
    short, empty = [], []
    for group in members.values():
        rewards = [row["reward"] for row in group]
        said = [row for row in group if row["completion"] is not None]
        if max(rewards) == min(rewards) or not said:
            continue
        middle = statistics.median(len(row["completion"]) for row in said)
        for row in said:
            tiny = middle >= 50 and len(row["completion"]) < middle / 10
            short += [row["row"]] * (tiny and row["reward"] == max(rewards))
            empty += [row["row"]] * (not row["completion"].strip() and row["reward"] > min(rewards))
    wins = grader.cheap_wins(found, described)
    assert (wins.n_short, wins.n_empty) == (len(short), len(empty))
    assert wins.rows == sorted({*short, *empty})[:5]


@given(frames())
def test_a_table_by_task_is_what_polars_groups_by_it(frame):
    found, described = read(frame, per=["task"])
    parts = breakdown.breakdown(found.per["task"], found, described, 0.5)
    reward = pl.col("reward").fill_nan(None)
    two = (reward.max() > reward.min()).over("id")
    expected = (
        frame.with_columns(pl.col("task").fill_null("null"), two=two, reward=reward)
        .group_by("task")
        .agg(
            pl.len(),
            pl.col("reward").count().alias("scored"),
            pl.col("id").n_unique(),
            pl.col("id").filter(pl.col("two")).n_unique().alias("two"),
            pl.col("reward").mean(),
            right=(pl.col("reward") >= 0.5).mean(),
            length=pl.col("completion").str.len_chars().mean(),
        )
        .sort(["len", "task"], descending=[True, False])
    )
    assert len(parts) == expected.height
    for part, (name, *numbers) in zip(parts, expected.iter_rows(), strict=True):
        assert part.name == name
        counts = [part.n_rollouts, part.n_scored, part.n_groups, part.n_informative]
        assert counts == numbers[:4]
        for value, known in zip((part.mean, part.right, part.length), numbers[4:], strict=True):
            assert (value is None) == (known is None)
            if value is not None:
                assert_allclose(value, known, atol=1e-12)
