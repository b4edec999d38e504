"""Tables whose files also hold rows that were deleted: read through their log, or refused."""

import polars as pl
import pytest

from gspo_rs import data
from gspo_rs.data import lakes
from gspo_rs.data.source import locate
from gspo_rs.files import summary

FRAME = pl.DataFrame({"id": ["a", "b", "a", "b"], "reward": [0.0, 1.0, 0.5, 0.25]})


def delta(folder):
    pytest.importorskip("deltalake")
    FRAME.write_delta(folder)
    import deltalake

    deltalake.DeltaTable(folder).delete("reward = 1.0")
    return FRAME.filter(pl.col("reward") != 1.0)


def iceberg(folder):
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog

    uri = {"uri": f"sqlite:///{folder.parent}/c.db", "warehouse": f"file://{folder.parent}"}
    catalog = SqlCatalog("c", **uri)
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema, location=f"file://{folder}")
    table.append(FRAME.to_arrow())
    table.delete("reward = 1.0")
    return FRAME.filter(pl.col("reward") != 1.0)


@pytest.mark.parametrize("make", [delta, iceberg])
def test_a_table_has_the_rows_that_its_log_says(make, tmp_path):
    expected = make(tmp_path / "table")
    found = data.scan(tmp_path / "table").collect()
    assert sorted(found.rows()) == sorted(expected.rows())
    assert summary.summarize(tmp_path / "table", by="id")[0].rows == 3


@pytest.mark.parametrize(
    ("folder", "kind"), [("_delta_log", "delta"), ("metadata/v1.metadata.json", "iceberg")]
)
def test_files_of_a_table_are_never_read_by_themselves(tmp_path, folder, kind):
    table = tmp_path / "tables" / "table"
    place = table / folder
    (place if folder == "_delta_log" else place.parent).mkdir(parents=True)
    if place.suffix:
        place.write_text("{}")
    (table / "data").mkdir()
    FRAME.write_parquet(table / "data" / "part.parquet")
    words = rf"part\.parquet is of the {kind.title()} table .*table, and may hold rows that were"
    for source in (
        table / "data",
        table / "data" / "part.parquet",
        f"{table}/*/*.parquet",
        tmp_path / "tables",
        [table, table / "data" / "part.parquet"],
    ):
        with pytest.raises(ValueError, match=words):
            locate(source)


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_table_without_its_library_names_the_extra(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(lakes, "find_spec", lambda name: None)
    (tmp_path / "_delta_log").mkdir()
    if kind == "iceberg":
        (tmp_path / "_delta_log").rmdir()
        (tmp_path / "metadata").mkdir()
        (tmp_path / "metadata" / "00001-0a1b.metadata.json").write_text("{}")
    FRAME.write_parquet(tmp_path / "part.parquet")
    words = rf"^cannot read .*: it is a table of {kind.title()}, .* pip install 'gspo_rs\[{kind}\]'"
    with pytest.raises(OSError, match=words):
        data.scan(tmp_path)
