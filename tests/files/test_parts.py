"""Folders of parts: each part once or not at all, whenever the run is killed."""

import errno
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.places import ROOT
from gspo_rs.files import journal, parts
from gspo_rs.files.lock import LockedError
from gspo_rs.files.parts import ledger_of, part_name, parts_in, run_manifest, unfinished

FRAME = pl.DataFrame({"row": [1, 2], "reward": [0.5, None]})
ASKED = {"inputs": [{"path": "a.parquet", "rows": 2, "mtime_ns": 5, "digest": "d"}], "by": ["id"]}


def opened(target, asked=None, **options):
    return parts_in(target, asked or ASKED, made_by="gspo-rs grade", **options)


def written(target, n=2, *, complete=True, asked=None):
    with opened(target, asked) as found:
        for number in range(n):
            found.write(part_name(number), FRAME, {"number": number})
        if complete:
            found.complete({"rows": 2 * n})


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["2", "1"], ["1", "19", "over"], pytest.param(["1", "1", "over"], marks=pytest.mark.soak)],
)
def test_a_run_killed_at_any_line_has_whole_parts_and_goes_on_to_the_same_folder(tmp_path, words):
    """One that is to replace another leaves that whole until it is whole itself."""
    program = ROOT / "tests" / "fixtures" / "parts_run.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_parts_are_read_back_with_what_was_noted(tmp_path):
    written(tmp_path / "out")
    assert [(e.name, e.rows, e.facts) for e in ledger_of(tmp_path / "out")] == [
        ("part-000000.parquet", 2, {"number": 0}),
        ("part-000001.parquet", 2, {"number": 1}),
    ]
    manifest = run_manifest(tmp_path / "out")
    assert (manifest.made_by, manifest.asked) == ("gspo-rs grade", ASKED)
    assert (manifest.complete, manifest.counts) == (True, {"rows": 4})


def test_a_whole_run_has_nothing_left_to_do(tmp_path):
    written(tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with opened(tmp_path / "out") as found:
        assert found.manifest.complete
        assert len(found.done) == 2
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_part_without_a_line_is_removed_and_one_with_half_a_line_too(tmp_path):
    out = tmp_path / "out"
    written(out, 3, complete=False)
    (out / "ledger.jsonl").write_bytes((out / "ledger.jsonl").read_bytes()[:-9])
    FRAME.write_parquet(out / part_name(7))
    with opened(out) as found:
        assert list(found.done) == [part_name(0), part_name(1)]
        assert not (out / part_name(2)).exists()
        assert not (out / part_name(7)).exists()
        found.write(part_name(2), FRAME)
    assert len(ledger_of(out)) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({**ASKED, "by": ["other"]}, r"by was \['id'\], is \['other'\]"),
        ({**ASKED, "timeout": 3}, "timeout was None, is 3"),
        ({**ASKED, "inputs": []}, "the number of inputs was 1, is 0"),
        (
            {**ASKED, "inputs": [{**ASKED["inputs"][0], "digest": "e"}]},
            "input a.parquet, whose digest was 'd', is 'e'",
        ),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_another_run_is_refused_naming_what_changed(tmp_path, asked, message, complete):
    out = tmp_path / "out"
    written(out, complete=complete)
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=message), opened(out, asked):
        pass
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_with_another_time_is_the_same_input(tmp_path):
    written(tmp_path / "out", complete=False)
    asked = {**ASKED, "inputs": [{**ASKED["inputs"][0], "mtime_ns": 6}]}
    with opened(tmp_path / "out", asked) as found:
        assert len(found.done) == 2


def test_what_was_asked_before_the_first_part_does_not_bind(tmp_path):
    written(tmp_path / "out", 0, complete=False)
    written(tmp_path / "out", 1, asked={"by": ["other"]})
    assert run_manifest(tmp_path / "out").asked == {"by": ["other"]}


def test_parts_are_not_replaced_unless_that_is_asked_for(tmp_path):
    written(tmp_path / "out")
    with (
        pytest.raises(FileExistsError, match="holds 2 parts of a run; go on with it"),
        opened(tmp_path / "out", resume=False),
    ):
        pass


