"""No file is replaced that nobody asked to replace, and never one that is read."""

import os
from pathlib import Path

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.forked import finished
from gspo_rs.files import best as best_module
from gspo_rs.files.best import best
from gspo_rs.files.filters import filter_rows
from gspo_rs.files.nested import explode, nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import select, write_selection
from gspo_rs.files.verl import verl
from gspo_rs.report import report

FRAME = pl.DataFrame(
    {
        "id": list("aabb"),
        "prompt": list("ppqq"),
        "completion": list("wxyz"),
        "answer": list("1122"),
        "reward": [0.0, 1.0, 1.0, 2.0],
    }
)
LISTS = FRAME.group_by("id", maintain_order=True).agg(pl.all())
TRUTH = {"ground_truth": "answer", "data_source": "sums"}
FUNCTIONS = {
    "best": lambda source, target, **o: best(source, target, by="id", **o),
    "pairs": lambda source, target, **o: pairs(source, target, by="id", **o),
    "filter": lambda source, target, **o: gs.filter(source, target, by="id", keep="best:1", **o),
    "select": lambda source, target, **o: select(source, target, by="id", keep="best:1", **o),
    "write_selection": lambda source, target, **o: write_selection(
        source=source, target=target, rows=[0], n_rows=4, **o
    ),
    "nest": lambda source, target, **o: nest(source, target, by="id", **o),
    "explode": lambda source, target, **o: explode(source, target, **o),
    "scan": lambda source, target, **o: gs.scan(source, target, **o),
    "verl": lambda source, target, **o: verl(source, target, by="id", **TRUTH, **o),
    "report": lambda source, target, **o: report(source, target, by="id", **o),
}
COMMANDS = {
    "best": ["--by", "id"],
    "pairs": ["--by", "id"],
    "filter": ["--by", "id", "--keep", "best:1"],
    "nest": ["--by", "id"],
    "explode": [],
    "scan": [],
    "verl": ["--by", "id", "--ground-truth", "answer", "--data-source", "sums"],
}


@pytest.fixture
def source(tmp_path):
    """A folder of two files of rows, and one of groups as lists."""
    for name in "ab":
        FRAME.write_parquet(tmp_path / f"{name}.parquet")
    LISTS.write_parquet(tmp_path / "lists.parquet")
    return tmp_path


