"""Checksums of pages: those that a file carries are checked, and the scores carry them."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.files.best import best
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import select
from gspo_rs.files.summary import summarize
from gspo_rs.report import report

ROWS = 4000
TABLE = pa.table(
    {
        "prompt": [f"prompt {i // 8}" for i in range(ROWS)],
        "completion": [f"completion number {i}" for i in range(ROWS)],
        "reward": [i * 37 % 1000 / 1000 for i in range(ROWS)],
    }
)
DOORS = {
    "score narrow": lambda path, out: gs.score(path, out / "s", by="prompt", layout="narrow"),
    "score wide": lambda path, out: gs.score(path, out / "s", by="prompt"),
    "score and choose": lambda path, out: gs.score(path, out / "s", by="prompt", keep="reward:0.."),
    "stats": lambda path, _: summarize(path, by="prompt"),
    "index": lambda path, _: data.index_groups(path, by="prompt"),
    "rollouts": lambda path, out: list(data.rollouts(path, by="prompt", spill_directory=out)),
    "best": lambda path, out: best(path, out / "best.parquet", by="prompt"),
    "pairs": lambda path, out: pairs(path, out / "pairs.parquet", by="prompt"),
    "select": lambda path, out: select(path, out / "chosen.parquet", by="prompt", keep="all"),
    "report": lambda path, out: report(path, out / "page.html", by="prompt"),
}


def written(path, *, page="1.0", codec="none", dictionary=False, checksum=True):
    pq.write_table(
        TABLE,
        path,
        write_page_checksum=checksum,
        data_page_version=page,
        compression=codec,
        use_dictionary=dictionary,
        data_page_size=4000,
        row_group_size=ROWS // 2,
    )


def flip(path, column, *, dictionary=False, group=1):
    """Change a bit in the last bytes of a column chunk, or in those of its dictionary."""
    chunk = pq.read_metadata(path).row_group(group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    place = chunk.data_page_offset - 3 if dictionary else start + chunk.total_compressed_size - 3
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("page", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_a_page_that_is_not_what_its_checksum_says_is_never_scored(
    tmp_path, page, codec, dictionary
):
    path = tmp_path / "rows.parquet"
    written(path, page=page, codec=codec, dictionary=dictionary)
    for layout in ("narrow", "wide"):
        assert gs.score(path, tmp_path / layout, by="prompt", layout=layout).rows == ROWS
    flip(path, 2, dictionary=dictionary)
    for layout in ("narrow", "wide"):
        with pytest.raises(OSError, match=r"rows\.parquet.*damaged"):
            gs.score(path, tmp_path / f"{layout} again", by="prompt", layout=layout)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("column", [0, 2])
def test_no_command_takes_ids_or_rewards_from_a_damaged_page(tmp_path, door, column):
    path = tmp_path / "rows.parquet"
    written(path)
    flip(path, column)
    with pytest.raises(OSError, match=r"rows\.parquet.*damaged"):
        DOORS[door](path, tmp_path)


def test_a_damaged_page_of_a_column_that_is_only_copied_is_noticed(tmp_path):
    path = tmp_path / "rows.parquet"
    written(path)
    flip(path, 1)
    with pytest.raises(OSError, match=r"rows\.parquet.*damaged"):
        gs.score(path, tmp_path / "wide", by="prompt")
    assert gs.score(path, tmp_path / "narrow", by="prompt", layout="narrow").rows == ROWS


def test_a_file_without_checksums_is_read_as_before(tmp_path):
    path = tmp_path / "rows.parquet"
    written(path, checksum=False)
    assert gs.score(path, tmp_path / "out", by="prompt").rows == ROWS


@pytest.mark.parametrize("layout", ["narrow", "wide"])
def test_scores_carry_checksums_that_other_readers_check(tmp_path, layout):
    path, out = tmp_path / "rows.parquet", tmp_path / "out"
    written(path)
    gs.score(path, out, by="prompt", layout=layout)
    found = out / "rows.parquet"
    read = pq.read_table(found, page_checksum_verification=True)
    assert pl.from_arrow(read).equals(pl.read_parquet(found))
    columns = len(read.schema)
    for column in range(columns):
        whole = found.read_bytes()
        flip(found, column, group=0)
        with pytest.raises(OSError, match=r"(?i)checksum|crc"):
            pq.read_table(found, page_checksum_verification=True)
        found.write_bytes(whole)
    flip(found, columns - 2, group=0, dictionary=True)
    with pytest.raises(OSError, match=r"(?i)checksum|crc"):
        pq.read_table(found, page_checksum_verification=True)
