"""A file in, a file out: one Parquet file with its manifest in its metadata."""

import os
import random
import time

import polars as pl
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
from fixtures.commands import call
from fixtures.forked import forked
from fixtures.formats import write
from fixtures.waiting import wait_until
from gspo_rs import data
from gspo_rs.files.scoring import staging
from gspo_rs.files.scoring.staging import Staging

FRAME = pl.DataFrame(
    {
        "id": [f"p{i // 4}" for i in range(200)],
        "prompt": [f"what is {i // 4}?" for i in range(200)],
        "completion": [f"it is {i}" for i in range(200)],
        "reward": [(i * 5 % 8) / 8 for i in range(200)],
    }
)


@pytest.fixture(params=[".parquet", ".jsonl"])
def source(request, tmp_path):
    """A file of rows."""
    return write(FRAME, tmp_path / f"rows{request.param}")


def both(tmp_path, source, **asked):
    """Score into a file and a folder, and return the file and the rows of the folder."""
    gs.score(source, tmp_path / "scored.parquet", by="id", **asked)
    gs.score(source, tmp_path / "folder", by="id", **asked)
    return tmp_path / "scored.parquet", gs.scan(tmp_path / "folder").collect()


def scored(tmp_path, **asked):
    path = write(FRAME, tmp_path / "in" / "rows.parquet")
    gs.score(path, tmp_path / "scored.parquet", by="id", **asked)
    return tmp_path / "scored.parquet"


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("keep", ["all", "informative,top:0.5"])
def test_the_file_stands_for_the_rows_of_the_folder(tmp_path, source, layout, keep):
    file, expected = both(tmp_path, source, layout=layout, keep=keep)
    assert gs.scan(file).collect().equals(expected)
    assert data.scan(file).collect().equals(expected)
    assert gs.verify(file).kept == expected.height
    assert gs.stats(file, by="id")[0].rows == expected.height
    assert gs.best(file, by="id").equals(gs.best(expected, by="id"))
    assert pl.read_parquet(file).equals(expected if layout == "wide" else pl.read_parquet(file))
    assert sorted(path.name for path in tmp_path.iterdir() if path != source) == [
        "folder",
        "scored.parquet",
    ]


def test_a_frame_and_its_rows_give_a_file(tmp_path):
    report = gs.score(FRAME.lazy(), tmp_path / "scored.parquet", by="id")
    assert (report.output, report.files) == (tmp_path / "scored.parquet", 1)
    assert pl.read_parquet(report.output).select(FRAME.columns).equals(FRAME)
    assert gs.verify(report.output).rows == FRAME.height


def test_what_is_asked_for_again_is_kept_and_something_else_refused(tmp_path):
    file = scored(tmp_path)
    inode = file.stat().st_ino
    path = tmp_path / "in" / "rows.parquet"
    assert gs.score(path, file, by="id").skipped == 1
    assert file.stat().st_ino == inode
    with pytest.raises(FileExistsError, match=r"other options.*--overwrite"):
        gs.score(path, file, by="id", estimator="rloo")
    with pytest.raises(FileExistsError, match=r"other options.*--overwrite"):
        gs.score(path, file, by="id", estimator="rloo", dry_run=True)
    gs.score(path, file, by="id", estimator="rloo", overwrite=True)
    assert gs.verify(file).options["estimator"] == "rloo"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_file_in_its_place_stays_without_overwrite(tmp_path):
    path = write(FRAME, tmp_path / "in" / "rows.parquet")
    other = write(FRAME, tmp_path / "other.parquet")
    with pytest.raises(FileExistsError, match="--overwrite"):
        gs.score(path, other, by="id")
    assert pl.read_parquet(other).equals(FRAME)
    gs.score(path, other, by="id", overwrite=True)
    gs.verify(other)


