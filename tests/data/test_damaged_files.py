"""Files that lack a part: no command gives fewer rows than their footers promise."""

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.data.prompt_table import prompts
from gspo_rs.files.best import best
from gspo_rs.files.nested import nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import apply, read_selection, select
from gspo_rs.files.summary import summarize
from gspo_rs.report import report

ROWS = 1600
FRAME = pl.DataFrame(
    {
        "prompt": [f"prompt {i // 8}" for i in range(ROWS)],
        "completion": [f"completion number {i}" for i in range(ROWS)],
        "reward": [i % 7 / 7 for i in range(ROWS)],
    }
)
WRITERS = {
    ".parquet": lambda path, codec: FRAME.write_parquet(
        path, row_group_size=200, compression=codec
    ),
    ".arrow": lambda path, codec: FRAME.write_ipc(path, record_batch_size=200, compression=codec),
}
# Fractions of the file: where the part begins that is gone, and how much it is.
CUTS = [(0.1, 0.25), (0.2, 0.5), (0.35, 0.25), (0.5, 0.25), (0.7, 0.05)]


def middle_gone(whole, start, size):
    first = round(start * len(whole) / 8) * 8
    return whole[:first] + whole[first + round(size * len(whole) / 8) * 8 :]


def middle_zeroed(whole, start, size):
    first, n = round(start * len(whole)), round(size * len(whole))
    return whole[:first] + b"\0" * n + whole[first + n :]


def middle_swapped(whole, start, size):
    first, n = round(start * len(whole)), round(size * len(whole)) // 2
    a, b = whole[first : first + n], whole[first + n : first + 2 * n]
    return whole[:first] + b + a + whole[first + 2 * n :]


def scored(path, out):
    gs.score(path, out / "scores", by="prompt", layout="narrow")
    return pl.read_parquet(out / "scores" / "*.parquet").height


def of_a_lazy_frame(path, out):
    scan = pl.scan_parquet if path.suffix == ".parquet" else pl.scan_ipc
    return gs.score(scan(path), out / "scores", by="prompt", layout="narrow").rows


def selected(path, out):
    select(path, out / "chosen.parquet", by="prompt", keep="all")
    return apply(read_selection(out / "chosen.parquet")).collect().height


def reported(path, out):
    report(path, out / "page.html", by="prompt")
    return ROWS if f"{ROWS:,}" in (out / "page.html").read_text() else 0


def trained_on(path, out, **options):
    read = data.rollouts(path, by="prompt", spill_directory=out, **options)
    return sum(batch.n_rollouts for batch in read)


# How many rows each door lets in; all are 1 600.
DOORS = {
    "score": scored,
    "score of a LazyFrame": of_a_lazy_frame,
    "score wide": lambda path, out: gs.score(path, out / "scores", by="prompt").rows,
    "stats": lambda path, _: summarize(path, by="prompt")[0].rows,
    "index": lambda path, _: data.index_groups(path, by="prompt").n_rollouts,
    "rollouts": trained_on,
    "shuffled rollouts": lambda path, out: trained_on(path, out, shuffle=True),
    "prompts": lambda path, _: len(prompts(path)),
    "best": lambda path, out: 8 * best(path, out / "best.parquet", by="prompt").rows,
    "pairs": lambda path, out: 8 * pairs(path, out / "pairs.parquet", by="prompt").rows,
    "lists": lambda path, out: 8 * nest(path, out / "lists.parquet", by="prompt").rows,
    "select": selected,
    "report": reported,
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("door", DOORS)
def test_a_whole_file_comes_whole_through_every_door(tmp_path, suffix, door):
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, "zstd")
    assert DOORS[door](path, tmp_path) == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("codec", ["zstd", "uncompressed"])
@pytest.mark.parametrize("door", DOORS)
def test_a_file_without_its_middle_never_gives_fewer_rows(tmp_path, suffix, codec, door):
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, codec)
    whole = path.read_bytes()
    refused = 0
    for number, (start, size) in enumerate(CUTS):
        path.write_bytes(middle_gone(whole, start, size))
        out = tmp_path / str(number)
        out.mkdir()
        try:
            assert DOORS[door](path, out) == ROWS, (start, size)
        except OSError as error:
            assert "rows" + suffix in str(error) or "LazyFrame" in str(error)  # noqa: PT017
            refused += 1
    assert refused >= len(CUTS) - 1
