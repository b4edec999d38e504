"""Inputs that are links: read by the names they have, and never written, wherever they point."""

import os
from pathlib import Path

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs.data.paths import spelled
from gspo_rs.files.selection import apply, read_selection, select

FRAME = pl.DataFrame(
    {"id": ["a", "a", "b", "b"], "reward": [0.0, 1.0, 1.0, 2.0], "t": list("wxyz")}
)


def snapshot(root, *outside):
    """Name, kind, bytes or link, mode and time of all below a folder but what is in `outside`."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        if any(path == one or path.is_relative_to(one) for one in outside):
            continue
        if path.is_symlink():
            held = path.readlink()
        else:
            held = path.read_bytes() if path.is_file() else None
        status = path.lstat()
        time = None if path == root else status.st_mtime_ns
        found[str(path)] = (held, status.st_mode, time)
    return found


@pytest.fixture
def store(tmp_path):
    """Two files elsewhere, read by nothing but links."""
    (tmp_path / "store").mkdir()
    for name in "xy":
        FRAME.write_parquet(tmp_path / "store" / f"{name}.parquet")
        (tmp_path / "store" / f"{name}.parquet").chmod(0o640)
    (tmp_path / "in").mkdir()
    return tmp_path


def link(path, to):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(to, path.parent))


def names(folder):
    files = (path for path in folder.rglob("*.parquet") if path.name != "_manifest.parquet")
    return sorted(str(path.relative_to(folder)) for path in files)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("given", ["folder", "glob", "files", "relative", "dotted", "above"])
def test_a_source_that_is_a_link_is_never_written(store, monkeypatch, layout, given):
    link(store / "in" / "a.parquet", store / "store" / "x.parquet")
    link(store / "in" / "sub" / "b.parquet", store / "store" / "y.parquet")
    FRAME.write_parquet(store / "in" / "c.parquet")
    monkeypatch.chdir(store / "in")
    source = {
        "folder": store / "in",
        "glob": f"{store}/in/**/*.parquet",
        "files": [store / "in" / name for name in ("a.parquet", "sub/b.parquet", "c.parquet")],
        "relative": ".",
        "dotted": store / "in" / "sub" / ".." / ".." / "in",
        "above": "../in/**/*.parquet",
    }[given]
    before = snapshot(store)
    gs.score(source, store / "out", by="id", layout=layout)
    assert snapshot(store, store / "out") == before
    assert names(store / "out") == ["a.parquet", "c.parquet", "sub/b.parquet"]
    assert gs.verify(store / "out").rows == 12
    assert gs.scan(store / "out").select("t").collect()["t"].to_list() == list("wxyz") * 3


def test_two_links_to_one_file_are_two_inputs(store):
    for name in ("a", "b"):
        link(store / "in" / f"{name}.parquet", store / "store" / "x.parquet")
    before = snapshot(store)
    assert gs.score(store / "in", store / "out", by="id").rows == 8
    assert names(store / "out") == ["a.parquet", "b.parquet"]
    assert snapshot(store, store / "out") == before


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_a_hub_cache_whose_blobs_have_no_suffix_is_read(store, layout):
    hub = store / "hub" / "datasets--x"
    (hub / "blobs").mkdir(parents=True)
    (store / "store" / "x.parquet").rename(hub / "blobs" / "4f2a")
    link(hub / "snapshots" / "rev" / "data" / "x.parquet", hub / "blobs" / "4f2a")
    before = snapshot(store)
    gs.score(hub / "snapshots" / "rev", store / "out", by="id", layout=layout)
    assert names(store / "out") == ["data/x.parquet"]
    assert gs.scan(store / "out").collect().height == 4
    assert snapshot(store, store / "out") == before
    chosen = store / "chosen.parquet"
    select(hub / "snapshots" / "rev" / "data" / "x.parquet", chosen, by="id", keep="best:1")
    assert apply(read_selection(chosen)).collect()["t"].to_list() == ["x", "z"]


def test_a_folder_that_is_a_link_is_named_as_it_was_given(store):
    link(store / "here", store / "store")
    gs.score(f"{store}/here/*.parquet", store / "out", by="id")
    assert names(store / "out") == ["x.parquet", "y.parquet"]
    link(store / "in" / "run" / "deep", store / "store")
    gs.score(f"{store}/in/*/deep/*.parquet", store / "out2", by="id")
    assert names(store / "out2") == ["run/deep/x.parquet", "run/deep/y.parquet"]


def test_a_name_that_leads_out_of_the_output_is_refused(store):
    link(store / "in" / "a", store / "store")
    (store / "other").mkdir()
    FRAME.write_parquet(store / "other" / "z.parquet")
    before = snapshot(store)
    with pytest.raises(ValueError, match=r"z\.parquet would be written as \.\..*outside"):
        gs.score(f"{store}/in/*/../other/*.parquet", store / "out", by="id")
    assert snapshot(store) == before


@pytest.mark.parametrize("how", ["link in the target", "link to the target"])
def test_an_input_in_the_output_is_found_through_links(store, how):
    gs.score(store / "store", store / "out", by="id")
    if how == "link in the target":
        link(store / "out" / "in.parquet", store / "store" / "x.parquet")
        source = store / "out" / "in.parquet"
    else:
        link(store / "in" / "a.parquet", store / "out" / "x.parquet")
        source = store / "in"
    before = snapshot(store)
    with pytest.raises(ValueError, match="lies in the output"):
        gs.score(source, store / "out", by="id")
    assert snapshot(store) == before


def test_a_path_is_spelled_as_given_and_its_dots_are_those_of_the_disk(store, monkeypatch):
    link(store / "link", store / "store")
    monkeypatch.chdir(store)
    assert spelled("link/x.parquet") == f"{store}/link/x.parquet"
    assert spelled("./in//b") == f"{store}/in/b"
    assert spelled("link/../in/b") == os.path.realpath(store / "in") + "/b"
    (store / "deep" / "er").mkdir(parents=True)
    link(store / "far", store / "deep" / "er")
    assert spelled(Path("far/../x")) == os.path.realpath(store / "deep") + "/x"


@pytest.mark.parametrize("given", ["in", "in/*.parquet", "in/**", "**/*.parquet"])
@pytest.mark.parametrize("to", ["gone.parquet", "in/lost.parquet"])
def test_a_link_to_nothing_is_never_passed_over_as_if_it_had_no_rows(store, given, to, monkeypatch):
    """As in the cache of a hub of which one file was deleted, or a link to itself."""
    link(store / "in" / "x.parquet", store / "store" / "x.parquet")
    link(store / "in" / "lost.parquet", store / to)
    monkeypatch.chdir(store)
    with pytest.raises(FileNotFoundError, match=r"lost\.parquet is a link to .*not there"):
        gs.score(given, store / "out", by="id")
    assert not (store / "out").exists()
