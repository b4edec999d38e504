"""Whole groups cut out of a stream, however its frames fall: those that Python groups."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.data.group_stream import stream_groups
from gspo_rs.data.source import Source
from gspo_rs.groups.groups import Groups

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=20)


@dataclass(frozen=True)
class Chunks(Source):
    """A source whose frames have a number of rows of our choice, and whose windows another one."""

    chunk: int = 1
    window: int = 1 << 20

    @property
    def first_window(self):
        return self.window

    def stream(self, columns, start, stop):
        rows = self.frame.slice(start, None if stop is None else stop - start)
        yield from rows.select(columns).collect().iter_slices(self.chunk)


def cut(frame, *, keys=("id",), wanted=None, batch_groups=8, chunk=2, window=1 << 20):
    """The groups of a frame, as the rows that its column `row` tells."""
    source = Chunks(frame.lazy(), "the frame", chunk=chunk, window=window)
    columns = [pl.col(name).alias(f"key{i}") for i, name in enumerate(keys)]
    groups = Groups(frame.select(keys))
    wanted = range(groups.n_groups) if wanted is None else wanted
    return stream_groups(source, [*columns, "x"], groups, wanted, batch_groups=batch_groups)


def rows_of(batches):
    """The rows of each group, and that its values are those of its rows."""
    found = []
    for batch in batches:
        assert batch.frame["x"].to_list() == batch.rows.tolist()
        found += [part.tolist() for part in np.split(batch.rows, batch.offsets[1:-1])]
    return found


@settings(deadline=None)
@given(sizes, st.integers(1, 9), st.integers(1, 6), st.integers(1, 50), st.data())
def test_groups_that_come_in_frames_and_windows_of_any_size_come_whole(
    sizes, chunk, batch_groups, window, data
):
    ids = np.repeat(np.random.default_rng(len(sizes)).permutation(len(sizes)), sizes)
    frame = pl.DataFrame({"id": ids, "name": ids.astype(str), "x": np.arange(len(ids))})
    expected = [[row for row, _ in rows] for _, rows in groupby(enumerate(ids), key=lambda i: i[1])]
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(sizes))] * 2)))
    options = {"batch_groups": batch_groups, "chunk": chunk, "window": window}
    found = cut(frame, keys=("id", "name"), wanted=range(start, stop), **options)
    assert rows_of(found) == expected[start:stop]


@pytest.mark.parametrize(
    "dtype",
    [pl.Int8, pl.UInt64, pl.String, pl.Categorical, pl.Binary, pl.Boolean, pl.Date],
)
def test_every_exact_type_of_polars_can_be_a_key(dtype):
    ids = pl.Series("id", [1, 1, 1, 0, 0])
    ids = (
        ids.cast(pl.String).cast(dtype) if dtype in (pl.Binary, pl.Categorical) else ids.cast(dtype)
    )
    assert rows_of(cut(pl.DataFrame([ids, pl.Series("x", range(5))]))) == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("later", [[1, 2, 2], [1, 1, 2, 2], [1, 1, 1]])
def test_rows_that_are_of_other_groups_at_the_second_reading_are_refused(later):
    groups = Groups(np.array([1, 1, 2]))
    source = Chunks(pl.LazyFrame({"id": later}), "the frame")
    batches = stream_groups(source, [pl.col("id").alias("key0")], groups, range(2), batch_groups=8)
    with pytest.raises(ValueError, match="the frame changed between two reads"):
        list(batches)


def test_a_stream_that_is_given_up_early_does_not_hang():
    frame = pl.LazyFrame({"id": range(100_000)}).with_columns(
        pl.col("id").map_batches(lambda ids: ids, return_dtype=pl.Int64)
    )
    source, groups = Source(frame, "the frame"), Groups(np.arange(100_000))
    batches = stream_groups(source, [pl.col("id").alias("key0")], groups, range(9), batch_groups=1)
    next(batches)
    batches.close()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_answered_while_a_group_is_still_being_read():
    n = 500_000_000
    endless = pl.LazyFrame({"id": [0]}).select(pl.repeat(0, n).alias("id"))
    source = Source(endless, "the frame")
    frames = source.stream([pl.col("id").alias("key0")], 0, None)
    asked = []
    # The processor time of this thread, which neighbours do not change.
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def interrupt():
        asked.append(time.clock_gettime(clock))
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, interrupt)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 -- the signal may come before the loop
        timer.start()
        for _ in frames:
            pass
    assert time.clock_gettime(clock) - asked[0] < 1.0
