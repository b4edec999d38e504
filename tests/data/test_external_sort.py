"""Rows sorted through a temporary file, against Polars' own sort."""

import errno
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.data import external_sort

positions = st.lists(st.integers(3, 60), min_size=1, max_size=200)


@settings(deadline=None)
@given(positions, st.integers(1, 50), st.sampled_from([1, 500, 3000, 10**9]), st.integers(2, 9))
def test_rows_come_sorted_and_stable_for_any_chunk_budget_and_number_of_parts(
    positions, chunk, budget, fanout
):
    frame = pl.DataFrame({"position": positions}).with_row_index("row")
    frame = frame.with_columns(text=pl.lit("é" * 20) + pl.col("row").cast(pl.String))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_sort, "FANOUT", fanout)
        found = list(external_sort.sort_on_disk(frame.iter_slices(chunk), 3, 61, budget=budget))
    assert pl.concat(found).equals(frame.sort("position", "row"))
    borders = [(part["position"].min(), part["position"].max()) for part in found]
    assert all(a[1] < b[0] for a, b in pairwise(borders))


def test_no_part_takes_much_more_than_the_budget():
    text = "x" * 1000
    frame = pl.DataFrame({"position": np.arange(20_000) % 500, "text": [text] * 20_000})
    found = list(external_sort.sort_on_disk(frame.iter_slices(100), 0, 500, budget=1 << 20))
    assert sum(part.height for part in found) == 20_000
    assert max(part.estimated_size() for part in found) < 2 << 20


def test_no_rows_give_no_frames():
    assert list(external_sort.sort_on_disk([], 0, 0)) == []
    assert list(external_sort.sort_on_disk([pl.DataFrame({"position": [1]})[:0]], 0, 2)) == []


def test_a_full_disk_is_told_with_the_remedy():
    frame = pl.DataFrame({"position": np.arange(1000) % 10})
    with pytest.MonkeyPatch.context() as patch, Path("/dev/full").open("r+b", 0) as full:
        patch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        with pytest.raises(
            OSError, match=r"No space left .* choose another spill_directory"
        ) as told:
            list(external_sort.sort_on_disk(frame.iter_slices(100), 0, 10, budget=1))
    assert told.value.errno == errno.ENOSPC
