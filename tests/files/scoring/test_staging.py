"""Where a scoring run works: what a crash leaves there, what is planted, and what it replaces."""

import errno
import os
import random
import stat
from pathlib import Path

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs._core import file_digest
from gspo_rs.files import replacement, scoring
from gspo_rs.files.journal import Journal
from gspo_rs.files.scoring import by_file


@pytest.fixture
def source(tmp_path):
    """Six files of one group each."""
    (tmp_path / "in").mkdir()
    for name in "abcdef":
        frame = pl.DataFrame({"id": [name] * 3, "reward": [0.0, 1.0, 5.0]})
        frame.write_parquet(tmp_path / "in" / f"{name}.parquet")
    return tmp_path / "in"


def stop(source, target, monkeypatch, after=4):
    """Interrupt a run after some files."""
    write, calls = by_file.write_read, []

    def interrupted(*arguments, **named):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        return write(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(by_file, "write_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gs.score(source, target, by="id")
    return target.with_name(f".{target.name}.gspo-rs")


@pytest.mark.slow
@pytest.mark.parametrize("resume", [True, False])
def test_a_journal_cut_anywhere_does_not_wedge_the_output(source, tmp_path, monkeypatch, resume):
    place = stop(source, tmp_path / "out", monkeypatch)
    journal = (place / "journal.jsonl").read_bytes()
    gs.score(source, tmp_path / "whole", by="id")
    ends = [i + 1 for i, byte in enumerate(journal) if byte == ord("\n")]
    assert len(ends) > 5
    cuts = {cut for end in ends for cut in (end - 1, end, end + 1, end + 40)} | {0, 1}
    for cut in sorted(cut for cut in cuts if cut <= len(journal)):
        # Stopped once more where the line was cut, so that what is appended is read, too.
        place.mkdir(exist_ok=True)
        (place / "journal.jsonl").write_bytes(journal[:cut])
        if resume:
            stop(source, tmp_path / "out", monkeypatch, after=1)
        report = gs.score(source, tmp_path / "out", by="id", resume=resume)
        assert report.rows == 18
        assert gs.verify(tmp_path / "out").outputs == gs.verify(tmp_path / "whole").outputs
        assert not place.exists()
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        (tmp_path / "out").rmdir()


@pytest.mark.parametrize("junk", [b"\x00" * 50, b"\xff\xfe{\n", b'"text"\n', b"{}\n{", b"[1]\n"])
def test_a_journal_whose_blocks_were_not_written_is_read_up_to_there(
    source, tmp_path, monkeypatch, junk
):
    place = stop(source, tmp_path / "out", monkeypatch)
    with (place / "journal.jsonl").open("ab") as file:
        file.write(junk)
    assert gs.score(source, tmp_path / "out", by="id").skipped == 4
    place = stop(source, tmp_path / "other", monkeypatch)
    (place / "journal.jsonl").write_bytes(junk)
    assert gs.score(source, tmp_path / "other", by="id").skipped == 0


@pytest.mark.parametrize("change", ["digest", "line gone", "lines exchanged", "line twice"])
def test_a_changed_line_of_the_journal_and_what_follows_it_count_for_nothing(
    source, tmp_path, monkeypatch, change
):
    place = stop(source, tmp_path / "out", monkeypatch)
    file, journal = place / "new" / "c.parquet", place / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'"c.parquet"' in line)
    if change == "digest":
        before = file_digest(file)
        damaged = bytearray(file.read_bytes())
        damaged[10] ^= 1
        file.write_bytes(damaged)
        lines[number] = lines[number].replace(before.encode(), file_digest(file).encode())
    elif change == "line gone":
        del lines[number]
    elif change == "lines exchanged":
        lines[number - 1 : number + 1] = lines[number - 1 : number + 1][::-1]
    else:
        lines.insert(number, lines[number - 1])
    journal.write_bytes(b"".join(lines))
    before = 1 if change == "lines exchanged" else 2
    assert gs.score(source, tmp_path / "out", by="id").skipped == before
    gs.score(source, tmp_path / "whole", by="id")
    assert gs.verify(tmp_path / "out").outputs == gs.verify(tmp_path / "whole").outputs


def test_no_flipped_bit_of_the_journal_is_believed(source, tmp_path, monkeypatch):
    place = stop(source, tmp_path / "out", monkeypatch)
    whole = (place / "journal.jsonl").read_bytes()
    for seed in range(200):
        rng = random.Random(seed)
        spoilt = bytearray(whole)
        at = rng.randrange(len(spoilt))
        spoilt[at] ^= 1 << rng.randrange(8)
        (place / "journal.jsonl").write_bytes(spoilt)
        lines = Journal(place / "journal.jsonl").read()
        assert len(lines) <= whole[:at].count(b"\n")


def test_a_planted_staging_folder_is_not_written_in(source, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    (tmp_path / ".out.gspo-rs").symlink_to("precious")
    with pytest.raises(OSError, match="is a link or another user's"):
        gs.score(source, tmp_path / "out", by="id")
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["thesis.txt"]
    (tmp_path / ".out.gspo-rs").unlink()
    (tmp_path / ".out.gspo-rs").mkdir()
    (tmp_path / ".out.gspo-rs" / "lock").symlink_to("../precious/thesis.txt")
    with pytest.raises(OSError, match="lock"):
        gs.score(source, tmp_path / "out", by="id")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"


def test_a_staging_folder_of_another_user_is_not_taken_up(source, tmp_path, monkeypatch):
    (tmp_path / ".out.gspo-rs").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(OSError, match="is a link or another user's"):
        gs.score(source, tmp_path / "out", by="id")


def modes(folder):
    found = {path.name: path for path in [folder, *folder.rglob("*")]}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


def test_a_new_output_keeps_the_modes_of_the_old_one_and_is_never_open_to_more(
    source, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    gs.score(source, out, by="id")
    for path in out.iterdir():
        path.chmod(0o600)
    out.chmod(0o700)
    before, seen = modes(out), []
    write = by_file.write_read

    def watched(*arguments, **named):
        seen.append(stat.S_IMODE((tmp_path / ".out.gspo-rs").stat().st_mode))
        return write(*arguments, **named)

    monkeypatch.setattr(by_file, "write_read", watched)
    gs.score(source, out, by="id", estimator="zscore", overwrite=True)
    assert gs.verify(out).options["estimator"] == "zscore"
    assert modes(out) == before
    assert set(seen) == {0o700}


def test_a_target_that_is_a_link_stays_one_and_its_folder_is_replaced(source, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/real")
    assert gs.score(source, tmp_path / "out", by="id").output == tmp_path / "out"
    gs.score(source, tmp_path / "out", by="id", estimator="zscore", overwrite=True)
    assert (tmp_path / "out").readlink() == Path("disk/real")
    assert gs.verify(tmp_path / "out").options["estimator"] == "zscore"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]
    assert gs.score(source, tmp_path / "disk" / "real", by="id", estimator="zscore").skipped == 6


@pytest.mark.parametrize("trouble", ["mount point", "no exchange"])
def test_what_could_not_be_replaced_is_refused_before_the_work(
    source, tmp_path, monkeypatch, trouble
):
    out = tmp_path / "out"
    gs.score(source, out, by="id")
    before = gs.verify(out)
    if trouble == "mount point":
        (tmp_path / "mounts").write_text(f"36 35 98:0 / {out} rw - ext4 /dev/x rw\n")
        monkeypatch.setattr(replacement, "_MOUNTS", tmp_path / "mounts")
        words = "is a mount point, which can't be replaced; name a folder in it"
    else:

        def unknown(*_):
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(replacement, "exchange", unknown)
        words = "can't exchange a folder for another at once; remove it first"
    monkeypatch.setattr(scoring, "check_columns", lambda *_: pytest.fail("work was done"))
    with pytest.raises(OSError, match=words):
        gs.score(source, out, by="id", estimator="zscore", overwrite=True)
    assert gs.verify(out) == before
    assert not list(tmp_path.glob(".*"))


def test_an_output_whose_name_is_250_bytes_is_written_and_taken_up(source, tmp_path, monkeypatch):
    out = tmp_path / ("n" * 250)
    with monkeypatch.context() as patch:
        patch.setattr(by_file, "write_read", lambda *_, **__: pytest.fail("not yet"))
        with pytest.raises(pytest.fail.Exception):
            gs.score(source, out, by="id")
    gs.score(source, out, by="id")
    assert gs.verify(out).rows == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", out.name]
