"""The cutter of Arrow streams, fed by Polars and PyArrow as producers of other origin."""

import gc
import os
import signal
import threading
import time
from itertools import groupby, pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs._core import WholeGroups

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=20)


def groups_of(batches):
    """The rows of each group, from the column `row`, checking the first row of each batch."""
    found = []
    for batch, offsets, first_row in batches:
        rows = pl.DataFrame(batch)["row"].to_list()
        assert rows[0] == first_row
        assert offsets[-1] == len(rows)
        found += [rows[start:stop] for start, stop in pairwise(offsets.tolist())]
    return found


@settings(deadline=None)
@given(sizes, st.integers(1, 9), st.integers(1, 6))
def test_groups_that_polars_streams_in_chunks_of_any_size_come_whole(sizes, chunk, batch_groups):
    ids = np.repeat(np.random.default_rng(len(sizes)).permutation(len(sizes)), sizes)
    frame = pl.DataFrame({"id": ids, "name": ids.astype(str), "row": np.arange(len(ids))})
    expected = [[row for row, _ in rows] for _, rows in groupby(enumerate(ids), key=lambda i: i[1])]
    stream = frame.lazy().collect_batches(chunk_size=chunk)
    assert groups_of(WholeGroups(stream, ["id", "name"], batch_groups)) == expected


@pytest.mark.parametrize(
    "dtype",
    [pl.Int8, pl.UInt64, pl.String, pl.Categorical, pl.Binary, pl.Boolean, pl.Date],
)
def test_every_exact_type_of_polars_can_be_a_key(dtype):
    ids = pl.Series("id", [1, 1, 1, 0, 0])
    ids = (
        ids.cast(pl.String).cast(dtype) if dtype in (pl.Binary, pl.Categorical) else ids.cast(dtype)
    )
    frame = pl.DataFrame([ids, pl.Series("row", range(5))])
    stream = pl.concat([frame[:2], frame[2:]], rechunk=False)
    assert groups_of(WholeGroups(stream, ["id"], 8)) == [[0, 1, 2], [3, 4]]


def test_a_batch_of_whole_groups_keeps_every_column_as_it_was(shared):
    source = pl.scan_parquet(shared / "data/rg_easy.parquet").head(20_000)
    batches = WholeGroups(source.collect_batches(chunk_size=999), ["prompt_id"], 100)
    frames = [pl.DataFrame(batch) for batch, _, _ in batches]
    assert pl.concat(frames).equals(source.collect())
    assert {frame["prompt_id"].n_unique() for frame in frames[:-1]} == {100}


def test_scattered_groups_are_refused_at_the_row_where_the_first_one_returns(shared):
    source = pl.scan_parquet(shared / "data/rg_policy3.parquet").select("prompt_id")
    ids = source.collect()["prompt_id"]
    starts = (
        pl.DataFrame({"id": ids, "run": ids.rle_id()}).with_row_index().unique("run", keep="first")
    )
    second = starts.sort("index").filter(pl.col("id").cum_count().over("id") == 2)
    began = ids.index_of(second["id"][0])
    words = f"row {second['index'][0]} belongs to the group that began at row {began} "
    with pytest.raises(ValueError, match=words):
        list(WholeGroups(source.collect_batches(), ["prompt_id"], 64))


def test_rows_are_counted_from_where_the_stream_begins():
    frame = pl.DataFrame({"id": [1, 2, None]})
    with pytest.raises(ValueError, match='"id" is null at row 102'):
        list(WholeGroups(frame, ["id"], 1, first_row=100))
    _, _, first_row = next(WholeGroups(frame[:2], ["id"], 1, first_row=100))
    assert first_row == 100


@pytest.mark.parametrize(
    ("by", "batch_groups", "error", "words"),
    [
        (["ids"], 1, ValueError, 'no key column "ids"; the columns are \\["id", "x"\\]'),
        (["x"], 1, ValueError, '"x" is Float64; a key is an integer'),
        ([], 1, ValueError, "no key column named"),
        (["id"], 0, ValueError, "batch_groups is 0"),
    ],
)
def test_what_cannot_cut_groups_is_refused_at_once(by, batch_groups, error, words):
    with pytest.raises(error, match=words):
        WholeGroups(pl.DataFrame({"id": [1], "x": [0.5]}), by, batch_groups)


def test_python_code_in_the_stream_runs_while_the_cutter_waits():
    def slow(ids: pl.Series) -> pl.Series:
        time.sleep(0.001)
        return ids

    frame = pl.LazyFrame({"id": range(300)}).with_columns(
        row=pl.col("id").map_batches(slow, return_dtype=pl.Int64)
    )
    batches = WholeGroups(frame.collect_batches(chunk_size=10), ["id"], 7)
    assert groups_of(batches) == [[row] for row in range(300)]


def test_a_stream_that_is_given_up_early_does_not_hang():
    frame = pl.LazyFrame({"id": range(100_000)}).with_columns(
        pl.col("id").map_batches(lambda ids: ids, return_dtype=pl.Int64)
    )
    batches = WholeGroups(frame.collect_batches(chunk_size=10), ["id"], 1)
    next(batches)
    del batches
    gc.collect()


def test_a_producer_that_fails_is_told_in_its_own_words_and_no_cut_group_is_given():
    def produce():
        yield pa.record_batch({"id": [1, 2]})
        raise RuntimeError("the disk is on fire")

    stream = pa.RecordBatchReader.from_batches(pa.schema([("id", pa.int64())]), produce())
    batches = WholeGroups(stream, ["id"], 1)
    assert next(batches)[1].tolist() == [0, 1]
    with pytest.raises(OSError, match="the disk is on fire"):
        next(batches)
    assert list(batches) == []


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_answered_while_a_group_is_still_being_read():
    endless = pl.LazyFrame({"id": [0]}).select(pl.repeat(0, 500_000_000).alias("id"))
    batches = WholeGroups(endless.collect_batches(chunk_size=1000), ["id"], 1)
    asked = []
    # The processor time of this thread, which neighbours do not change.
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def interrupt():
        asked.append(time.clock_gettime(clock))
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, interrupt)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 -- the signal may come before the call
        timer.start()
        next(batches)
    assert time.clock_gettime(clock) - asked[0] < 1.0