def source_of(name, folder):
    return folder / ("lists.parquet" if name == "explode" else "a.parquet")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_replaces_a_file_only_with_overwrite(source, name, monkeypatch):
    target = source / "out.parquet"
    target.write_bytes(b"years of work")
    with monkeypatch.context() as patch:
        patch.setattr(pl.LazyFrame, "collect", lambda *_, **__: pytest.fail("work was done"))
        with pytest.raises(FileExistsError, match=r"out\.parquet is there already; .*--overwrite"):
            FUNCTIONS[name](source_of(name, source), target)
    assert target.read_bytes() == b"years of work"
    FUNCTIONS[name](source_of(name, source), target, overwrite=True)
    assert target.read_bytes() != b"years of work"
    assert sorted(path.name for path in source.iterdir()) == [
        "a.parquet",
        "b.parquet",
        "lists.parquet",
        "out.parquet",
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("spelling", ["as it is", "dotted", "link", "hard link", "linked folder"])
def test_a_file_that_is_read_is_not_replaced_even_with_overwrite(source, name, spelling):
    given = source_of(name, source)
    before = given.read_bytes()
    (source / "sub").mkdir()
    (source / "link.parquet").symlink_to(given.name)
    os.link(given, source / "hard.parquet")
    (source / "here").symlink_to(".")
    target = {
        "as it is": given,
        "dotted": source / "sub" / ".." / given.name,
        "link": source / "link.parquet",
        "hard link": source / "hard.parquet",
        "linked folder": source / "here" / given.name,
    }[spelling]
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"is (one of the files to read|a file of the source)"):
            FUNCTIONS[name](given, target, overwrite=overwrite)
    # The source may be given by a link as well.
    with pytest.raises(ValueError, match=r"is (one of the files to read|a file of the source)"):
        FUNCTIONS[name](source / "link.parquet", given, overwrite=True)
    assert given.read_bytes() == before
    assert target.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_an_unquoted_glob_replaces_no_input(source, name):
    FRAME.write_parquet(source / "c.parquet")
    before = {path: path.read_bytes() for path in source.iterdir()}
    for names in ("ab", "abc"):
        for more in ([], ["--overwrite"]):
            files = [source / f"{name}.parquet" for name in names]
            finished(name, *files, *COMMANDS[name], *more, cwd=source)
    assert {path: path.read_bytes() for path in source.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_replaces_a_file_only_with_overwrite(source, name):
    given, target = source_of(name, source), source / "out.parquet"
    target.write_bytes(b"years of work")
    refused = finished(name, given, "-o", target, *COMMANDS[name])
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert target.read_bytes() == b"years of work"
    done = finished(name, given, "-o", target, *COMMANDS[name], "--overwrite")
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(target).height


@pytest.mark.slow
def test_a_report_turns_no_file_into_a_page(source):
    before = (source / "b.parquet").read_bytes()
    more = ["--by", "id", "-o", "b.parquet"]
    found = finished("report", "a.parquet", *more, cwd=source)
    assert found.returncode == 2
    assert "b.parquet is there already" in found.stderr
    assert (source / "b.parquet").read_bytes() == before
    assert finished("report", "a.parquet", "--by", "id", cwd=source).returncode == 0
    assert finished("report", "a.parquet", "--by", "id", cwd=source).returncode == 2
    assert finished("report", "a.parquet", "--by", "id", "--overwrite", cwd=source).returncode == 0
    assert finished("report", "b.parquet", "a.parquet", *more, "--overwrite", cwd=source).returncode
    assert (source / "b.parquet").read_bytes() == before


def test_a_file_that_appears_during_the_work_is_not_replaced(source, monkeypatch):
    target = source / "out.parquet"

    def meanwhile(*arguments):
        target.write_bytes(b"of another process")
        return filter_rows(*arguments)

    monkeypatch.setattr(best_module, "filter_rows", meanwhile)
    with pytest.raises(FileExistsError, match="another process has written"):
        best(source / "a.parquet", target, by="id")
    assert target.read_bytes() == b"of another process"
    assert not list(source.glob(".partial*"))


def test_a_folder_of_scores_is_replaced_only_with_overwrite(source):
    out = source / "out"
    gs.score(source / "a.parquet", out, by="id")
    before = gs.verify(out)
    assert gs.score(source / "a.parquet", out, by="id").skipped == 1  # the same request again
    for changed in ({"estimator": "zscore"}, {"layout": "narrow"}, {"resume": False}):
        with pytest.raises(FileExistsError, match=r"out holds an output .*--overwrite"):
            gs.score(source / "a.parquet", out, **{"by": "id", **changed})
    with pytest.raises(FileExistsError, match=r"out holds an output"):
        gs.score(source / "b.parquet", out, by="id")
    assert gs.verify(out) == before
    assert not list(source.glob(".*"))
    gs.score(source / "b.parquet", out, by="id", overwrite=True)
    assert gs.verify(out).inputs[0].path.endswith("b.parquet")
    (out / "b.parquet").write_bytes(b"edited")
    with pytest.raises(FileExistsError, match=r"or one that has changed since"):
        gs.score(source / "b.parquet", out, by="id")
    assert (out / "b.parquet").read_bytes() == b"edited"


@pytest.mark.slow
def test_score_with_a_forgotten_target_replaces_no_input(source):
    before = {path: path.read_bytes() for path in source.iterdir()}
    found = finished("score", *sorted(source.glob("[ab].parquet")), "--by", "id", "--overwrite")
    assert found.returncode == 2
    assert "`score` needs -o" in found.stderr
    assert f"a.parquet {source}/b.parquet --by id --overwrite -o scored" in (found.stderr)
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_the_device_of_nothing_stays(source):
    """Root could rename a file over it."""
    kind = Path("/dev/null").stat()
    with pytest.raises(OSError, match="neither a file nor a folder"):
        report(source / "a.parquet", "/dev/null", by="id", overwrite=True)
    assert Path("/dev/null").stat().st_rdev == kind.st_rdev


FRAMES = ("best", "pairs", "nest", "filter", "scan", "verl", "report")


@pytest.mark.parametrize("name", FRAMES)
def test_a_file_that_a_lazyframe_reads_is_not_replaced(source, name):
    given = source / "a.parquet"
    before = given.read_bytes()
    query = pl.scan_parquet(given).filter(pl.col("reward") >= 0)
    for frame in (query, pl.concat([pl.scan_parquet(source / "b.parquet"), query])):
        with pytest.raises(ValueError, match="is one of the files to read"):
            FUNCTIONS[name](frame, given, overwrite=True)
    with pytest.raises(ValueError, match=r"may be one of the files that the LazyFrame reads; give"):
        FUNCTIONS[name](pl.scan_parquet(f"{source}/[ab].parquet"), given, overwrite=True)
    assert given.read_bytes() == before
    FUNCTIONS[name](query, source / "b.parquet", overwrite=True)
    FUNCTIONS[name](FRAME, source / "b.parquet", overwrite=True)
    assert name == "scan" or (source / "b.parquet").read_bytes() != before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_page_for_a_pipe_is_refused_by_name(source, overwrite):
    os.mkfifo(source / "pipe")
    with pytest.raises(OSError, match=r"pipe is neither a file nor a folder.* name a file"):
        report(source / "a.parquet", source / "pipe", by="id", overwrite=overwrite)
    found = finished("report", source / "a.parquet", "--by", "id", "-o", "/dev/stdout")
    assert found.returncode == 2
    assert "/dev/stdout is neither a file nor a folder, but a device" in found.stderr
