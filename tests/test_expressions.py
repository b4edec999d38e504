"""What the expressions of the `gspo` namespace refuse, and options that are columns."""

import numpy as np
import polars as pl
import pytest

import gspo_rs as gs
import gspo_rs.polars

REWARD = pl.col("reward")
FRAME = pl.DataFrame({"id": [1, 1, 2], "reward": [1.0, 2.0, 3.0], "lists": [[1.0], [2.0], []]})
INFINITE = pl.when(pl.col("id") == 2).then(float("inf")).otherwise(REWARD)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize(
    ("expr", "error", "message"),
    [
        (pl.col("lists").gspo.rank(by="id"), TypeError, "'lists' are List.* leave out `by`"),
        (REWARD.gspo.rank(), TypeError, "'reward' are Float64, one in each row; name their groups"),
        (REWARD.cast(pl.String).gspo.rank(by="id"), TypeError, "'reward' are String; use integers"),
        (REWARD.cast(pl.Decimal(9, 2)).gspo.rank(by="id"), TypeError, "'reward' are Decimal"),
        ((REWARD.cast(pl.Int64) + 2**53).gspo.rank(by="id"), TypeError, "row 0 would be rounded"),
        (REWARD.gspo.rank(by=pl.col("id") / 2), TypeError, "type Float64 cannot be compared"),
        (REWARD.gspo.rank(by="prompt"), pl.exceptions.ColumnNotFoundError, 'find column "prompt"'),
        (REWARD.gspo.rank(by=pl.col("id").head(2)), ValueError, "3 rewards for 2 rollouts"),
        (REWARD.gspo.rank(by="id", null_ids="keep"), ValueError, "null_ids is 'keep'"),
        (INFINITE.gspo.rank(by="id"), ValueError, "reward at row 2 is inf"),
        (pl.concat_list(REWARD, INFINITE).gspo.rank(), ValueError, "'reward' at row 2 is infinite"),
        (REWARD.gspo.top_fraction(0, by="id"), ValueError, "0"),
        (REWARD.gspo.advantage("zscor", by="id"), ValueError, "did you mean 'zscore'"),
        (REWARD.gspo.score("id", "zscore", q=1), TypeError, "zscore has no option 'q'.*ddof"),
    ],
    ids=str,
)
def test_what_cannot_be_computed_is_refused_by_name(expr, error, message, engine):
    with pytest.raises(error, match=message):
        FRAME.lazy().select(expr).collect(engine=engine)


@pytest.mark.parametrize("form", [FRAME, FRAME.lazy()], ids=["eager", "lazy"])
def test_stats_that_cannot_be_given_are_refused_by_name(form):
    with pytest.raises(ValueError, match="key 'size' has the name of a statistic"):
        form.gspo.stats(by=pl.col("id").alias("size"))
    with pytest.raises(ValueError, match="`by` names no column"):
        form.gspo.stats(by=[])
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match='find column "score"'):
        form.gspo.stats(by="id", reward="score")


def test_what_is_wrong_in_itself_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="method is 'mean'; use one of average"):
        REWARD.gspo.rank(by="id", method="mean")
    with pytest.raises(ValueError, match="`by` names no column"):
        REWARD.gspo.rank(by=[])


def test_over_the_groups_gives_the_same_and_within_aggregation_a_list():
    rank = REWARD.gspo.rank(by="id")
    expected = FRAME.select(rank).to_series()
    assert FRAME.select(rank.over("id")).to_series().equals(expected)
    grouped = FRAME.group_by("id", maintain_order=True).agg(rank)
    assert grouped["reward"].to_list() == [[1.0, 2.0], [1.0]]


def test_a_filter_before_ranking_leaves_ranks_among_the_rest():
    found = FRAME.lazy().filter(REWARD > 1).select("id", REWARD.gspo.rank(by="id")).collect()
    assert found.rows() == [(1, 1.0), (2, 1.0)]


def test_nothing_at_all_has_columns_of_the_right_type():
    empty = FRAME.clear()
    found = empty.select(REWARD.gspo.score(by="id").alias("score"))
    assert found.height == 0
    assert found.schema == FRAME.select(REWARD.gspo.score(by="id").alias("score")).schema
    assert empty.gspo.stats(by="id").schema == FRAME.gspo.stats(by="id").schema
    np.testing.assert_array_equal(
        gs.rank([], []), empty.select(REWARD.gspo.rank(by="id")).to_series()
    )
