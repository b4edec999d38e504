"""Columns of types that a command can't take are told with what to do."""

import polars as pl
import pytest

from gspo_rs.files.best import best
from gspo_rs.files.pairs import pairs


@pytest.mark.parametrize("command", [pairs, best])
@pytest.mark.parametrize("column", ["prompt", "completion"])
def test_lists_of_texts_in_place_of_rows_point_to_rows(tmp_path, command, column):
    frame = pl.DataFrame(
        {"id": ["a", "a"], "prompt": ["p", "p"], "completion": ["x", "y"], "reward": [0.0, 1.0]}
    ).with_columns(pl.Series(column, [["x", "y"], ["z", "w"]]))
    with pytest.raises(TypeError, match=rf"column '{column}' .*list.*`gspo-rs rows`"):
        command(frame, tmp_path / "out.parquet", by="id")
    assert not (tmp_path / "out.parquet").exists()
