"""Parquet files whose footer is damaged, or has more row groups than its numbers can count."""

import random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import gspo_rs as gs

ROWS = 40
FRAME = pl.DataFrame(
    {
        "prompt": [f"prompt {i // 4}" for i in range(ROWS)],
        "completion": [f"completion number {i}" for i in range(ROWS)],
        "tags": [["a", "b"][: i % 3] for i in range(ROWS)],
        "reward": [i % 7 / 7 for i in range(ROWS)],
    }
)


def zigzag(number):
    """The bytes of a whole number of Thrift's compact protocol."""
    rest, found = 2 * number if number >= 0 else -2 * number - 1, b""
    while rest > 0x7F:
        found, rest = found + bytes([rest & 0x7F | 0x80]), rest >> 7
    return found + bytes([rest])


def footer_of(whole):
    """Where the footer of a file begins and ends."""
    end = len(whole) - 8
    return end - int.from_bytes(whole[-8:-4], "little"), end


def with_footer(whole, footer):
    start, _ = footer_of(whole)
    return whole[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def damaged(whole, rng):
    """Change one or two bytes between the first of the footer and the last of the file."""
    found, (start, _) = bytearray(whole), footer_of(whole)
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(start, len(whole))
        found[place] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(found)


def scored(path, target, layout):
    """The rows with their scores, as they lie in the output."""
    gs.score(path, target, by="prompt", layout=layout, overwrite=True)
    found = pl.read_parquet(target / path.name)
    return found if layout == "wide" else pl.concat([FRAME, found], how="horizontal")


def outcome(path, target, layout, right):
    """What came of a damaged file: it is right, or it is refused by name."""
    try:
        found = scored(path, target, layout)
    except (ValueError, TypeError, OSError) as error:
        assert path.name in str(error), error  # noqa: PT017
        return "refused"
    assert_frame_equal(found, right)
    return "right"


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_a_damaged_footer_gives_the_right_scores_or_names_the_file(tmp_path, layout, writer):
    path = tmp_path / "rows.parquet"
    if writer == "polars":
        FRAME.write_parquet(path, row_group_size=10)
    else:
        pq.write_table(FRAME.to_arrow(), path, row_group_size=10, write_page_checksum=True)
    whole = path.read_bytes()
    right = scored(path, tmp_path / "right", layout)
    rng, outcomes = random.Random(7), []
    for number in range(120):
        path.write_bytes(damaged(whole, rng))
        outcomes.append(outcome(path, tmp_path / f"out{number % 2}", layout, right))
    assert outcomes.count("refused") > 20
    assert outcomes.count("right") > 5


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("told", [0, 1, 39, 41, 10**9, -1, -(2**63), 2**63 - 1])
def test_a_footer_that_counts_other_rows_than_its_row_groups_is_refused(tmp_path, layout, told):
    path = tmp_path / "rows.parquet"
    FRAME.write_parquet(path, row_group_size=20)
    whole = path.read_bytes()
    start, end = footer_of(whole)
    footer = whole[start:end]
    # The rows of the file come between its schema and its row groups, of which there are two.
    before, after = b"\x16" + zigzag(ROWS) + b"\x19\x2c", b"\x16" + zigzag(told) + b"\x19\x2c"
    assert footer.count(before) == 1
    path.write_bytes(with_footer(whole, footer.replace(before, after)))
    with pytest.raises(OSError, match=r"rows\.parquet"):
        gs.score(path, tmp_path / "out", by="prompt", layout=layout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("told", [0, 19, 21, -1, 2**40])
def test_a_row_group_that_counts_other_rows_than_its_columns_is_refused(tmp_path, layout, told):
    path = tmp_path / "rows.parquet"
    FRAME.write_parquet(path, row_group_size=20)
    whole = path.read_bytes()
    start, end = footer_of(whole)
    footer = whole[start:end]
    rows, groups = b"\x16" + zigzag(ROWS) + b"\x19\x2c", pq.read_metadata(path)
    size = groups.row_group(0).total_byte_size
    group = b"\x16" + zigzag(size) + b"\x16" + zigzag(20)
    assert footer.count(group) >= 1
    # The sum is true, so that only the columns can tell.
    footer = footer.replace(group, b"\x16" + zigzag(size) + b"\x16" + zigzag(told), 1)
    footer = footer.replace(rows, b"\x16" + zigzag(20 + told) + b"\x19\x2c")
    path.write_bytes(with_footer(whole, footer))
    with pytest.raises(OSError, match=r"rows\.parquet"):
        gs.score(path, tmp_path / "out", by="prompt", layout=layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [pytest.param("wide", marks=pytest.mark.soak), "narrow"])
def test_a_file_of_more_than_32767_row_groups_is_scored(tmp_path, layout):
    n, path = 32_800, tmp_path / "rows.parquet"
    table = pa.table({"id": [i // 4 for i in range(n)], "reward": [i % 4 / 1 for i in range(n)]})
    pq.write_table(table, path, row_group_size=1, write_statistics=False, use_dictionary=False)
    gs.score(path, tmp_path / "out", by="id", layout=layout)
    found = pl.read_parquet(tmp_path / "out" / path.name)
    assert found["rank"].to_list() == [i % 4 + 1 for i in range(n)]
    if layout == "wide":
        assert found.select("id", "reward").to_arrow().equals(table)
