"""Groups that lie in one file each: scored in one pass, with the bytes of the general way."""

import os
import random
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gspo_rs as gs
from fixtures.forked import forked
from fixtures.interruption import stop
from fixtures.waiting import wait_until
from gspo_rs.files import scoring
from gspo_rs.files.scoring import by_file, options

ROWS = 4000
FILES = 5


def rows_of(number, rng):
    ids = rng.integers(0, ROWS // 6, ROWS) + number * ROWS
    reward = np.where(rng.random(ROWS) < 0.1, np.nan, rng.integers(0, 5, ROWS) / 4)
    text = [f"text {i}" for i in range(ROWS)]
    return pl.DataFrame({"prompt_id": ids, "source": ids % 3, "text": text, "reward": reward})


@pytest.fixture
def folder(tmp_path):
    """Files that share no group, the rows of each in any order."""
    path, rng = tmp_path / "in", np.random.default_rng(0)
    path.mkdir()
    for number in range(FILES):
        rows_of(number, rng).write_parquet(path / f"{number}.parquet")
    return path


def put_back(folder):
    """Let a key of the first file return in the middle of the last one."""
    first, last = folder / "0.parquet", folder / f"{FILES - 1}.parquet"
    ids = pl.read_parquet(last)["prompt_id"].to_numpy().copy()
    ids[ROWS // 2] = pl.read_parquet(first)["prompt_id"][ROWS // 2]
    pl.read_parquet(last).with_columns(prompt_id=ids).write_parquet(last)


def at_once(monkeypatch, source, target, **asked):
    """Score on the general way."""
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "score_by_file", lambda *_: None)
        report = gs.score(source, target, **{"by": "prompt_id", **asked})
    assert not report.by_file
    return report


def content(target):
    gs.verify(target)
    return {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"by": ["source", "prompt_id"], "estimator": "zscore"},
        {"keep": "informative,top:0.5"},
    ],
    ids=["copied", "two keys", "rewritten"],
)
def test_files_that_share_no_group_get_the_bytes_of_the_general_way(
    folder, tmp_path, monkeypatch, asked
):
    report = gs.score(folder, tmp_path / "out", **{"by": "prompt_id", **asked})
    assert report.by_file
    expected = at_once(monkeypatch, folder, tmp_path / "whole", **asked)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert (report.groups, report.uninformative) == (expected.groups, expected.uninformative)
    assert (report.kept, report.dropped) == (expected.kept, expected.dropped)


def test_other_formats_and_frames_get_the_bytes_of_the_general_way(folder, tmp_path, monkeypatch):
    for path in folder.glob("*.parquet"):
        pl.read_parquet(path).write_csv(path.with_suffix(".csv"))
    asked = {"by": "prompt_id", "resume": False, "overwrite": True}
    for source in (str(folder / "*.csv"), pl.scan_csv(folder / "0.csv")):
        assert gs.score(source, tmp_path / "out", **asked).by_file
        at_once(monkeypatch, source, tmp_path / "whole", **asked)
        assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("asked", [{}, {"keep": "informative"}], ids=["copied", "rewritten"])
def test_a_key_that_returns_in_the_last_file_is_never_split(folder, tmp_path, monkeypatch, asked):
    put_back(folder)
    monkeypatch.setattr(by_file, "PROBED", 8)
    report = gs.score(folder, tmp_path / "out", by="prompt_id", **asked)
    assert (report.by_file, report.skipped) == (False, 0)
    at_once(monkeypatch, folder, tmp_path / "whole", **asked)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.slow
@settings(max_examples=40)
@given(
    rows=st.lists(st.sampled_from("abcde"), min_size=1, max_size=30),
    cuts=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    probed=st.integers(1, 3),
)
def test_rows_cut_anywhere_get_the_bytes_of_the_general_way(tmp_path_factory, rows, cuts, probed):
    folder = tmp_path_factory.mktemp("cut")
    first, second = sorted(cuts)
    parts = [rows[:first], rows[first:second], rows[second:]]
    for name, part in zip("abc", parts, strict=True):
        rewards = [float(i % 4) for i in range(len(part))]
        frame = pl.DataFrame({"prompt_id": part, "reward": rewards}, schema_overrides=TYPES)
        frame.write_parquet(folder / f"{name}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_file, "PROBED", probed)
        report = gs.score(folder / "*.parquet", folder / "out", by="prompt_id")
        at_once(patch, folder / "*.parquet", folder / "whole")
    # A key of two files is that of the last row of one and of the first rows of the next.
    shared = [key for key in set(rows) if sum(key in part for part in parts) > 1]
    if not shared:
        assert report.by_file
    if any(key in parts[0] and key in parts[2] for key in shared):
        assert not report.by_file
    assert content(folder / "out") == content(folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{}, {"keep": "informative,top:0.5"}], ids=["copied", "chosen"])
@pytest.mark.parametrize("size", [1000, 3999])
def test_sorted_rows_cut_through_their_groups_are_scored_by_file(
    folder, tmp_path, monkeypatch, asked, size
):
    rows = pl.concat([pl.read_parquet(path) for path in folder.glob("*.parquet")]).sort("prompt_id")
    for number, part in enumerate(rows.iter_slices(size)):
        part.write_parquet(folder / f"{number:03}.parquet")
    for number in range(FILES):
        (folder / f"{number}.parquet").unlink()
    report = gs.score(folder, tmp_path / "out", by="prompt_id", **asked)
    assert report.by_file
    expected = at_once(monkeypatch, folder, tmp_path / "whole", **asked)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert (report.groups, report.uninformative) == (expected.groups, expected.uninformative)


