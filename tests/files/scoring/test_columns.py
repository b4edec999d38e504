"""The files that scoring writes: the same numbers for every reader, and honest statistics."""

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs

COLUMNS = ["rank", "percentile", "advantage", "group_size", "group_mean", "group_std"]


def scattered(rewards):
    ids = np.random.default_rng(0).integers(0, len(rewards) // 4 + 1, len(rewards))
    return pl.DataFrame({"prompt_id": ids, "reward": rewards})


def cases():
    rng = np.random.default_rng(1)
    none = pl.Series([None] * 40, dtype=pl.Float64)
    few = np.where(rng.random(70_000) < 0.3, np.nan, rng.integers(0, 5, 70_000) / 4)
    # More than a page, and means of which no two are equal: more than a dictionary holds.
    runs = rng.integers(0, 5, 300_000).repeat(3)[:300_000] / 4
    return {
        "nothing scorable": scattered(none),
        "one value": scattered(np.ones(50)),
        "one row": scattered(np.ones(1)),
        "some scorable": scattered(few),
        "all different": scattered(rng.standard_normal(300_000)),
        "clustered": scattered(runs).sort("prompt_id", maintain_order=True),
    }


CASES = cases()


def expected(frame):
    """The columns by the array functions."""
    groups = gs.Groups(frame["prompt_id"])
    rewards = frame["reward"].fill_null(np.nan).to_numpy()
    told, code = gs.stats(rewards, groups), groups.codes
    columns = [
        gs.rank(rewards, groups),
        gs.percentile(rewards, groups),
        gs.advantage(rewards, groups, "percentile"),
        told.size[code],
        told.mean[code],
        told.std[code],
    ]
    return dict(zip(COLUMNS, columns, strict=True))


def assert_same(found, wanted):
    for name, values in wanted.items():
        column = found[name].cast(pl.Float64)
        bits = column.fill_null(np.nan).to_numpy()
        assert np.array_equal(bits, values.astype(float), equal_nan=True), name
        assert column.null_count() == np.isnan(values.astype(float)).sum(), name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layout", ["narrow", "wide"])
def test_polars_and_pyarrow_read_the_numbers_that_were_found(tmp_path, name, layout):
    frame = CASES[name]
    frame.write_parquet(tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id", layout=layout)
    written = tmp_path / "out" / "a.parquet"
    wanted = expected(frame)
    assert_same(pl.read_parquet(written), wanted)
    assert_same(pl.from_arrow(pq.read_table(written)), wanted)


@pytest.mark.parametrize("name", CASES)
def test_duckdb_reads_the_numbers_that_were_found(tmp_path, name):
    duckdb = pytest.importorskip("duckdb")
    frame = CASES[name]
    frame.write_parquet(tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id", layout="narrow")
    read = duckdb.sql(f"from '{tmp_path / 'out' / 'a.parquet'}'").pl()
    assert_same(read, expected(frame))


@pytest.mark.parametrize("name", CASES)
def test_statistics_are_the_least_and_the_highest_value_of_each_row_group(tmp_path, name):
    frame = CASES[name]
    frame.write_parquet(tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id", layout="narrow")
    file = pq.ParquetFile(tmp_path / "out" / "a.parquet")
    for number in range(file.num_row_groups):
        found = pl.from_arrow(file.read_row_group(number))
        for at, column in enumerate(COLUMNS):
            told = file.metadata.row_group(number).column(at).statistics
            values = found[column].fill_nan(None) if at != 3 else found[column]
            assert told.null_count == found[column].null_count(), column
            assert told.has_min_max == (values.len() > values.null_count()), column
            if told.has_min_max:
                assert (told.min, told.max) == (values.min(), values.max()), column


@pytest.mark.parametrize(("name", "indexed"), [("all different", False), ("some scorable", True)])
def test_only_values_that_come_again_get_a_dictionary(tmp_path, name, indexed):
    gs.score(CASES[name], tmp_path / "out", by="prompt_id", layout="narrow")
    metadata = pq.read_metadata(tmp_path / "out" / "scores.parquet")
    encodings = metadata.row_group(0).column(COLUMNS.index("group_mean")).encodings
    assert ("RLE_DICTIONARY" in encodings) == indexed


def test_row_groups_without_rows_are_kept(tmp_path):
    table = scattered(np.arange(6.0)).to_arrow()
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for rows in (table[:0], table[:3], table[:0], table[3:]):
            writer.write_table(rows)
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 4
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id")
    written = tmp_path / "out" / "a.parquet"
    wanted = expected(pl.from_arrow(table))
    assert_same(pl.read_parquet(written), wanted)
    assert_same(pl.from_arrow(pq.read_table(written)), wanted)


def test_clustered_scores_take_few_bytes(tmp_path):
    frame = pl.DataFrame({"prompt_id": np.repeat(np.arange(4096), 16), "reward": 1.0})
    frame.write_parquet(tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id", layout="narrow")
    assert (tmp_path / "out" / "a.parquet").stat().st_size < 3000
