"""Standard input as a source: read once, twice over, by every reader."""

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.data.source import locate

FRAME = pl.DataFrame(
    {
        "id": ["a", "b", "a", "b"],
        "prompt": ["p", "q", "p", "q"],
        "completion": ["x", "y", "z", ""],
        "reward": [0.0, 1.0, 0.5, None],
    }
)


@pytest.fixture
def given(monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def test_rows_of_standard_input_are_those_of_a_file_however_often_they_are_read(given, tmp_path):
    given(FRAME.write_ndjson().encode())
    assert data.scan("-").collect().equals(FRAME)
    assert [batch.completions for batch in data.rollouts("-", by="id")] == [["x", "z", "y", ""]]
    gs.score("-", tmp_path / "out", by="id")
    expected = gs.score(FRAME, tmp_path / "expected", by="id")
    assert expected.rows == 4
    found, wanted = (
        pl.read_parquet(tmp_path / name / "scores.parquet") for name in ("out", "expected")
    )
    assert found.to_dicts() == wanted.to_dicts()


def test_an_array_comes_through_standard_input_too(given):
    given(json.dumps(FRAME.to_dicts(), indent=1).encode())
    assert data.scan("-").collect().equals(FRAME)


def test_a_wrong_line_of_standard_input_is_named(given):
    given(b'{"id": 1}\n\n{"id": \n')
    with pytest.raises(OSError, match=r"cannot read stdin: line 3 ends inside a value"):
        locate("-")


def test_a_missing_column_of_standard_input_is_named(given):
    given(b'{"id": 1, "reward": 1}\n{"id": "x", "reward": 1}\n')
    with pytest.raises(TypeError, match=r"text in line 2 of stdin, but an integer in line 1 of"):
        data.index_groups("-", by="id")


def test_parquet_on_standard_input_is_refused(given):
    file = io.BytesIO()
    FRAME.write_parquet(file)
    given(file.getvalue())
    with pytest.raises(ValueError, match="stdin is Parquet; - takes JSON Lines: name the file"):
        locate("-")


def test_nothing_on_standard_input_has_no_rows(given):
    given(b"")
    with pytest.raises(ValueError, match="stdin has no rows"):
        data.index_groups("-", by="id")


def test_a_terminal_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(ValueError, match="- reads JSON Lines from standard input, and none come"):
        locate("-")


def test_standard_input_is_no_source_beside_others(given):
    with pytest.raises(ValueError, match="is a source by itself"):
        locate(["-", "a.parquet"])


def test_standard_input_is_read_by_a_process_from_a_pipe():
    script = "from gspo_rs import data; print(data.index_groups('-', by='id').n_groups)"
    run = subprocess.run(
        [sys.executable, "-c", script],
        input=FRAME.write_ndjson(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "2\n"