@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_a_group_at_a_border_that_lies_elsewhere_too_is_never_split(tmp_path, monkeypatch, place):
    parts = [["a", "b", "c", "x"], ["x", "d", "e", "f"], ["g", "h", "i"]]
    if place == "third":
        parts[1:] = [["x", "x"], ["x", "g"]]
    else:
        parts[place == "second"][2 if place == "second" else 1] = "x"
    for name, part in zip("abc", parts, strict=True):
        frame = pl.DataFrame({"prompt_id": part, "reward": [float(i) for i in range(len(part))]})
        frame.write_parquet(tmp_path / f"{name}.parquet")
    source = str(tmp_path / "*.parquet")
    # Earlier in the first file it is still carried whole; later in the second it is a return.
    report = gs.score(source, tmp_path / "out", by="prompt_id")
    at_once(monkeypatch, source, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert report.by_file == (place == "first")


TYPES = {"prompt_id": pl.String, "reward": pl.Float64}


def test_scattered_files_are_found_before_anything_is_written(folder, tmp_path, monkeypatch):
    rows = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
    rows = rows.sample(fraction=1, shuffle=True, seed=0)
    for number in range(FILES):
        part = rows[number * ROWS : (number + 1) * ROWS]
        part.write_parquet(folder / f"{number}.parquet")
    monkeypatch.setattr(by_file, "write_read", None)
    assert not gs.score(folder, tmp_path / "out", by="prompt_id").by_file


def test_statistics_of_the_batch_and_narrow_scores_go_the_general_way(folder, tmp_path):
    batch = gs.score(folder, tmp_path / "out", by="prompt_id", estimator="batch_std")
    narrow = gs.score(folder, tmp_path / "narrow", by="prompt_id", layout="narrow")
    assert not batch.by_file
    assert not narrow.by_file


def test_keys_that_do_not_fit_the_memory_go_through_the_disk(folder, tmp_path, monkeypatch):
    at_once(monkeypatch, folder, tmp_path / "whole")
    monkeypatch.setattr(options, "BUFFERS", options.LEAST - (150 << 10))
    asked = {"by": "prompt_id", "memory_limit": options.LEAST}
    report = gs.score(folder, tmp_path / "out", **asked)
    assert (report.by_file, report.spilled) == (False, True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_run_goes_on_file_by_file_with_those_that_are_whole(folder, tmp_path, monkeypatch):
    at_once(monkeypatch, folder, tmp_path / "whole")
    stop(monkeypatch, folder, tmp_path / "out", by_file, "write_read", 4)
    damaged = next((tmp_path / ".out.gspo-rs").rglob("2.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    report = gs.score(folder, tmp_path / "out", by="prompt_id")
    assert (report.by_file, report.skipped) == (True, 3)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "after", "skipped"), [("tallied", 0, 0), ("write_wide", 2, 2)], ids=["early", "late"]
)
def test_what_was_written_before_a_key_returned_is_not_taken_up(
    folder, tmp_path, monkeypatch, name, after, skipped
):
    put_back(folder)
    monkeypatch.setattr(by_file, "PROBED", 8)
    stop(monkeypatch, folder, tmp_path / "out", scoring, name, after)
    assert len(list((tmp_path / ".out.gspo-rs" / "new").glob("*.parquet"))) == FILES - 1
    # That the files share a key is known by now.
    monkeypatch.setattr(scoring, "score_by_file", None)
    assert gs.score(folder, tmp_path / "out", by="prompt_id").skipped == skipped
    monkeypatch.undo()
    at_once(monkeypatch, folder, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_another_question_to_an_unfinished_run_is_refused(folder, tmp_path, monkeypatch):
    stop(monkeypatch, folder, tmp_path / "out", by_file, "write_read", 2)
    with pytest.raises(ValueError, match="estimator was 'percentile', is 'zscore'"):
        gs.score(folder, tmp_path / "out", by="prompt_id", estimator="zscore")
    path = folder / "4.parquet"
    pl.read_parquet(path)[:-1].write_parquet(path)
    with pytest.raises(ValueError, match=r"4\.parquet changed since"):
        gs.score(folder, tmp_path / "out", by="prompt_id")


def test_rewards_that_change_behind_an_old_time_stamp_are_found(tmp_path, monkeypatch):
    def write(path, rewards, key):
        table = pa.table({"prompt_id": [key] * 4, "reward": rewards})
        pq.write_table(table, path, compression="none", use_dictionary=False)

    (tmp_path / "in").mkdir()
    for number in range(3):
        write(tmp_path / "in" / f"{number}.parquet", [0.5, 1.0, 2.0, 4.0], number)
    stop(monkeypatch, tmp_path / "in", tmp_path / "out", by_file, "write_read", 2)
    path = tmp_path / "in" / "1.parquet"
    stamp = path.stat()
    write(path, [4.0, 1.0, 2.0, 0.5], 1)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(ValueError, match="ids or rewards of the input changed"):
        gs.score(tmp_path / "in", tmp_path / "out", by="prompt_id")


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_ends_with_the_same_bytes(folder, tmp_path, monkeypatch):
    at_once(monkeypatch, folder, tmp_path / "whole")
    program = "import sys, gspo_rs as gs; gs.score(*sys.argv[1:], by='prompt_id')"
    for seed in range(5):
        target = tmp_path / f"out{seed}"
        run = forked(folder, target, code=program)
        place = tmp_path / f".out{seed}.gspo-rs" / "new"
        wait_until(lambda: place.exists() or run.poll() is not None)  # noqa: B023 -- called here
        time.sleep(random.Random(seed).uniform(0, 0.1))
        run.kill()
        run.wait()
        gs.score(folder, target, by="prompt_id")
        assert content(target) == content(tmp_path / "whole")
