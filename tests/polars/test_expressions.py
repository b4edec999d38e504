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


@pytest.fixture(scope="module")
def sampled():
    """Ragged groups of two rewards a row, one of them with gaps, and a length."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 300) / 4, rng.normal(size=300)
    first[::17] = np.nan
    columns = {"id": rng.integers(0, 30, 300), "reward": first, "second": second}
    frame = pl.DataFrame({**columns, "length": rng.integers(1, 99, 300)})
    return frame.with_columns(both=pl.concat_arr(REWARD, "second"))


ESTIMATORS = {
    "percentile": {"ties": "max"},
    "top_fraction": {"q": 0.3},
    "normal": {"scores": "blom"},
    "soft_winrate": {"tau": 0.5},
    "gopo": {},
    "mean": {},
    "rloo": {},
    "zscore": {"ddof": 0},
    "batch_std": {},
    "reinforce_pp": {},
    "quantile": {"k": 0.3},
    "maxrl": {},
    "best_minus_second": {},
    "pass_at_k": {"k": 2},
    "pkpo": {"k": 2},
}


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_every_estimator_gives_the_bits_of_the_array_function(sampled, engine):
    rewards, groups = sampled["reward"].to_numpy(), gs.Groups(sampled["id"])
    expected = {
        name: gs.advantage(rewards, groups, name, **options) for name, options in ESTIMATORS.items()
    }
    expected["opo"] = gs.advantage(rewards, groups, "opo", lengths=sampled["length"].to_numpy())
    both = sampled.select("reward", "second").to_numpy()
    expected["gdpo"] = gs.advantage(both, groups, "gdpo", weights=[1.0, 2.0])
    expressions = [
        REWARD.gspo.advantage(name, by="id", **options).alias(name)
        for name, options in ESTIMATORS.items()
    ]
    expressions += [
        REWARD.gspo.advantage("opo", by="id", lengths=pl.col("length")).alias("opo"),
        pl.col("both").gspo.advantage("gdpo", by="id", weights=[1.0, 2.0]).alias("gdpo"),
    ]
    found = sampled.lazy().select(expressions).collect(engine=engine)
    for name, values in expected.items():
        assert found[name].to_numpy().tobytes() == values.tobytes(), name


def test_an_option_of_lists_belongs_to_lists_of_rewards(sampled):
    long = sampled.sort("id", maintain_order=True)
    expected = long.select(REWARD.gspo.advantage("opo", by="id", lengths=pl.col("length")))
    lists = long.group_by("id", maintain_order=True).agg("reward", "length")
    found = lists.select(REWARD.gspo.advantage("opo", lengths=pl.col("length")))
    assert found.explode("reward").equals(expected)
    for wrong in (pl.col("id"), pl.col("length").list.head(1)):
        with pytest.raises(ValueError, match="one list per row, as long as its group"):
            lists.select(REWARD.gspo.advantage("opo", lengths=wrong))


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
