"""Names of 250 bytes, which file systems take, for what is read and for what is written."""

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.formats import WRITERS, write
from gspo_rs.files.best import best
from gspo_rs.files.nested import nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import apply, read_selection, select
from gspo_rs.files.summary import summarize
from gspo_rs.report import report

LONGEST = 250
FRAME = pl.DataFrame(
    {
        "prompt": [f"prompt {i // 4}" for i in range(40)],
        "completion": [f"completion number {i}" for i in range(40)],
        "reward": [i % 7 / 7 for i in range(40)],
    }
)


def long(letter, suffix=""):
    return letter * (LONGEST - len(suffix)) + suffix


@pytest.mark.parametrize("suffix", WRITERS)
def test_legal_names_of_250_bytes_work_in_every_command(tmp_path, suffix):
    source, out = tmp_path / long("n", suffix), tmp_path / "out"
    out.mkdir()
    write(FRAME, source)
    for layout, letter in (("wide", "w"), ("narrow", "v")):
        target = out / long(letter)
        gs.score(source, target, by="prompt", layout=layout)
        gs.score(source, target, by="prompt", layout=layout, estimator="rloo", overwrite=True)
        assert gs.scan(target).collect().height == len(FRAME)
    assert summarize(source, by="prompt")[0].rows == len(FRAME)
    for kind in (".parquet", ".jsonl"):
        assert best(source, out / long("b", kind), by="prompt").rows == 10
        assert pairs(source, out / long("p", kind), by="prompt").rows == 10
        assert nest(source, out / long("l", kind), by="prompt").rows == 10
    chosen = out / long("s", ".parquet")
    select(source, chosen, by="prompt", keep="all")
    assert apply(read_selection(chosen)).collect().height == len(FRAME)
    report(source, out / long("r", ".html"), by="prompt")
    assert {len(path.name) for path in out.iterdir()} == {LONGEST}
