"""Files found by names, patterns and folders: each once, whatever links and names there are."""

import glob
import os
from pathlib import Path

import polars as pl
import pytest

import gspo_rs as gs
from fixtures import formats
from gspo_rs.data.found import find
from gspo_rs.data.group_index import index_groups
from gspo_rs.data.paths import files_of
from gspo_rs.data.source import locate
from gspo_rs.data.walk import matching
from gspo_rs.files import selection

NAMES = [
    "run[1]",
    "a*b",
    "a?b",
    "{x}",
    "%20",
    "a b",
    "x\ny",
    "-n",
    "~",
    "$HOME",
    "é",
    "[!a]",
    "^a.*$",
]


def write(path, value=0.0):
    return formats.write(pl.DataFrame({"id": ["a", "a"], "reward": [value, 1.0]}), path)


@pytest.fixture
def looped(tmp_path):
    """Ten files in folders whose links lead back to the top, to one another and upwards."""
    root = tmp_path / "in"
    for i in range(10):
        write(root / f"d{i % 3}" / "e" / f"f{i}.jsonl")
    (root / "d0" / "up").symlink_to("..")
    (root / "d1" / "e" / "top").symlink_to(root)
    (root / "d2" / "other").symlink_to(root / "d1")
    return root


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.jsonl", "/**/e/*.jsonl", "/**/**/*.jsonl"])
def test_a_loop_of_links_is_not_followed(looped, pattern):
    source = f"{looped}{pattern}"
    assert len(files_of([source])) == 10
    assert index_groups(source, by="id").n_rollouts == 20
    assert gs.score(source, looped.parent / "out", by="id").rows == 20


@pytest.mark.parametrize("pattern", ["**/*.jsonl", "**", "*/e/*.jsonl", "./**/f1.jsonl", "d?/**"])
def test_a_pattern_matches_what_python_matches_without_links(tmp_path, monkeypatch, pattern):
    for name in ("a.jsonl", "d1/e/f1.jsonl", "d2/e/f1.jsonl", "d2/.hid/x.jsonl", "d[3]/q.jsonl"):
        write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for given in (pattern, f"{tmp_path}/{pattern}"):
        found = [file for file in matching(given) if Path(file).is_file()]
        expected = glob.glob(given, recursive=True)  # noqa: PTH207
        expected = [file for file in expected if Path(file).is_file()]
        assert sorted(map(os.path.abspath, found)) == sorted(map(os.path.abspath, expected))


def test_a_folder_behind_a_link_is_read(tmp_path):
    write(tmp_path / "store" / "x.parquet")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "store")
    for source in (tmp_path / "in", f"{tmp_path}/in/**/*.parquet"):
        assert files_of([str(source)]) == [f"{tmp_path}/in/linked/x.parquet"]


def test_a_file_that_two_patterns_match_is_read_once(tmp_path, monkeypatch, caplog):
    root = tmp_path / "in" / "of"
    write(root / "run1.jsonl")
    write(root / "run2.jsonl")
    (tmp_path / "in" / "link").symlink_to(root)
    monkeypatch.chdir(root)
    link = "../link/run1.jsonl"
    for again in ("run1.jsonl", "./run1.jsonl", "run1*", str(root), link, "../*/run1.jsonl"):
        caplog.clear()
        source = ["run*.jsonl", again]
        assert index_groups(source, by="id").n_rollouts == 4
        assert "run1.jsonl" in caplog.text
        assert "read once" in caplog.text
        assert gs.score(source, tmp_path / "out", by="id").rows == 4
    caplog.clear()
    index_groups(["run1.jsonl", "run2.jsonl"], by="id")
    assert not caplog.text


def test_two_links_to_one_file_are_two_inputs(tmp_path):
    store = write(tmp_path / "store" / "blob.parquet")
    (tmp_path / "in").mkdir()
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / "in" / name).symlink_to(store)
    assert index_groups(tmp_path / "in", by="id").n_rollouts == 4
    assert gs.score(tmp_path / "in", tmp_path / "out", by="id").rows == 4


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".arrow"])
def test_a_link_of_a_hub_cache_is_read_in_the_format_of_its_name(tmp_path, suffix):
    hub = tmp_path / "hub"
    (hub / "blobs").mkdir(parents=True)
    (hub / "snapshots" / "rev").mkdir(parents=True)
    write(hub / "blobs" / f"x{suffix}").rename(hub / "blobs" / "5e1f")
    link = hub / "snapshots" / "rev" / f"x{suffix}"
    link.symlink_to("../../blobs/5e1f")
    for number, source in enumerate((link, link.parent, hub, f"{hub}/snapshots/*/*")):
        assert index_groups(source, by="id").n_rollouts == 2
        assert gs.score(source, tmp_path / f"out{number}", by="id").rows == 2
        selection.select(source, tmp_path / f"chosen{number}.parquet", by="id", keep="all")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".arrow"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_file_is_no_pattern(tmp_path, monkeypatch, suffix, name):
    monkeypatch.chdir(tmp_path)
    for other in ("run1", "axb", "x", " ", "a", "b"):
        write(tmp_path / f"{other}{suffix}", 9.0)
    write(tmp_path / f"{name}{suffix}", 0.25)
    for number, source in enumerate((f"{name}{suffix}", tmp_path / f"{name}{suffix}")):
        assert locate(source).frame.collect()["reward"].to_list() == [0.25, 1.0]
        for layout in ("wide", "narrow"):
            out = tmp_path / f"out{number}{layout}"
            gs.score(source, out, by="id", layout=layout)
            assert gs.scan(out).collect()["reward"].to_list() == [0.25, 1.0]
    whole = locate(tmp_path / f"*{suffix}")
    assert len(whole.files) == 7
    assert whole.frame.collect().height == 14


def test_a_name_that_is_no_text_is_refused(tmp_path):
    path = os.fsencode(tmp_path) + b"/x\xff.jsonl"
    try:
        Path(os.fsdecode(path)).write_bytes(b'{"id": "a", "reward": 1}\n')
    except OSError:
        pytest.skip("the file system takes no such name")
    with pytest.raises(ValueError, match="no UTF-8"):
        index_groups(tmp_path, by="id")


@pytest.mark.parametrize("pattern", ["", "/**/*.jsonl", "/**"])
def test_files_in_a_folder_that_cannot_be_read_do_not_vanish(tmp_path, monkeypatch, pattern):
    write(tmp_path / "in" / "a" / "x.jsonl")
    write(tmp_path / "in" / "closed" / "y.jsonl")
    scandir = os.scandir

    def closed(path="."):
        if str(path).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError, match="closed"):
        files_of([f"{tmp_path}/in{pattern}"])


def test_an_output_below_the_files_that_were_scored_is_not_read_with_them(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pl.DataFrame({"id": ["a", "a"], "reward": [0.0, 1.0]}).write_parquet(folder / "x.parquet")
    gs.score(folder, folder / "out", by="id")
    words = r"out is an output of `gspo-rs score`, whose rows would come twice beside .*x\.parquet"
    for source in (folder, f"{folder}/**/*.parquet", [folder / "x.parquet", folder / "out"]):
        with pytest.raises(ValueError, match=words):
            find(source)
    assert len(files_of([str(folder / "out")])) == 1
    (folder / "out" / "_manifest.parquet").unlink()
    (folder / "out" / "manifest.json").write_text('{"files": []}')  # another program's
    assert len(files_of([str(folder)])) == 2
