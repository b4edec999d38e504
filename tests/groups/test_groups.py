"""Groups: any ids, exact equality, numbered by first appearance."""

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gspo_rs as gs

ints = st.lists(st.integers(-3, 3), max_size=40)


def members(groups):
    """Rows of each group, through `offsets` and `order`."""
    return [part.tolist() for part in np.split(groups.order, groups.offsets[1:-1])][: len(groups)]


def by_dictionary(ids):
    """The same by a plain dictionary."""
    found = {}
    for row, key in enumerate(ids):
        found.setdefault(key, []).append(row)
    return list(found.values())


@given(ints)
def test_groups_are_those_of_a_dictionary_of_rows(ids):
    groups = gs.Groups(np.array(ids, dtype=np.int64))
    assert members(groups) == by_dictionary(ids)
    assert groups.ids.tolist() == list(dict.fromkeys(ids))
    assert groups.codes.tolist() == [list(dict.fromkeys(ids)).index(key) for key in ids]
    assert groups.sizes.tolist() == [len(rows) for rows in by_dictionary(ids)]


@given(ints, st.integers(1, 5))
def test_ids_of_every_type_and_chunking_cut_the_same_groups(ids, chunk):
    expected = by_dictionary(ids)
    words = [f"id {key} that is longer than a view holds" for key in ids]
    series = pl.Series(words, dtype=pl.String)
    forms = [np.array(ids, dtype=t) for t in ("i1", "i2", "i4", "i8", ">i8", "O")]
    forms += [np.array(ids, dtype="i8").astype(t) for t in ("u1", "u2", "u4", "u8", "M8[D]")]
    forms += [words, tuple(words), np.array(words, dtype=object), [w.encode() for w in words]]
    forms += [series, series.cast(pl.Categorical), pl.Series(ids, dtype=pl.Int16)]
    forms += [
        pa.chunked_array([words[i : i + chunk] for i in range(0, len(words), chunk)], pa.string())
    ]
    forms += [pa.chunked_array([words], pa.large_binary()), pa.array(words).dictionary_encode()]
    forms += [
        series.to_frame("a").with_columns(b=pl.lit(1)),
        pl.Series([dt.date(2026, 1, 4 + i) for i in ids], dtype=pl.Date),
    ]
    forms += [np.repeat(np.array(ids, dtype="i8"), 2)[::2]]
    if ids:
        forms += [np.array(words), np.array(words, dtype="S")]
    for form in forms:
        assert members(gs.Groups(form)) == expected, getattr(form, "dtype", type(form))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("xyz")), max_size=30))
def test_several_key_columns_are_one_key(pairs):
    frame = pl.DataFrame(pairs, schema={"a": pl.Int64, "b": pl.String}, orient="row")
    groups = gs.Groups(frame)
    assert members(groups) == by_dictionary(pairs)
    assert groups.ids.rows() == list(dict.fromkeys(pairs))


# Ids that lie in a view of Arrow, in a key, beside it, and in neither; they differ in one place.
LENGTHS = st.sampled_from([0, 1, 12, 13, 15, 16, 17, 36, 64, 256, 257, 400])