@pytest.mark.parametrize("make", ["itself", "link", "hard link", "frame"])
def test_a_file_that_is_read_is_never_replaced(tmp_path, make):
    path = write(FRAME, tmp_path / "in" / "rows.parquet")
    target = tmp_path / "out.parquet"
    if make == "link":
        target.symlink_to(path)
    elif make == "hard link":
        os.link(path, target)
    else:
        target = path
    given = pl.scan_parquet(path) if make == "frame" else path
    with pytest.raises(ValueError, match="is one of the files to read; write to another one"):
        gs.score(given, target, by="id", overwrite=True)
    assert pl.read_parquet(path).equals(FRAME)


def test_the_rows_behind_narrow_scores_are_never_replaced(tmp_path):
    file = scored(tmp_path, layout="narrow")
    with pytest.raises(ValueError, match="is one of the files to read; write to another one"):
        gs.score(file, tmp_path / "in" / "rows.parquet", by="id", suffix="_b", overwrite=True)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("out.jsonl", r"written as Parquet; name .*out\.parquet or a folder; `gspo-rs scan .*out"),
        ("out.csv", r"written as Parquet; name .*out\.parquet or a folder$"),
        ("out.csv.gz", r"written as Parquet; name .*out\.parquet or a folder$"),
    ],
)
def test_other_formats_are_refused_with_what_to_name(tmp_path, target, words):
    with pytest.raises(ValueError, match=words):
        gs.score(FRAME, tmp_path / target, by="id")
    assert not list(tmp_path.iterdir())


def test_several_files_and_named_folders_need_a_folder(tmp_path):
    write(FRAME[:100], tmp_path / "hive" / "model=a" / "rows.parquet")
    with pytest.raises(ValueError, match=r"say model, which one file would lose; name a folder"):
        gs.score(tmp_path / "hive", tmp_path / "out.parquet", by="id")
    write(FRAME[100:], tmp_path / "hive" / "model=b" / "rows.parquet")
    with pytest.raises(ValueError, match=r"out\.parquet is one file, and there are 2 to score"):
        gs.score(tmp_path / "hive", tmp_path / "out.parquet", by="id")


def test_a_folder_of_this_name_stays_a_folder(tmp_path):
    path = write(FRAME, tmp_path / "rows.parquet")
    (tmp_path / "out.parquet").mkdir()
    gs.score(path, tmp_path / "out.parquet", by="id")
    assert sorted(file.name for file in (tmp_path / "out.parquet").iterdir()) == [
        "_manifest.parquet",
        "rows.parquet",
    ]


def read(file):
    gs.scan(file)
    gs.verify(file)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_one_flipped_bit_of_the_file_is_noticed(tmp_path, layout):
    file = scored(tmp_path, layout=layout)
    whole, key = file.read_bytes(), b"gspo_rs_manifest"
    draw = random.Random(0)
    for place in [*(draw.randrange(len(whole)) for _ in range(60)), 0, len(whole) - 1]:
        # Without its key a file is one of anybody's.
        if key in whole[place - len(key) : place + len(key)]:
            continue
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises((ValueError, OSError), match=r"scored\.parquet"):
            read(file)
    file.write_bytes(whole)
    assert gs.scan(file).collect().select(FRAME.columns).equals(FRAME)