def test_what_is_replaced_stays_until_the_new_run_is_whole(tmp_path):
    out, other = tmp_path / "out", {"by": []}
    written(out)
    out.chmod(0o750)
    before = {path: path.read_bytes() for path in out.iterdir()}
    for number in range(2):
        with opened(out, other, overwrite=True) as found:
            assert len(found.done) == number
            found.write(part_name(number), FRAME)
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    with opened(out, {"by": ["else"]}, overwrite=True) as found:  # that was not this one
        assert not found.done
        found.complete({"rows": 0})
    assert run_manifest(out).asked == {"by": ["else"]}
    assert not list(out.glob("part-*"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.stat().st_mode & 0o777 == 0o750


def test_a_run_is_unfinished_from_its_beginning_to_its_end_beside_another_one_too(tmp_path):
    out = tmp_path / "out"
    assert not unfinished(out)
    for options in ({}, {"overwrite": True}):
        with opened(out, **options) as found:
            found.write(part_name(0), FRAME)
        assert unfinished(out)
        with opened(out, **options) as found:
            found.complete({"rows": 2})
        assert not unfinished(out)


def test_a_run_that_replaces_one_of_the_same_words_writes_all_parts_again(tmp_path):
    out, staged = tmp_path / "out", tmp_path / ".out.parts.gspo-rs"
    written(out)
    # As a kill between the exchange and its end leaves it.
    shutil.copytree(out, staged)
    with opened(out, overwrite=True) as found:
        assert not found.done
        found.write(part_name(0), FRAME)
        found.complete({"rows": 2})
    assert len(ledger_of(out)) == 1
    assert not staged.exists()


def test_two_runs_do_not_replace_one_folder(tmp_path):
    written(tmp_path / "out")
    with (
        opened(tmp_path / "out", {"by": []}, overwrite=True),
        pytest.raises(LockedError, match="another process is writing"),
        opened(tmp_path / "out", {"by": []}, overwrite=True),
    ):
        pass


@pytest.mark.parametrize("resume", [True, False])
def test_files_of_others_are_left_alone(tmp_path, resume):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for _ in range(2):
        with (
            pytest.raises(ValueError, match=r"has not written, such as thesis\.txt"),
            opened(out, resume=resume, overwrite=True),
        ):
            pass
        assert (out / "thesis.txt").read_text() == "mine"
        (out / "part-000000.parquet").write_text("mine")
    (out / "thesis.txt").unlink()
    with pytest.raises(ValueError, match="has not written, such as part-"), opened(out):
        pass
    assert (out / "part-000000.parquet").read_text() == "mine"


def test_what_another_command_made_is_refused(tmp_path):
    written(tmp_path / "out")
    with (
        pytest.raises(ValueError, match="holds what `gspo-rs grade` made"),
        parts_in(tmp_path / "out", ASKED, made_by="gspo-rs sample", overwrite=True),
    ):
        pass


@pytest.mark.parametrize("damage", ["is missing", "has changed"])
def test_a_part_that_is_not_what_was_written_is_refused_by_name(tmp_path, damage):
    out = tmp_path / "out"
    written(out)
    path = out / part_name(1)
    if damage == "is missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"reward", b"rewald"))
    words = f"part-000001.parquet {damage}"
    with pytest.raises(ValueError, match=words), opened(out):
        pass


def test_a_line_that_somebody_changed_is_refused_with_all_parts_left(tmp_path):
    out = tmp_path / "out"
    written(out, 3)
    text = (out / "ledger.jsonl").read_text()
    (out / "ledger.jsonl").write_text(text.replace('"rows": 2', '"rows": 3', 1))
    with pytest.raises(ValueError, match=r"line 1 of .*ledger\.jsonl was damaged"), opened(out):
        pass
    with pytest.raises(ValueError, match=r"line 1 of .*ledger\.jsonl was damaged"):
        ledger_of(out)
    assert len(list(out.glob("part-*"))) == 3


def test_two_runs_do_not_write_one_folder(tmp_path):
    with (
        opened(tmp_path / "out"),
        pytest.raises(LockedError, match="another process is writing"),
        opened(tmp_path / "out"),
    ):
        pass


def test_a_full_disk_leaves_the_parts_before_and_is_named(tmp_path, monkeypatch):
    out = tmp_path / "out"

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, module in (("sync", parts.atomic), ("fsync", journal.os)):
        with opened(out) as found:
            number = len(found.done)
            found.write(part_name(number), FRAME)
            with monkeypatch.context() as patch:
                patch.setattr(module, name, full)
                with pytest.raises(OSError, match=r"cannot write .*out: No space left"):
                    found.write(part_name(number + 1), FRAME)
    with opened(out) as found:
        assert list(found.done) == [part_name(n) for n in range(len(found.done))]
        assert len(found.done) >= 2


def test_a_folder_that_cannot_be_written_in_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is no folder, so"), opened(tmp_path / "file/out"):
        pass
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        opened(tmp_path / "file").__enter__()
    monkeypatch.setattr(parts.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="is read-only"), opened(tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()


def test_a_folder_of_parts_is_a_source_once_it_is_whole(tmp_path):
    out = tmp_path / "out"
    written(out, complete=False)
    for source in (out, f"{out}/*.parquet"):
        with pytest.raises(ValueError, match="is an unfinished run of `gspo-rs grade`"):
            gs.scan(source)
    written_parts = sorted(out.glob("*.parquet"))
    with opened(out) as found:
        found.complete({})
    for source in (out, f"{out}/*.parquet", f"{out}/*"):
        if not str(source).endswith("/*"):
            assert gs.scan(source).collect().equals(pl.concat([FRAME, FRAME]))
    assert gs.scan([str(path) for path in written_parts]).collect().height == 4
    with pytest.raises(ValueError, match="is the manifest of an output or its ledger"):
        gs.scan(out / "ledger.jsonl")
