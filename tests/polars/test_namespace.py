"""The `gspo` namespace against the array functions, bit for bit, and against Polars."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

import gspo_rs as gs
import gspo_rs.polars

REWARD = pl.col("reward")
rewards = st.one_of(st.none(), st.just(float("nan")), st.integers(-2, 2).map(lambda k: k / 2))
tables = st.lists(st.tuples(st.integers(0, 4), rewards), min_size=1, max_size=40)


def frame_of(table):
    schema = {"id": pl.Int64, "reward": pl.Float64}
    return pl.DataFrame(table, schema=schema, orient="row")


def arrays(frame, by="id"):
    ids = frame[by] if isinstance(by, str) else frame.select(by)
    return frame["reward"].fill_null(np.nan).to_numpy(), gs.Groups(ids)


def expressions(by="id"):
    """Every per-row expression beside its array function."""
    return {
        "rank": (REWARD.gspo.rank(by=by), gs.rank),
        "dense": (REWARD.gspo.rank(by, "dense"), lambda r, g: gs.rank(r, g, "dense")),
        "percentile": (REWARD.gspo.percentile(by=by), gs.percentile),
        "top": (REWARD.gspo.top_fraction(0.3, by=by), lambda r, g: gs.top_fraction(r, g, 0.3)),
        "advantage": (REWARD.gspo.advantage(by=by), gs.advantage),
        "zscore": (
            REWARD.gspo.advantage("zscore", by=by, ddof=0),
            lambda r, g: gs.advantage(r, g, "zscore", ddof=0),
        ),
    }


def selection(by="id"):
    return [expr.alias(name) for name, (expr, _) in expressions(by).items()]


def bits(series):
    """The bits of a column whose nulls stand for NaN; a NaN must not be among them."""
    assert not series.is_nan().any()
    return series.fill_null(np.nan).to_numpy().tobytes()


@given(tables)
def test_expressions_give_the_bits_of_the_array_functions(table):
    frame = frame_of(table)
    found = frame.select(selection())
    for name, (_, function) in expressions().items():
        assert bits(found[name]) == function(*arrays(frame)).tobytes(), name


@given(tables)
def test_score_gives_the_bits_of_the_single_expressions_and_of_stats(table):
    frame = frame_of(table)
    score = frame.select(REWARD.gspo.score(by="id", estimator="mean").alias("score"))
    assert score.schema["score"] == pl.Struct(
        {
            **dict.fromkeys(["rank", "percentile", "advantage"], pl.Float64),
            "group_size": pl.Int64,
            "group_mean": pl.Float64,
            "group_std": pl.Float64,
        }
    )
    score = score.unnest("score")
    rows, groups = arrays(frame)
    stats = gs.stats(rows, groups)
    assert bits(score["rank"]) == gs.rank(rows, groups).tobytes()
    assert bits(score["percentile"]) == gs.percentile(rows, groups).tobytes()
    assert bits(score["advantage"]) == gs.advantage(rows, groups, "mean").tobytes()
    assert score["group_size"].to_list() == stats.size[groups.codes].tolist()
    assert bits(score["group_mean"]) == stats.mean[groups.codes].tobytes()
    assert bits(score["group_std"]) == stats.std[groups.codes].tobytes()


@given(tables)
def test_ranks_and_moments_are_those_of_polars_over_groups(table):
    frame = frame_of(table).with_columns(REWARD.fill_nan(None))
    found = frame.select(
        REWARD.gspo.rank(by="id").alias("rank"), REWARD.gspo.score(by="id").alias("score")
    ).unnest("score", separator="_")
    assert_series_equal(
        found["rank"], frame.select(REWARD.rank().over("id")).to_series(), check_names=False
    )
    for name, oracle in (("mean", REWARD.mean()), ("std", REWARD.std())):
        expected = frame.select(oracle.over("id")).to_series()
        assert_series_equal(
            found[f"score_group_{name}"], expected, check_names=False, abs_tol=1e-12
        )


@pytest.mark.slow
@given(tables, st.integers(1, 7))
def test_engines_and_chunks_change_no_bit(table, chunk):
    frame = frame_of(table)
    pieces = [frame[i : i + chunk] for i in range(0, len(frame), chunk)]
    chunked = pl.concat(pieces, rechunk=False)
    score = REWARD.gspo.score(by="id").alias("score")
    expected = frame.with_columns(*selection(), score)
    for form in (frame, chunked):
        assert_frame_equal(form.with_columns(*selection(), score), expected, check_exact=True)
        for engine in ("in-memory", "streaming"):
            lazy = form.lazy().with_columns(*selection(), score)
            assert lazy.collect_schema() == expected.schema
            assert_frame_equal(lazy.collect(engine=engine), expected, check_exact=True)


@pytest.fixture(scope="module")
def scattered():
    """Enough rows for the streaming engine to cut them into many morsels."""
    rng = np.random.default_rng(0)
    n = 400_000
    return pl.DataFrame({"id": rng.integers(0, n // 16, n), "reward": rng.integers(0, 9, n) / 8})


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_groups_that_span_morsels_stay_whole(scattered, engine):
    found = scattered.lazy().select(REWARD.gspo.percentile(by="id")).collect(engine=engine)
    assert bits(found.to_series()) == gs.percentile(*arrays(scattered)).tobytes()


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_filter_or_slice_after_ranking_does_not_reach_the_rows_before_it(scattered, engine):
    ranked = scattered.with_columns(rank=REWARD.gspo.rank(by="id"))
    lazy = scattered.lazy().with_columns(rank=REWARD.gspo.rank(by="id"))
    keep = (REWARD > 0.5) & (pl.col("id") < 99)
    assert_frame_equal(lazy.filter(keep).collect(engine=engine), ranked.filter(keep))
    assert_frame_equal(lazy.slice(7, 5).collect(engine=engine), ranked.slice(7, 5))
    assert_frame_equal(lazy.tail(5).collect(engine=engine), ranked.tail(5))
    stats = scattered.gspo.stats(by="id")
    lazy_stats = scattered.lazy().gspo.stats(by="id")
    few = pl.col("id") < 99
    assert_frame_equal(lazy_stats.filter(few).collect(engine=engine), stats.filter(few))
    assert_frame_equal(lazy_stats.slice(3, 4).collect(engine=engine), stats.slice(3, 4))
    assert_frame_equal(lazy_stats.select("mean").collect(engine=engine), stats.select("mean"))


KEYED = pl.DataFrame(
    {
        "source": ["x", "y", "x", "y", "x", "x"],
        "prompt": [1, 1, 1, 1, 2, 1],
        "reward": [3, 1, 2, None, 5, 2],
    },
    schema_overrides={"source": pl.Enum(["y", "x"])},
)
EXPECTED_RANKS = [3.0, 1.0, 1.5, None, 1.0, 1.5]


@pytest.mark.parametrize(
    "by",
    [
        ["source", "prompt"],
        ("prompt", pl.col("source").cast(pl.Categorical)),
        pl.col("source", "prompt"),
        pl.struct("source", "prompt"),
        pl.struct(pl.struct("source"), "prompt"),
        pl.format("{}/{}", "source", "prompt"),
        ["^source|prompt$"],
        [pl.lit("same"), "source", "prompt"],
    ],
    ids=["list", "cast", "columns", "struct", "nested", "text", "pattern", "literal"],
)
def test_several_keys_of_any_form_together_name_a_group(by):
    assert KEYED.select(REWARD.gspo.rank(by=by)).to_series().to_list() == EXPECTED_RANKS


@pytest.mark.parametrize(
    "dtype", [pl.Categorical, pl.Enum(["y", "x"]), pl.String, pl.Binary], ids=str
)
def test_key_types_cut_the_same_groups(dtype):
    frame = KEYED.with_columns(pl.col("source").cast(pl.String).cast(dtype))
    found = frame.select(REWARD.gspo.rank(by="source")).to_series().to_list()
    assert found == [3.0, 1.0, 1.5, None, 4.0, 1.5]


def test_one_expression_ranks_several_reward_columns_apart():
    frame = pl.DataFrame({"id": [1, 1], "helpful": [0.0, 1.0], "honest": [5.0, 1.0]})
    found = frame.select(pl.col("helpful", "honest").gspo.rank(by="id"))
    assert found.to_dict(as_series=False) == {"helpful": [1.0, 2.0], "honest": [2.0, 1.0]}


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Float32, pl.Int64, pl.Float64], ids=str)
def test_rewards_of_any_number_type_and_bools_are_ranked(dtype):
    frame = pl.DataFrame({"id": ["a"] * 4, "reward": [1, 0, None, 1]})
    for values in (REWARD.cast(dtype), REWARD.cast(pl.Boolean)):
        found = frame.select(values.gspo.rank(by="id")).to_series()
        assert found.to_list() == [2.5, 1.0, None, 2.5]
    nothing = frame.select(pl.lit(None).repeat_by(1).explode().gspo.rank(by=pl.lit("a")))
    assert nothing.to_series().to_list() == [None]


def test_rows_with_a_null_key_are_an_error_or_get_nulls():
    frame = pl.DataFrame({"id": ["a", None, "a"], "reward": [1.0, 9.0, 2.0]})
    for expr in (REWARD.gspo.rank(by="id"), REWARD.gspo.score(by=["id", pl.lit(1)])):
        with pytest.raises(ValueError, match=r'row 1 is null.*null_ids="drop"'):
            frame.select(expr)
    found = frame.select(REWARD.gspo.score(by="id", null_ids="drop").alias("s")).unnest("s")
    assert found["rank"].to_list() == [1.0, None, 2.0]
    assert found["advantage"].to_list() == [-1.0, None, 1.0]
    assert found["group_size"].to_list() == [2, None, 2]
    assert frame.gspo.stats(by="id", null_ids="drop")["size"].to_list() == [2]


@pytest.mark.slow
@given(tables)
def test_lists_of_rewards_give_what_the_long_rows_give(table):
    long = frame_of(table).sort("id", maintain_order=True)
    lists = long.group_by("id", maintain_order=True).agg("reward")
    each = pl.col("reward")
    found = lists.select(
        rank=each.gspo.rank(),
        dense=each.gspo.rank(method="dense"),
        percentile=each.gspo.percentile(),
        top=each.gspo.top_fraction(0.3),
        advantage=each.gspo.advantage(),
        zscore=each.gspo.advantage("zscore", ddof=0),
    )
    assert set(found.schema.values()) == {pl.List(pl.Float64)}
    assert_frame_equal(found.explode(pl.all()), long.select(selection()), check_exact=True)
    score = lists.select(each.gspo.score().alias("s")).unnest("s")
    stats = long.gspo.stats(by="id")
    assert_series_equal(score["group_size"], stats["size"], check_names=False)
    assert_series_equal(score["group_mean"], stats["mean"], check_names=False, check_exact=True)
    assert_series_equal(score["group_std"], stats["std"], check_names=False, check_exact=True)


def test_null_and_empty_lists_stay_null_and_empty():
    frame = pl.DataFrame({"reward": [None, [2, 1], [], [None, 7]]})
    for lazy in (frame.lazy(), pl.concat([frame[:1], frame[1:]], rechunk=False).lazy()):
        found = lazy.select(REWARD.gspo.score(estimator="mean").alias("s")).unnest("s")
        assert found.collect_schema() == found.collect().schema
        assert found.collect().to_dict(as_series=False) == {
            "rank": [None, [2.0, 1.0], [], [None, 1.0]],
            "percentile": [None, [1.0, 0.0], [], [None, 0.5]],
            "advantage": [None, [0.5, -0.5], [], [0.0, 0.0]],
            "group_size": [None, 2, 0, 2],
            "group_mean": [None, 1.5, None, 7.0],
            "group_std": [None, 0.5**0.5, None, None],
        }
    fixed = pl.Series("reward", [[2, 1], [1, 3]], dtype=pl.Array(pl.Int32, 2)).to_frame()
    assert fixed.select(REWARD.gspo.rank()).to_series().to_list() == [[2.0, 1.0], [1.0, 2.0]]
    empty = pl.DataFrame(schema={"reward": pl.List(pl.Float64)})
    assert empty.select(REWARD.gspo.score()).height == 0


@pytest.mark.slow
@given(tables)
def test_stats_are_one_row_per_group_with_its_key(table):
    frame = frame_of(table)
    rows, groups = arrays(frame)
    expected = gs.stats(rows, groups).to_polars()
    found = frame.gspo.stats(by="id")
    moments = pl.col("mean", "std", "min", "max", "median")
    assert_frame_equal(found, expected.with_columns(moments.fill_nan(None)), check_exact=True)
    for engine in ("in-memory", "streaming"):
        lazy = frame.lazy().gspo.stats(by="id")
        assert lazy.collect_schema() == found.schema
        assert_frame_equal(lazy.collect(engine=engine), found, check_exact=True)
    # Polars orders NaN above every number: it has to be told that such a reward is none.
    scored = REWARD.fill_nan(None)
    oracle = frame.group_by("id", maintain_order=True).agg(
        size=pl.len().cast(pl.Int64), mean=scored.mean(), median=scored.median(), max=scored.max()
    )
    assert_frame_equal(found.select("id", "size", "mean", "median", "max"), oracle)
