"""The schema of Arrow that a writer keeps in the footer: taken over, with the scores behind it."""

import base64
import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs

KEY = b"ARROW:schema"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.dictionary(pa.int32(), pa.string())),
        pa.field("text", pa.large_string(), metadata={"unit": "letters"}),
        pa.field("tokens", pa.list_(pa.field("token", pa.int16()))),
        pa.field("at", pa.timestamp("ms", tz="Europe/Vienna")),
        pa.field("reward", pa.float64()),
    ],
    metadata={"made": "by hand"},
)
ROW = {"id": "a", "text": "x", "tokens": [1, 2], "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}


def kept(path):
    """The schema as PyArrow reads it from the footer, without those of the columns of Parquet."""
    value = pq.read_metadata(path).metadata[KEY]
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value)))


def test_columns_keep_the_types_names_and_notes_that_their_writer_gave_them(tmp_path):
    rows = [ROW | {"reward": reward} for reward in (0.0, 1.0)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="id", layout="wide")
    found, before = kept(tmp_path / "out/a.parquet"), kept(tmp_path / "a.parquet")
    assert list(found)[: len(before)] == list(before)
    for field in before:
        assert found.field(field.name).equals(field, check_metadata=True)
    assert found.metadata == before.metadata
    scores = list(found)[len(before) :]
    assert {field.name: str(field.type) for field in scores} == {
        **dict.fromkeys(("rank", "percentile", "advantage", "group_mean", "group_std"), "double"),
        "group_size": "int64",
    }
    assert pq.read_table(tmp_path / "out/a.parquet").column("tokens").to_pylist() == [[1, 2]] * 2


@pytest.mark.parametrize("begins", [b"%%%%", b"AAAA", b"/////w=="])
def test_one_that_cannot_be_read_is_refused_by_the_name_of_its_file(tmp_path, begins):
    table = pa.table({"id": ["a", "a"], "reward": [0.0, 1.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    value = pq.read_metadata(tmp_path / "a.parquet").metadata[KEY]
    whole = (tmp_path / "a.parquet").read_bytes()
    assert whole.count(value) == 1
    broken = begins + value[len(begins) :]
    (tmp_path / "a.parquet").write_bytes(whole.replace(value, broken))
    with pytest.raises((OSError, ValueError), match=r"a\.parquet"):
        gs.score(tmp_path / "a.parquet", tmp_path / "out", by="id", layout="wide")
    assert not (tmp_path / "out").exists()
