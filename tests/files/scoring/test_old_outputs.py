"""Outputs that an earlier version wrote, with a manifest of JSON: read, kept, replaced."""

import logging

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.old_outputs import as_before
from gspo_rs.data.paths import files_of

FRAME = pl.DataFrame({"id": ["a", "a", "b"], "reward": [0.0, 1.0, 1.0], "text": ["x", "y", "z"]})


@pytest.fixture(params=["wide", "narrow"])
def output(request, tmp_path):
    """The folder of an output of an earlier version, and its layout."""
    FRAME.write_parquet(tmp_path / "in.parquet")
    gs.score(tmp_path / "in.parquet", tmp_path / "out", by="id", layout=request.param)
    as_before(tmp_path / "out")
    return tmp_path / "out", request.param


def test_an_output_of_before_is_read_and_verified(output):
    folder, layout = output
    assert gs.scan(folder).collect().select(FRAME.columns).equals(FRAME)
    assert gs.verify(folder).options["layout"] == layout
    assert gs.stats(folder, by="id")[0].groups == 2


def test_an_output_of_before_that_is_asked_for_is_kept_and_said_to_be_of_before(output, caplog):
    folder, layout = output
    with caplog.at_level(logging.WARNING, "gspo_rs"):
        report = gs.score(folder.parent / "in.parquet", folder, by="id", layout=layout)
    assert report.skipped == 1
    assert "manifest.json of an earlier version" in caplog.text
    assert "--overwrite" in caplog.text


def test_overwrite_gives_an_output_of_before_the_manifest_of_now(output):
    folder, layout = output
    before = gs.verify(folder)
    gs.score(folder.parent / "in.parquet", folder, by="id", layout=layout, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["_manifest.parquet", "in.parquet"]
    assert gs.verify(folder) == before


def test_the_manifest_of_an_output_is_no_file_of_rows(output, tmp_path):
    folder, layout = output
    gs.score(tmp_path / "in.parquet", folder, by="id", layout=layout, overwrite=True)
    files = [str(folder / "_manifest.parquet"), str(folder / "in.parquet")]
    assert files_of([f"{folder}/*.parquet"]) == files_of(files) == files[1:]
    words = r"_manifest\.parquet is the manifest of an output or its ledger, .* folder .*out$"
    with pytest.raises(ValueError, match=words):
        gs.scan(files[0])
