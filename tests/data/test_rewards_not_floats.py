"""Rewards and ids that NumPy or float64 do not hold: masked, decimal, large, half a character."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import gspo_rs as gs
import gspo_rs.polars
from gspo_rs import data
from gspo_rs.files.summary import summarize

BIG = 2**53
CLOSE = [Decimal("0.10000000000000000001"), Decimal("0.10000000000000000002")]
IDS = ["a", "a", "a"]


def test_a_masked_reward_does_not_win_its_group():
    rewards = np.ma.MaskedArray([1.0, 999.0, 0.0], [False, True, False])
    np.testing.assert_array_equal(gs.rank(rewards, IDS), [2.0, np.nan, 1.0])
    whole = np.ma.MaskedArray([1, 999, 0], [False, True, False])
    np.testing.assert_array_equal(gs.rank(whole, IDS), [2.0, np.nan, 1.0])
    np.testing.assert_array_equal(gs.rank(np.ma.MaskedArray([1.0, 2.0]), ["a", "a"]), [1.0, 2.0])


@pytest.mark.parametrize("values", [[1, 2, 1], ["x", "y", "x"], [2**63, 2**63 + 1, 2**63]])
def test_a_masked_id_is_null(values):
    ids = np.ma.MaskedArray(values, [False, False, True])
    with pytest.raises(ValueError, match=r"null.*row 2|row 2.*null"):
        gs.Groups(ids)
    assert gs.Groups(ids, null_ids="drop").codes.tolist() == [0, 1, -1]
    assert gs.Groups(np.ma.MaskedArray(values)).codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "rewards",
    [
        [1, None, 0],
        np.array([1, pd.NA, 0], dtype=object),
        np.array([Decimal(1), None, Decimal("0.5")]),
        pd.Series([1, None, 0], dtype="Int64"),
        pd.Series([1, None, 0], dtype="int64[pyarrow]"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.array([1.0, None, 0.0], dtype="Float64"),
        pl.Series([1, None, 0]),
        pl.Series([True, None, False]),
        pl.Series([Decimal(1), None, Decimal("0.5")]),
        pa.array([1, None, 0]),
        pa.chunked_array([[1], [None, 0]]),
        pa.array([Decimal(1), None, Decimal("0.5")]),
        pa.array([1, None, 0], pa.decimal256(60, 20)),
    ],
    ids=lambda rewards: f"{type(rewards).__module__} {getattr(rewards, 'dtype', '')}",
)
def test_what_is_missing_is_unscorable_whatever_holds_it(rewards):
    np.testing.assert_array_equal(gs.rank(rewards, IDS), [2.0, np.nan, 1.0])


def test_a_decimal_that_float64_has_only_0_for_is_refused_and_a_denormal_is_not():
    with pytest.raises(TypeError, match="reward -1E-400 at row 1 would be rounded"):
        gs.rank([Decimal(0), Decimal("-1e-400")], ["a", "a"])
    assert gs.rank([Decimal("1e-320"), Decimal("0e-400")], ["a", "a"]).tolist() == [2.0, 1.0]


TOO_LARGE = [BIG, BIG + 1]
DOORS = {
    "list": list,
    "tuple": tuple,
    "objects": lambda values: np.array(values, dtype=object),
    "Polars": lambda values: pl.Series(values, strict=False),
    "Arrow": pa.array,
    "chunked Arrow": lambda values: pa.chunked_array([pa.array(values)]),
    "pandas objects": lambda values: pd.Series(values, dtype=object),
    "pandas": lambda values: pd.Series(values, dtype="Int64"),
    "pandas Arrow": lambda values: pd.Series(values, dtype=pd.ArrowDtype(pa.array(values).type)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("null", [False, True])
def test_integers_that_float64_would_round_are_refused_beside_a_null_too(door, null):
    values = [None, *TOO_LARGE] if null else TOO_LARGE
    with pytest.raises(TypeError, match=rf"reward {BIG} at row {int(null)} would be rounded"):
        gs.rank(DOORS[door](values), ["a"] * len(values))


@pytest.mark.parametrize("door", [name for name in DOORS if name != "pandas"])
@pytest.mark.parametrize("null", [False, True])
def test_decimals_that_differ_are_not_tied(door, null):
    values = [None, *CLOSE] if null else CLOSE
    with pytest.raises(TypeError, match=rf"reward 0\.1\d+ at row {int(null)} would be rounded"):
        gs.rank(DOORS[door](values), ["a"] * len(values))
    few = [Decimal("0.1"), Decimal("0.123456789012345")]
    assert list(gs.rank(DOORS[door](few), ["a", "a"])) == [1.0, 2.0]


def test_an_integer_among_floats_is_not_rounded_without_a_word():
    with pytest.raises(TypeError, match=rf"reward {BIG + 1} at row 1 would be rounded"):
        gs.rank([0.5, BIG + 1], ["a", "a"])
    with pytest.raises(TypeError, match=rf"reward {2**70} at row 0 would be rounded"):
        gs.rank([2**70, 1], ["a", "a"])
    assert gs.rank([0.5, 1e300], ["a", "a"]).tolist() == [1.0, 2.0]


COLUMNS = {
    "int64": (pa.int64(), [BIG, BIG + 1]),
    "uint64": (pa.uint64(), [2**63, 2**63 + 1]),
    "decimal(38, 20)": (pa.decimal128(38, 20), CLOSE),
}
# What each reads of a file or a frame, both as a LazyFrame.
READERS = {
    "score wide": lambda frame, out: gs.score(frame, out, by="id"),
    "score narrow": lambda frame, out: gs.score(frame, out, by="id", layout="narrow"),
    "index": lambda frame, _: data.index_groups(frame, by="id"),
    "second of two": lambda frame, _: data.index_groups(
        frame.with_columns(one=1.0), by="id", reward=["one", "reward"]
    ),
    "expression": lambda frame, _: frame.select(pl.col("reward").gspo.rank(by="id")).collect(),
    "lists": lambda frame, _: (
        frame.group_by("id").agg("reward").select(pl.col("reward").gspo.rank()).collect()
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_no_door_ties_rewards_that_differ(tmp_path, kind, null, reader):
    dtype, values = COLUMNS[kind]
    given = pa.array([None, *values] if null else values, dtype)
    frame = pl.DataFrame({"reward": pl.Series(given), "id": ["a"] * len(given)})
    of_frames = reader in ("expression", "lists")  # which take no decimals at all
    words = "are Decimal" if of_frames and "decimal" in kind else rf"row {int(null)}"
    with pytest.raises((TypeError, ValueError), match=words):
        READERS[reader](frame.lazy(), tmp_path / "out")


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_decimals_that_floats_tell_apart_are_scored_as_the_nearest_floats(tmp_path, layout):
    texts = ["0.1", "0.3", "-12.5", "0.123456789012345", "7", None]
    rewards = [None if text is None else Decimal(text) for text in texts]
    frame = pl.DataFrame({"id": ["a"] * 6, "reward": pl.Series(rewards, dtype=pl.Decimal(38, 20))})
    frame.write_parquet(tmp_path / "rows.parquet")
    gs.score(tmp_path / "rows.parquet", tmp_path / "out", by="id", layout=layout)
    found = gs.scan(tmp_path / "out").collect()
    floats = [np.nan if text is None else float(text) for text in texts]
    np.testing.assert_array_equal(found["rank"].fill_null(np.nan), gs.rank(floats, ["a"] * 6))
    np.testing.assert_array_equal(found["group_mean"], [gs.stats(floats, ["a"] * 6).mean[0]] * 6)


LARGE = [2**63, 2**63 + 1, 2**63, -5]


@pytest.mark.parametrize(
    "ids",
    [
        LARGE,
        tuple(LARGE),
        np.array(LARGE, dtype=object),
        [2**64 + i % 2**63 for i in LARGE[:3]] + [7],
        pl.Series(LARGE, dtype=pl.Int128),
        pl.DataFrame({"x": pl.Series(LARGE, dtype=pl.Int128), "y": [1, 1, 1, 1]}),
        ["\ud83d", "\ud83e", "\ud83d", "a"],
        np.array(["\ud83d", "\ud83e", "\ud83d", "a"], dtype=object),
        pd.Series(LARGE, dtype=object),
    ],
    ids=lambda ids: f"{type(ids).__module__} {type(ids).__name__}",
)
def test_ids_that_no_word_holds_are_grouped_as_what_they_are(ids):
    assert gs.Groups(ids).codes.tolist() == [0, 1, 0, 2]


def test_large_ids_of_a_frame_are_grouped_by_every_reader(tmp_path):
    ids = pl.Series("id", [2**63, 2**63 + 1, 2**63], dtype=pl.Int128)
    frame = pl.DataFrame([ids, pl.Series("reward", [0.0, 1.0, 1.0])])
    assert frame.select(pl.col("reward").gspo.rank(by="id")).to_series().to_list() == [1, 1, 2]
    assert data.index_groups(frame, by="id").groups.codes.tolist() == [0, 1, 0]
    gs.score(frame, tmp_path / "out", by="id")
    assert gs.scan(tmp_path / "out").collect()["rank"].to_list() == [1, 1, 2]


@pytest.mark.parametrize(
    "ids",
    [
        pd.array([1, 1, 2, None], "Int64"),
        pd.array([2**64 - 1, 2**64 - 1, 2**64 - 2, None], "UInt64"),
        pd.array(["a", "a", "b", None], "string"),
        pd.array([True, True, False, None], "boolean"),
        pd.Categorical(["a", "a", "b", None]),
        pd.to_datetime(pd.Series(["2024-01-01"] * 2 + ["2024-01-02", None])).array,
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_a_null_in_an_array_of_pandas_is_a_null_id(ids):
    with pytest.raises(ValueError, match="the group id at row 3 is null"):
        gs.Groups(ids)
    assert gs.Groups(ids, null_ids="drop").codes.tolist() == [0, 0, 1, -1]
    assert gs.Groups(ids[:3]).codes.tolist() == [0, 0, 1]


def test_rewards_of_128_bits_are_numbers_through_every_door():
    rewards = pl.Series("r", [3, None, 1], dtype=pl.Int128)
    np.testing.assert_array_equal(gs.rank(rewards, IDS), [2.0, np.nan, 1.0])
    with pytest.raises(TypeError, match=f"the reward {2**80} at row 2 would be rounded"):
        gs.rank(pl.Series([3, None, 2**80], dtype=pl.Int128), IDS)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_reward_column_of_nulls_alone_is_null_whatever_its_type(tmp_path, layout, suffix):
    """As pandas and Arrow write a column in which nothing is."""
    rows = {"id": ["a", "a", "b"], "reward": pl.Series([None] * 3, dtype=pl.Null)}
    file = tmp_path / f"x.{suffix}"
    frame = pl.DataFrame(rows)
    frame.write_parquet(file) if suffix == "parquet" else frame.write_ipc(file)
    assert gs.score(file, tmp_path / "out", by="id", layout=layout).rows == 3
    scored = gs.scan(tmp_path / "out").collect()
    assert scored["rank"].is_null().all()
    assert scored["group_size"].to_list() == [2, 2, 1]
    assert gs.verify(tmp_path / "out").rows == 3
    (whole,) = summarize(file, by="id")
    assert (whole.rows, whole.groups) == (3, 2)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("place", ["id", "another", "a struct", "a list"])
def test_integers_of_128_bits_are_scored_and_written_in_any_column(tmp_path, layout, place):
    large = pl.Series("id", [2**80, 2**80 + 1, 2**80, -1], dtype=pl.Int128)
    frame = pl.DataFrame({"id": ["a", "b", "a", "c"], "reward": [0.0, 1.0, 2.0, 3.0]})
    put = {
        "id": large,
        "another": large.alias("x"),
        "a struct": pl.struct(y=large).alias("x"),
        "a list": large.reshape((4, 1)).arr.to_list().alias("x"),
    }
    frame = frame.with_columns(put[place])
    frame.write_parquet(tmp_path / "x.parquet")
    gs.score(tmp_path / "x.parquet", tmp_path / "out", by="id", layout=layout)
    scored = gs.scan(tmp_path / "out").collect()
    assert scored.select(frame.columns).equals(frame)
    assert scored["rank"].to_list() == [1.0, 1.0, 2.0, 1.0]
    assert gs.verify(tmp_path / "out").rows == 4


@pytest.mark.parametrize(
    "ids",
    [
        [True, True, 1],
        [1, 1, True],
        [None, 0, False],
        [2**70, 2**70, True],
        np.array([0, 0, False], dtype=object),
    ],
    ids=str,
)
def test_true_is_not_the_id_1_in_memory_as_it_is_not_in_a_file(ids):
    with pytest.raises(TypeError, match=r"the group id at row 2 is a \w+ where an? .*expected"):
        gs.Groups(ids, null_ids="drop")
    assert gs.Groups([True, True, False]).codes.tolist() == [0, 0, 1]
