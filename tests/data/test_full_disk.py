"""A disk without room: one line that names the output, and nothing left behind."""

import errno
import os

import polars as pl
import pytest

from fixtures.forked import finished
from gspo_rs.data.full_disk import is_full, naming
from gspo_rs.files import atomic

# A limit of the process stands for a disk: no file may be longer.
PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from gspo_rs.cli import main
main()
"""
TRUTH = ["--ground-truth", "answer", "--data-source", "sums"]
BY = ["--by", "id"]
WORKS = {
    "best": ["best", "a.parquet", "-o", "out.parquet", *BY],
    "best of lines": ["best", "a.jsonl", "-o", "out.jsonl", *BY],
    "pairs": ["pairs", "a.parquet", "-o", "out.jsonl", *BY],
    "filter": ["filter", "a.parquet", "-o", "out.parquet", *BY, "--keep", "best:1"],
    "filter narrow": [
        *["filter", "a.parquet", "-o", "out.parquet", *BY, "--keep", "best:1", "--layout", "narrow"]
    ],
    "nest": ["nest", "a.parquet", "-o", "out.parquet", *BY],
    "explode": ["explode", "lists.parquet", "-o", "out.parquet"],
    "verl": ["verl", "a.parquet", "-o", "out.parquet", *BY, *TRUTH],
    "report": ["report", "a.parquet", "-o", "out.html", *BY],
    "score": ["score", "a.parquet", "-o", "out", *BY],
    "score narrow": ["score", "a.parquet", "-o", "out", *BY, "--layout", "narrow"],
    "score lines": ["score", "a.jsonl", "-o", "out", *BY],
    "score text": ["score", "a.csv", "-o", "out", *BY],
    "score kept rows": ["score", "a.parquet", "-o", "out", *BY, "--keep", "top:0.5"],
    "score kept rows narrow": [
        *["score", "a.parquet", "-o", "out", *BY, "--keep", "top:0.5", "--layout", "narrow"]
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows in three formats, and groups as lists."""
    path = tmp_path_factory.mktemp("full")
    n = 4000
    frame = pl.DataFrame(
        {
            "id": [f"{row // 4}" for row in range(n)],
            "prompt": [f"{row // 4 * 7919} is?" for row in range(n)],
            "completion": [f"{hash((row, 1))} {hash((row, 2))}" for row in range(n)],
            "answer": [f"{row // 4}" for row in range(n)],
            "reward": [(row * 7919 % 4999) / 4999 for row in range(n)],
        }
    )
    frame.write_parquet(path / "a.parquet")
    frame.write_csv(path / "a.csv")
    frame.write_ndjson(path / "a.jsonl")
    frame.group_by("id", maintain_order=True).agg(pl.all()).write_parquet(path / "lists.parquet")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_full_disk_is_told_as_the_outputs_and_not_as_the_sources(folder, name):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    found = finished(*WORKS[name], code=PROGRAM.format(limit=2000), cwd=folder)
    assert found.returncode == 2, found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith("error: cannot write ")
    target = next(word for word in WORKS[name] if word.startswith("out"))
    assert target in found.stderr
    assert os.strerror(errno.EFBIG) in found.stderr
    assert "read" not in found.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_whatever_met_it_it_is_named_and_nothing_is_left(tmp_path, number):
    told = f"External: {os.strerror(number)} (os error {number})"
    for error in (OSError(number, os.strerror(number)), RuntimeError(told)):
        assert is_full(error)
        for writer in (atomic.file, atomic.directory):

            def write(writer=writer, error=error):
                with writer(tmp_path / "out"):
                    raise error

            with pytest.raises(OSError, match=f"cannot write .*out: {os.strerror(number)}"):
                write()
        assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are():
    for error in (OSError(errno.EACCES, "no"), ValueError("os error 28"), KeyError(28)):
        with pytest.raises(type(error)) as raised, naming("out"):
            raise error
        assert raised.value is error
