"""What is left of an output when something breaks: the old one or the new one, whole."""

import fcntl
import os
import random
import shutil
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
from fixtures.commands import MAIN
from fixtures.forked import finished, forked
from fixtures.interruption import stop
from fixtures.waiting import wait_until
from gspo_rs.cli.score import score as score_command
from gspo_rs.cli.score import verify as verify_command
from gspo_rs.files import scoring
from gspo_rs.files.scoring import writers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six files of rows whose groups are scattered over all of them."""
    path = tmp_path_factory.mktemp("input")
    rng = np.random.default_rng(0)
    for number in range(6):
        ids, reward = rng.integers(0, 3000, 20_000), rng.integers(0, 9, 20_000)
        frame = pl.DataFrame({"prompt_id": ids, "reward": reward / 8})
        frame.with_columns(text=pl.lit("word ") + ids.astype(str)).write_parquet(
            path / f"{number}.parquet"
        )
    return path


def digests(target):
    return [(entry.name, entry.digest) for entry in gs.verify(target).outputs]


def begun(folder, target):
    """Start a run and wait until it works, so that imports are not what is killed."""
    asked = ["-o", target, "--by", "prompt_id", "--estimator", "zscore", "--overwrite"]
    run = forked("score", folder, *asked)
    place = target.with_name(f".{target.name}.gspo-rs")
    wait_until(lambda: place.exists() or run.poll() is not None)
    return run


def killed_over_an_old_output(folder, tmp_path, rounds):
    """Kill runs that replace an output; return how many left the old one."""
    asked = {"by": "prompt_id", "estimator": "zscore"}
    gs.score(folder, tmp_path / "old", by="prompt_id", layout="narrow")
    gs.score(folder, tmp_path / "whole", **asked)
    old, new = digests(tmp_path / "old"), digests(tmp_path / "whole")
    run = begun(folder, tmp_path / "timed")
    since = time.monotonic()
    assert run.wait() == 0
    seconds = time.monotonic() - since
    stayed = 0
    for seed in range(rounds):
        target = tmp_path / f"out{seed}"
        shutil.copytree(tmp_path / "old", target)
        run = begun(folder, target)
        time.sleep(random.Random(seed).uniform(0, 1.1) * seconds)
        run.kill()
        run.communicate()
        found = digests(target)
        assert found in (old, new)
        stayed += found == old
        gs.score(folder, target, overwrite=True, **asked)
        assert digests(target) == new
        assert not list(tmp_path.glob(f".out{seed}*"))
        shutil.rmtree(target)
    return stayed


@pytest.mark.slow
def test_a_killed_run_leaves_the_old_output_or_the_new_one_and_can_be_repeated(folder, tmp_path):
    killed_over_an_old_output(folder, tmp_path, rounds=5)


@pytest.mark.soak
def test_sixty_killed_runs_leave_the_old_output_or_the_new_one(folder, tmp_path):
    assert 0 < killed_over_an_old_output(folder, tmp_path, rounds=60) < 60


def test_a_run_goes_on_after_an_interrupt_with_the_files_that_are_done(
    folder, tmp_path, monkeypatch
):
    gs.score(folder, tmp_path / "whole", by="prompt_id")
    stop(monkeypatch, folder, tmp_path / "out", scoring, "write_wide", 4)
    assert not (tmp_path / "out").exists()
    # One of the four is damaged meanwhile, and is made again.
    damaged = next((tmp_path / ".out.gspo-rs").rglob("2.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    report = gs.score(folder, tmp_path / "out", by="prompt_id")
    assert report.skipped == 3
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


STOPPED = """
import os, signal, time
from gspo_rs.files import scoring
def stopped(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        time.sleep(0.01)
scoring.write_wide = stopped
"""


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_leaves_what_can_be_resumed(folder, tmp_path):
    asked = ["score", folder, "-o", tmp_path / "out", "--by", "prompt_id"]
    run = finished(*asked, code=STOPPED + MAIN)
    assert run.returncode == 130
    assert "goes on" in run.stderr
    assert "Traceback" not in run.stderr
    gs.score(folder, tmp_path / "out", by="prompt_id")
    gs.verify(tmp_path / "out")


def unfinished(folder, tmp_path, monkeypatch):
    """Leave a run that was interrupted after two files; return a copy of its input."""
    copy = tmp_path / "in"
    shutil.copytree(folder, copy)
    stop(monkeypatch, copy, tmp_path / "out", scoring, "write_wide", 2)
    return copy


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"estimator": "zscore"}, "estimator was 'percentile', is 'zscore'"),
        ({"by": ["prompt_id", "text"]}, "by was"),
        ({"keep": "informative"}, "keep was 'all'"),
        ({"scale": "none"}, "estimator_options was"),
    ],
)
def test_resuming_with_other_options_is_refused_and_says_which(
    folder, tmp_path, monkeypatch, changed, words
):
    copy = unfinished(folder, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=words):
        gs.score(copy, tmp_path / "out", **{"by": "prompt_id", **changed})
    # The refusal has taken nothing away.
    assert gs.score(copy, tmp_path / "out", by="prompt_id").skipped == 2


def test_resuming_with_another_input_is_refused_and_names_the_file(folder, tmp_path, monkeypatch):
    copy = unfinished(folder, tmp_path, monkeypatch)
    frame = pl.read_parquet(copy / "3.parquet")
    frame.with_columns(reward=pl.lit(0.5)).write_parquet(copy / "3.parquet")
    with pytest.raises(ValueError, match=r"3\.parquet changed since"):
        gs.score(copy, tmp_path / "out", by="prompt_id")
    gs.score(copy, tmp_path / "out", by="prompt_id", resume=False)
    assert gs.verify(tmp_path / "out").rows == 120_000


def test_rewards_that_change_behind_an_old_time_stamp_are_found(tmp_path, monkeypatch):
    def write(path, rewards):
        # Plain numbers, so that the size does not depend on them.
        table = pa.table({"prompt_id": [1, 1, 2, 2], "reward": rewards})
        pq.write_table(table, path, compression="none", use_dictionary=False)

    (tmp_path / "one").mkdir()
    for number in range(3):
        write(tmp_path / "one" / f"{number}.parquet", [0.5, 1.0, 2.0, 4.0])
    copy = unfinished(tmp_path / "one", tmp_path, monkeypatch)
    stamp = (copy / "2.parquet").stat()
    write(copy / "2.parquet", [4.0, 1.0, 2.0, 0.5])
    assert (copy / "2.parquet").stat().st_size == stamp.st_size
    os.utime(copy / "2.parquet", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(ValueError, match="ids or rewards of the input changed"):
        gs.score(copy, tmp_path / "out", by="prompt_id")


def test_a_file_that_changes_between_the_passes_is_named_with_its_row(
    folder, tmp_path, monkeypatch
):
    copy = tmp_path / "in"
    shutil.copytree(folder, copy)
    tallied = scoring.tallied

    def meanwhile(*arguments):
        frame = pl.read_parquet(copy / "1.parquet")
        stamp = (copy / "1.parquet").stat()
        ids = frame["prompt_id"].to_numpy().copy()
        ids[777] += 1
        frame.with_columns(prompt_id=ids).write_parquet(copy / "1.parquet")
        os.utime(copy / "1.parquet", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        monkeypatch.setattr(writers, "unchanged", lambda _: None)
        return tallied(*arguments)

    monkeypatch.setattr(scoring, "tallied", meanwhile)
    with pytest.raises(ValueError, match=r"1\.parquet changed at row 777"):
        gs.score(copy, tmp_path / "out", by="prompt_id")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_file_whose_text_alone_changes_between_the_passes_is_named(folder, tmp_path, monkeypatch):
    copy = tmp_path / "in"
    shutil.copytree(folder, copy)
    tallied = scoring.tallied

    def meanwhile(*arguments):
        frame = pl.read_parquet(copy / "1.parquet")
        frame.with_columns(text=pl.lit("other")).write_parquet(copy / "1.parquet")
        return tallied(*arguments)

    monkeypatch.setattr(scoring, "tallied", meanwhile)
    with pytest.raises(ValueError, match=r"1\.parquet changed while it was scored"):
        gs.score(copy, tmp_path / "out", by="prompt_id")


def test_one_process_writes_at_a_time(folder, tmp_path):
    (tmp_path / ".out.gspo-rs").mkdir()
    with (tmp_path / ".out.gspo-rs" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match=r"another process is writing .*out"):
            gs.score(folder, tmp_path / "out", by="prompt_id")
        assert score_command([str(folder)], target=tmp_path / "out", by=["prompt_id"]) == 1
    gs.score(folder, tmp_path / "out", by="prompt_id")


def test_what_others_have_put_into_a_folder_is_never_replaced(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds files that `gspo-rs score` has not written"):
        gs.score(folder, tmp_path / "out", by="prompt_id")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_disk_that_is_too_small_is_told_before_anything_is_read(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"takes at least \d+ MiB .*but only 1 MiB of its disk"):
        gs.score(folder, tmp_path / "out", by="prompt_id")
    assert not list(tmp_path.iterdir())


def test_verify_names_what_is_missing_changed_or_foreign(folder, tmp_path, capsys):
    out = tmp_path / "out"
    gs.score(folder, out, by="prompt_id", layout="narrow")
    assert verify_command([out]) == 0
    content = (out / "0.parquet").read_bytes()
    (out / "0.parquet").write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    (out / "1.parquet").unlink()
    (out / "2.parquet").write_bytes(b"")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"0\.parquet has changed") as raised:
        gs.verify(out)
    for words in ("1.parquet is missing", "2.parquet has changed: 0 bytes", "notes.txt is foreign"):
        assert words in str(raised.value)
    capsys.readouterr()
    assert verify_command([out]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_narrow_output_is_not_joined_to_a_source_that_has_changed(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "in")
    gs.score(tmp_path / "in", tmp_path / "out", by="prompt_id", layout="narrow")
    frame = pl.read_parquet(tmp_path / "in" / "5.parquet")
    frame[:-1].write_parquet(tmp_path / "in" / "5.parquet")
    with pytest.raises(ValueError, match=r"5\.parquet has changed since it was scored"):
        gs.scan(tmp_path / "out")
    (tmp_path / "in" / "5.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"5\.parquet, which was scored, is gone"):
        gs.scan(tmp_path / "out")