def test_a_damaged_file_is_replaced_where_that_is_allowed(tmp_path):
    file = scored(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"layout": "wide"', b'"layout": "wild"'))
    path = tmp_path / "in" / "rows.parquet"
    with pytest.raises(ValueError, match="its digest is another one"):
        gs.score(path, file, by="id")
    gs.score(path, file, by="id", overwrite=True)
    assert file.read_bytes() == whole


def test_what_is_made_of_the_file_says_nothing_of_how_it_was_scored(tmp_path):
    file = scored(tmp_path)
    again = tmp_path / "again.parquet"
    gs.score(file, again, by="id", suffix="_b")
    keys = pq.read_metadata(again).metadata
    assert list(keys).count(b"gspo_rs_manifest") == 1
    assert gs.verify(again).options["suffix"] == "_b"
    gs.score(file, tmp_path / "folder", by="id", suffix="_b")
    assert b"gspo_rs_manifest" not in (tmp_path / "folder" / "scored.parquet").read_bytes()
    found = gs.scan(again).collect()
    assert found["rank_b"].equals(found["rank"].alias("rank_b"))


def test_scores_beside_their_rows_are_not_read_twice(tmp_path):
    file = scored(tmp_path)
    path = write(FRAME, tmp_path / "rows.parquet")
    words = r"scored\.parquet is an output of `gspo-rs score`, whose rows would come twice beside"
    for given in (f"{tmp_path}/*.parquet", [path, file]):
        with pytest.raises(ValueError, match=words):
            data.scan(given)
    gs.score(path, tmp_path / "second.parquet", by="id")
    two = data.scan([file, tmp_path / "second.parquet"]).collect()
    assert two.height == 2 * FRAME.height
    gs.score(path, tmp_path / "narrow.parquet", by="id", layout="narrow")
    with pytest.raises(ValueError, match=r"narrow\.parquet is a narrow output .*by itself"):
        data.scan([file, tmp_path / "narrow.parquet"])


def test_the_command_writes_and_verifies_a_file(tmp_path, capsys):
    path = write(FRAME, tmp_path / "in" / "rows.parquet")
    assert call("score", path, "-o", tmp_path / "scored.parquet", "--by", "id") == 0
    assert f"next: gspo-rs report {tmp_path / 'scored.parquet'}" in capsys.readouterr().out
    assert call("verify", tmp_path / "scored.parquet") == 0
    assert call("stats", tmp_path / "scored.parquet", "--by", "id") == 0


@pytest.mark.parametrize("name", ["write", "put_file"])
def test_a_run_that_stops_at_the_end_leaves_the_old_file_and_goes_on(tmp_path, monkeypatch, name):
    file = scored(tmp_path)
    before = file.read_bytes()
    path = tmp_path / "in" / "rows.parquet"
    asked = {"by": "id", "estimator": "rloo", "overwrite": True}
    expected = tmp_path / "expected.parquet"
    gs.score(path, expected, **asked)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        where = staging.Manifest if name == "write" else staging.atomic
        patch.setattr(where, name, stopped)
        with pytest.raises(KeyboardInterrupt):
            gs.score(path, file, **asked)
    assert file.read_bytes() == before
    assert (tmp_path / ".scored.parquet.gspo-rs").exists()
    report = gs.score(path, file, **asked)
    assert report.skipped == (1 if name == "write" else 0)
    assert pl.read_parquet(file).equals(pl.read_parquet(expected))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expected.parquet", "in", file.name]


def test_a_second_writer_of_the_file_is_refused(tmp_path):
    file = scored(tmp_path)
    with (
        staging.staged(file, single=True),
        pytest.raises(RuntimeError, match="another process is writing"),
    ):
        gs.score(tmp_path / "in" / "rows.parquet", file, by="id", estimator="rloo", overwrite=True)
    assert Staging(file, single=True).folder.exists()


@pytest.mark.slow
def test_a_killed_run_leaves_the_old_file_or_the_new_one(tmp_path):
    file = scored(tmp_path)
    path = tmp_path / "in" / "rows.parquet"
    old = file.read_bytes()
    gs.score(path, file, by="id", estimator="rloo", overwrite=True)
    new = file.read_bytes()
    program = (
        "import sys, gspo_rs as gs;"
        "gs.score(*sys.argv[1:], by='id', estimator='rloo', overwrite=True)"
    )
    for seed in range(5):
        file.write_bytes(old)
        run = forked(path, file, code=program)
        place = tmp_path / ".scored.parquet.gspo-rs"
        wait_until(lambda: place.exists() or run.poll() is not None)  # noqa: B023 -- called here
        time.sleep(random.Random(seed).uniform(0, 0.03))
        run.kill()
        run.wait()
        assert file.read_bytes() in (old, new)
        gs.score(path, file, by="id", estimator="rloo", overwrite=True)
        assert file.read_bytes() == new
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", file.name]
