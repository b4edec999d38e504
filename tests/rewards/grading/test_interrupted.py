"""Grading that is killed, or finds the disk full: each row once, and the same in the end."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from polars.testing import assert_frame_equal

import gspo_rs as gs
from fixtures.commands import PROGRAM
from fixtures.graded_rows import stable, written
from fixtures.hostile_fates import running
from fixtures.runs import wait_for
from gspo_rs.files.parts import ledger_of


def killed_and_taken_up(tmp_path, spec, rounds):
    """Kill runs at random moments, take each up, and compare it with one that was not killed."""
    path = written(tmp_path, 6000)
    options = {"reward": spec("size"), "workers": 2}
    start = time.monotonic()
    whole = tmp_path / "whole"
    words = [*PROGRAM, "grade", str(path), "--reward", spec("size"), "--workers", "2", "-o"]
    subprocess.run([*words, str(whole)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    counts = set()
    for seed in range(rounds):
        out = tmp_path / f"out{seed}"
        run = subprocess.Popen(
            [*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        rng = random.Random(seed)
        # Most of the time begins; parts are written in its second half.
        while not (out / "manifest.json").exists() and run.poll() is None and seed % 4:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.6 if seed % 4 else 1.0) * seconds)
        run.send_signal(signal.SIGKILL)
        run.wait()
        report = gs.grade(path, out, **options)
        counts.add(report.skipped)
        assert_frame_equal(stable(out), stable(whole))
        assert sum(entry.rows for entry in ledger_of(out)) == 6000
        names = sorted(found.name for found in out.iterdir())
        assert names == sorted(found.name for found in whole.iterdir())
    return counts


@pytest.mark.slow
def test_a_run_killed_at_random_moments_loses_and_doubles_no_row(tmp_path, spec):
    killed_and_taken_up(tmp_path, spec, 4)


@pytest.mark.soak
def test_a_run_killed_at_sixty_random_moments_loses_and_doubles_no_row(tmp_path, spec):
    counts = killed_and_taken_up(tmp_path, spec, 60)
    assert len(counts) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_it_goes_on_and_leaves_no_process(tmp_path, spec, number, code):
    words = ["grade", written(tmp_path, 3000), "-o", tmp_path / "out", "--reward", spec("slow")]
    mark = f"stopped-{tmp_path}"
    run = subprocess.Popen(
        [*PROGRAM, *map(str, words), "--workers", "2"],
        env={**os.environ, "LC_TEST": mark},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((tmp_path / "out" / "manifest.json").exists, run)
    run.send_signal(number)
    _, said = run.communicate()
    assert (run.returncode, said[:9], said[-10:]) == (code, "stopped; ", "` goes on\n")
    assert not running(mark)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ledger.jsonl",
        "manifest.json",
    ]


# $1 is where to mount, $2 where to copy the output, and what follows the command.
DISK = """
full=$1 copy=$2
shift 2
mount -t tmpfs -o size=220k none "$full" || exit 99
"$@"; echo "code $?"
ls "$full/out" | grep -c part-
mount -o remount,size=20m "$full"
"$@"; echo "code $?"
mount -o remount,ro "$full"
"$@" --overwrite; echo "code $?"
cp -r "$full/out" "$copy"
"""
APART = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount():
    if shutil.which("unshare") is None:
        return False
    words = [*APART, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a small disk")
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(tmp_path, spec):
    path, disk, copy = written(tmp_path, 60_000), tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    options = {"reward": spec("size"), "workers": 1, "chunk": 64}
    gs.grade(path, tmp_path / "whole", **options)
    words = [*PROGRAM, "grade", path, "-o", disk / "out", "--reward", spec("size"), "--workers", 1]
    words += ["--chunk", 64, "--json"]
    done = subprocess.run(
        [*APART, "sh", "-c", DISK, "sh", *map(str, [disk, copy, *words])],
        capture_output=True,
        text=True,
        check=False,
    )
    code, parts, summary, again, read_only = done.stdout.splitlines()
    assert (code, again, read_only) == ("code 2", "code 0", "code 2"), done.stderr
    full, other = done.stderr.splitlines()
    assert full == f"error: cannot write {disk}/out: No space left on device"
    assert other == f"error: {disk}/out is read-only, or another user's; choose another folder"
    facts = json.loads(summary)
    # The last one may have no line in the ledger.
    assert 0 < facts["skipped"] <= int(parts) < facts["parts"]
    assert_frame_equal(stable(copy), stable(tmp_path / "whole"))
