"""Selections: the rows they name come back, and from nothing else than what they were made of."""

import numpy as np
import polars as pl
import pytest

from fixtures.formats import WRITERS, write
from gspo_rs.files.selection import apply, read_selection, select, write_selection

FRAME = pl.DataFrame(
    {"id": ["a", "b", "a", "b"], "reward": [0.0, 1.0, 2.0, 1.0], "t": list("wxyz")}
)


@pytest.fixture
def two(tmp_path):
    FRAME[:3].write_parquet(tmp_path / "x.parquet", row_group_size=2)
    FRAME[3:].write_parquet(tmp_path / "y.parquet")
    return tmp_path


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_are_counted_over_the_files_and_come_back_in_order(tmp_path, suffix):
    for name, part in (("x", FRAME[:3]), ("y", FRAME[3:])):
        write(part, tmp_path / f"{name}{suffix}")
    write_selection(tmp_path / "sel.parquet", f"{tmp_path}/[xy]{suffix}", [0, 2, 3], n_rows=4)
    found = apply(read_selection(tmp_path / "sel.parquet"))
    assert found.collect().equals(FRAME[[0, 2, 3]])
    assert found.select("t").collect(engine="streaming")["t"].to_list() == ["w", "y", "z"]
    assert found.filter(pl.col("t") > "w").collect()["t"].to_list() == ["y", "z"]


@pytest.mark.parametrize("file", ["rg_policy3", "wmt21_ted_zhen_mqm", "gsm8k_solutions4"])
def test_a_selection_of_a_real_file_is_what_polars_filters(shared, tmp_path, file):
    source = shared / f"data/{file}.parquet"
    written = select(source, tmp_path / "s.parquet", by="prompt_id", keep="informative,scored")
    frame = pl.read_parquet(source)
    reward = pl.col("reward")
    expected = frame.filter(
        reward.min().over("prompt_id") < reward.max().over("prompt_id"), reward.is_not_null()
    )
    assert apply(read_selection(tmp_path / "s.parquet")).collect().equals(expected)
    assert written.rows == len(expected)
    assert written.groups == expected["prompt_id"].n_unique()
    assert written.rows + sum(written.dropped.values()) == len(frame)


def test_nothing_and_everything_can_be_selected(two):
    for rows in ([], [0, 1, 2, 3]):
        write_selection(two / "s.parquet", f"{two}/[xy].parquet", rows, n_rows=4, overwrite=True)
        assert apply(read_selection(two / "s.parquet")).collect().equals(FRAME[rows])


def test_files_that_moved_are_found_and_others_refused(two):
    write_selection(two / "s.parquet", [two / "x.parquet", two / "y.parquet"], [3], n_rows=4)
    selection = read_selection(two / "s.parquet")
    (two / "new").mkdir()
    for name in ("x", "y"):
        (two / f"{name}.parquet").rename(two / "new" / f"{name}.parquet")
    assert apply(selection, f"{two}/new/*.parquet").collect()["t"].to_list() == ["z"]
    with pytest.raises(FileNotFoundError, match=r"x\.parquet; it may have moved: say where"):
        apply(selection)
    with pytest.raises(ValueError, match="of 2 files, not 1"):
        apply(selection, two / "new" / "x.parquet")
    with pytest.raises(ValueError, match=r"y\.parquet has \d+ bytes; it had \d+"):
        apply(selection, [two / "new" / "y.parquet", two / "new" / "x.parquet"])


def test_a_source_with_one_bit_changed_is_refused(two):
    write_selection(two / "s.parquet", two / "x.parquet", [1], n_rows=3)
    content = bytearray((two / "x.parquet").read_bytes())
    content[40] ^= 1
    (two / "x.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet has other content than when"):
        apply(read_selection(two / "s.parquet"))


@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [-1, 2], [0, 3], [3]])
def test_rows_that_do_not_rise_within_the_files_are_refused(two, rows):
    with pytest.raises(ValueError, match="do not rise strictly from 0 to less than 3"):
        write_selection(two / "s.parquet", two / "x.parquet", rows, n_rows=3)
    assert not (two / "s.parquet").exists()


def test_what_is_no_selection_or_no_file_is_refused(two):
    with pytest.raises(ValueError, match=r"x\.parquet is no selection file"):
        read_selection(two / "x.parquet")
    (two / "z.parquet").write_bytes(b"junk")
    with pytest.raises(OSError, match=r"cannot read .*z\.parquet"):
        read_selection(two / "z.parquet")
    with pytest.raises(ValueError, match="the DataFrame is no file"):
        write_selection(two / "s.parquet", FRAME, np.arange(2), n_rows=4)
    with pytest.raises(ValueError, match=r"s\.txt.* known: \.parquet"):
        write_selection(two / "s.txt", two / "x.parquet", [0], n_rows=3)
    with pytest.raises(ValueError, match="is one of the files to read"):
        select(two / "x.parquet", two / "x.parquet", by="id", keep="informative")
