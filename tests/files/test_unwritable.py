"""Types that a format does not have, and whatever else Polars raises while it writes."""

import uuid

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fixtures.forked import finished
from gspo_rs.files import nested, verl
from gspo_rs.files.writer import writing

COLUMNS = {
    "uuid": pa.array([uuid.UUID(int=i).bytes for i in range(4)], pa.uuid()),
    "json": pa.array(['{"a":1}', "[]", "1", "null"], pa.json_(pa.string())),
    "binary": pa.array([b"\xff", b"a", None, b""]),
    "binaries": pa.array([[b"\xff"], [], None, [b"a"]]),
    "struct": pa.array([{"b": b"\xff"}, None, {"b": None}, {"b": b"a"}]),
}


@pytest.fixture(params=COLUMNS)
def typed(request, tmp_path):
    """A file of two groups with a column of a rare type, and that column's name."""
    table = pa.table(
        {
            "id": ["a", "a", "b", "b"],
            "prompt": ["p", "p", "q", "q"],
            "completion": COLUMNS[request.param],
            "reward": [0.0, 1.0, 1.0, 0.0],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_column_is_written_as_it_is_or_refused_by_its_name(typed, suffix, tmp_path):
    target = tmp_path / f"out.{suffix}"
    text = str(pl.read_parquet_schema(typed)["completion"]).startswith("Extension")
    if text == (suffix == "jsonl"):
        assert nested.nest(typed, target, by="id").rows == 2
        return
    with pytest.raises(TypeError, match="column 'completion' is List"):
        nested.nest(typed, target, by="id")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["best", "pairs", "nest"])
def test_a_column_that_cannot_be_written_is_told_in_one_line(typed, name, suffix, tmp_path):
    run = finished(name, typed, "-o", tmp_path / f"out.{suffix}", "--by", "id")
    assert run.returncode in (0, 2)
    assert len(run.stderr.splitlines()) == (run.returncode != 0)
    assert "panicked" not in run.stderr


def test_lists_of_bytes_go_to_parquet_and_not_to_json(tmp_path):
    frame = pl.DataFrame({"id": ["a", "a"], "x": [b"\xff", b"a"], "reward": [0.0, 1.0]})
    nested.nest(frame, tmp_path / "out.parquet", by="id")
    assert pl.read_parquet(tmp_path / "out.parquet")["x"].to_list() == [[b"\xff", b"a"]]
    problem = (
        r"column 'x' is List\(Binary\), which .*out\.jsonl cannot hold \(a \.parquet file can\)"
    )
    with pytest.raises(TypeError, match=problem):
        nested.nest(frame, tmp_path / "out.jsonl", by="id")


@pytest.mark.parametrize(
    "error", [pl.exceptions.ComputeError("odd"), pl.exceptions.PanicException("odd")]
)
def test_whatever_polars_raises_while_writing_names_the_target(error, tmp_path):
    with (
        pytest.raises(OSError, match=r"cannot write .*out\.parquet: odd"),
        writing(tmp_path / "out.parquet"),
    ):
        raise error


def test_a_ground_truth_that_is_no_text_is_named(tmp_path):
    frame = pl.DataFrame(
        {"id": ["a", "a"], "prompt": ["p", "p"], "answer": [b"\xff"] * 2, "reward": [0.0, 1.0]}
    )
    out = tmp_path / "out.jsonl"
    with pytest.raises((TypeError, ValueError, OSError), match=r"answer"):
        verl.verl(frame, out, by="id", ground_truth="answer", data_source="mine")
    assert not out.exists()
