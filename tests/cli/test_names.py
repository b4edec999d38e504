"""Names of columns in options, joined by commas."""

import polars as pl

from gspo_rs.cli.names import named


def test_names_are_divided_at_commas_but_for_columns_that_have_them(tmp_path):
    frame = pl.DataFrame({"a,b": [1], "a": [2], "b": [3], "c": [4], "s": [{"x": 5}]})
    frame.write_parquet(tmp_path / "in.parquet")
    source = str(tmp_path / "in.parquet")
    assert named(["a,c"], source) == ["a", "c"]
    assert named(["a, c", "b"], source) == ["a", "c", "b"]
    assert named(["a,b"], source) == ["a,b"]
    assert named(["c,a,b"], source) == ["c", "a,b"]
    assert named(["b,s.x"], source) == ["b", "s.x"]
    assert named(["b,none"], source) == ["b", "none"]
    assert named(None, source) is None
