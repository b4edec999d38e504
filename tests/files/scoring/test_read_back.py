"""An output read back over many files: its rows beside their scores, in one plan."""

import numpy as np
import polars as pl
import pytest

import gspo_rs as gs


@pytest.fixture
def files(tmp_path):
    """Forty files whose groups reach over them, with a column named as row numbers are."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(40):
        n = i % 7
        ids = pl.Series(rng.integers(0, 9, n), dtype=pl.Int64)
        reward = pl.Series(rng.integers(0, 3, n), dtype=pl.Float64)
        frame = pl.DataFrame({"prompt_id": ids, "reward": reward, "row": [f"{i}"] * n})
        frame.cast({"row": pl.String}).write_parquet(folder / f"{i:02}.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["all", "informative,top:0.5"])
def test_a_narrow_output_of_many_files_reads_as_the_wide_one(files, tmp_path, keep):
    for layout in ("narrow", "wide"):
        gs.score(files, tmp_path / layout, by="prompt_id", layout=layout, keep=keep)
    narrow, wide = (gs.scan(tmp_path / layout).collect() for layout in ("narrow", "wide"))
    assert narrow.equals(wide)
    assert 0 < narrow.height <= sum(i % 7 for i in range(40))


def test_a_narrow_output_is_joined_once_however_many_files_it_has(files, tmp_path):
    gs.score(files, tmp_path / "out", by="prompt_id", layout="narrow")
    plan = gs.scan(tmp_path / "out").select("advantage", "reward").explain()
    assert plan.count("END HCONCAT") == 1
    assert "PROJECT 1/3 COLUMNS" in plan, "neither ids nor texts are read"


def test_an_address_with_other_rows_is_not_joined_to_its_old_scores(tmp_path):
    pl.DataFrame({"prompt_id": range(100), "reward": 0.5}).write_parquet(tmp_path / "a.parquet")
    address = f"file://{tmp_path}/a.parquet"
    gs.score(address, tmp_path / "out", by="prompt_id", layout="narrow")
    pl.DataFrame({"prompt_id": range(101), "reward": 0.5}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet has 101 rows, 100 were scored"):
        gs.scan(tmp_path / "out")


def test_an_address_that_leads_nowhere_is_named_once(tmp_path):
    with pytest.raises(OSError, match=r"^cannot read file://\S*none\.parquet: (?!cannot read)"):
        gs.score(f"file://{tmp_path}/none.parquet", tmp_path / "out", by="prompt_id")