@st.composite
def long_ids(draw):
    length = draw(LENGTHS)
    place = draw(st.sampled_from([0, length // 2, length - 1])) if length else 0
    return "".join("b" if at == place and draw(st.booleans()) else "a" for at in range(length))


@given(st.lists(long_ids(), max_size=30), st.integers(1, 7))
def test_ids_of_any_length_are_told_apart_by_every_byte(ids, chunk):
    series = pl.Series(ids, dtype=pl.String)
    chunks = pa.chunked_array([ids[i : i + chunk] for i in range(0, len(ids), chunk)], pa.string())
    for form in [ids, series, chunks, series.cast(pl.Categorical), pa.array(ids, pa.string_view())]:
        assert members(gs.Groups(form)) == by_dictionary(ids)


CATEGORIES = st.sampled_from(["", "a", "ab", "abc", "a" * 300])
WORDS = st.one_of(st.none(), CATEGORIES, long_ids())
rows_of_three = st.tuples(WORDS, WORDS, st.one_of(st.none(), st.integers(-2, 2)), CATEGORIES)


@given(st.lists(rows_of_three, max_size=30), st.booleans())
def test_columns_are_one_key_and_not_their_texts_in_one(rows, clustered):
    """Else ("ab", "c") and ("a", "bc") would be one id."""
    rows = sorted(rows, key=str) if clustered else rows
    schema = {"a": pl.String, "b": pl.Binary, "c": pl.Int8, "d": pl.String}
    rows = [(a, None if b is None else b.encode(), c, d) for a, b, c, d in rows]
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.col("d").cast(pl.Categorical)
    )
    groups = gs.Groups(frame, null_ids="drop")
    whole = {n: row for n, row in enumerate(rows) if None not in row}
    expected = [[list(whole)[i] for i in part] for part in by_dictionary(whole.values())]
    assert members(groups) == (expected or [[]])[: len(groups)]
    assert len(groups) == len(expected)
    assert [groups.codes[n] for n in range(len(rows)) if n not in whole] == [-1] * (
        len(rows) - len(whole)
    )


@pytest.mark.parametrize("columns", [["36"], ["16"], ["36", "n"], ["16", "36", "n"]])
def test_long_ids_of_many_partitions_are_grouped_as_polars_does(columns):
    n = 160_000
    group = pl.Series(np.random.default_rng(0).integers(0, n // 8, n))
    frame = pl.DataFrame({"n": group % 7, "16": group // 3, "36": group // 2}).with_columns(
        pl.format("train/{}/a", pl.col("16").cast(pl.String).str.zfill(8)).alias("16"),
        pl.format("{}-4000-8000-{}", pl.col("36"), pl.col("36")).str.zfill(36).alias("36"),
    )
    groups = gs.Groups(frame.select(columns) if len(columns) > 1 else frame[columns[0]])
    codes = (
        frame.select(columns)
        .with_row_index()
        .with_columns(first=pl.col("index").min().over(columns))["first"]
        .rank("dense")
    )
    assert groups.codes.tolist() == (codes - 1).to_list()


def test_a_number_and_its_text_are_not_silently_the_same_id():
    with pytest.raises(TypeError, match=r"row 1 is a int where a string was expected"):
        gs.Groups(["1", 1])
    with pytest.raises(TypeError, match=r"row 0 is a float where an integer or a string"):
        gs.Groups([1.0, 2.0])


@pytest.mark.parametrize("ids", [np.array([1.5]), pl.Series([1.5]), pa.array([1.5])])
def test_floats_are_refused_as_ids(ids):
    with pytest.raises(TypeError, match="cast them to integers or strings"):
        gs.Groups(ids)


def test_strings_that_differ_in_a_trailing_nul_are_two_ids():
    assert gs.Groups(["a", "a\0"]).n_groups == 2


def test_the_largest_unsigned_ids_are_told_apart():
    ids = np.array([2**64 - 1, 2**64 - 2, 2**64 - 1], dtype=np.uint64)
    assert members(gs.Groups(ids)) == [[0, 2], [1]]
    assert members(gs.Groups(ids.tolist())) == [[0, 2], [1]]


@pytest.mark.parametrize(
    "ids",
    [
        ["a", None, "b"],
        pl.Series(["a", None, "b"]),
        pl.Series(["a", None, "b"], dtype=pl.Categorical),
        pl.DataFrame({"x": [1, 2, 3], "y": ["a", None, "b"]}),
        np.array(["2026-01-01", "NaT", "2026-01-02"], dtype="M8[D]"),
    ],
)
def test_a_null_id_is_an_error_that_names_the_row_unless_dropped(ids):
    with pytest.raises(ValueError, match="group id at row 1 is null"):
        gs.Groups(ids)
    groups = gs.Groups(ids, null_ids="drop")
    assert groups.codes.tolist() == [0, -1, 1]
    assert groups.order.tolist() == [0, 2]
    assert groups.n_rollouts == 3


@pytest.mark.parametrize("offsets", [[1, 3], [0, 2, 2, 3], [0, 3, 2], []])
def test_offsets_that_do_not_rise_from_zero_are_refused(offsets):
    with pytest.raises(ValueError, match="rise strictly"):
        gs.Groups.from_offsets(np.array(offsets, dtype=np.int64))


def test_offsets_of_floats_are_refused():
    with pytest.raises(TypeError, match="integers"):
        gs.Groups.from_offsets([0.0, 2.0])


def test_groups_from_offsets_number_their_groups():
    groups = gs.Groups.from_offsets([0, 2, 5])
    assert groups.clustered
    assert groups.ids.tolist() == [0, 1]
    assert groups.codes.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1_000, 65_537, 400_000])
@pytest.mark.parametrize("shape", ["one group", "all alone", "scattered", "clustered"])
def test_every_size_is_grouped_as_numpy_unique_does(n, shape):
    rng = np.random.default_rng(n)
    ids = {
        "one group": np.zeros(n, dtype=np.int64),
        "all alone": rng.permutation(n).astype(np.int64),
        "scattered": rng.integers(0, n // 8 + 1, n),
        "clustered": np.sort(rng.integers(0, n // 8 + 1, n))[::-1].copy(),
    }[shape]
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    by_appearance = np.empty(len(first), dtype=np.int64)
    by_appearance[np.argsort(first)] = np.arange(len(first))
    for form in (ids, pl.Series(ids).cast(pl.String)):
        groups = gs.Groups(form)
        np.testing.assert_array_equal(groups.codes, by_appearance[inverse])
        np.testing.assert_array_equal(groups.order, np.argsort(groups.codes, kind="stable"))


def test_the_arrays_of_groups_cannot_be_written():
    groups = gs.Groups([1, 1, 2])
    for array in (groups.codes, groups.offsets, groups.order, groups.sizes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_rows_that_are_all_dropped_have_no_rank():
    nothing = gs.Groups([None, None, None], null_ids="drop")
    assert nothing.n_groups == 0
    assert np.isnan(gs.rank([1.0, 2.0, 3.0], nothing)).all()


def test_an_id_that_its_dictionary_lacks_is_refused_at_its_row():
    codes, words = pa.array([0, 1, 5], pa.int8()), pa.array(["x", "y"])
    ids = pa.DictionaryArray.from_arrays(codes, words, safe=False)
    with pytest.raises(TypeError, match="row 2 has value 5 of a dictionary of 2"):
        gs.Groups(ids)
