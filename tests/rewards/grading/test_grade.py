"""Grading of files: a status for each row, each row once, whatever the function does."""

import json
import random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import gspo_rs as gs
from fixtures.commands import command
from fixtures.graded_rows import FUNCTIONS, read, rows, stable, written
from fixtures.hostile_fates import FATES, HARMLESS, HOSTILE, SEEN, USABLE, check
from gspo_rs.files.parts import ledger_of, run_manifest
from gspo_rs.rewards.errors import FailureLimitError, GradingError, RewardError
from gspo_rs.rewards.workers import Grade


def test_rewards_stand_beside_their_keys_in_the_order_of_the_rows(tmp_path, spec):
    frame, out = rows(), tmp_path / "out"
    options = {"columns": {"limit": "most"}, "by": "id", "workers": 1}
    report = gs.grade(frame, out, reward=spec("sized"), **options)
    found = read(out)
    expected = frame["prompt"].str.len_bytes() + frame["completion"].str.len_bytes() / frame["most"]
    assert found["reward"].to_list() == expected.to_list() == found["reward_sized"].to_list()
    assert found["id"].to_list() == frame["id"].to_list()
    assert found["row"].to_list() == list(range(40))
    assert found.columns[:3] == ["id", "file", "row"]
    assert found["status"].unique().to_list() == ["ok"]
    assert found["error"].null_count() == 40
    assert found["attempts"].unique().to_list() == [1]
    assert found["seconds"].min() > 0
    assert report.status == {"ok": 40}
    assert run_manifest(out).counts["status"] == {"ok": 40}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".arrow"])
def test_several_files_of_a_format_are_graded_by_file_and_row(tmp_path, spec, suffix):
    frame, folder = rows(), tmp_path / "in"
    folder.mkdir()
    writers = {".jsonl": "write_ndjson", ".arrow": "write_ipc"}
    for name, part in (("a", frame[:15]), ("b", frame[15:])):
        getattr(part, writers.get(suffix, f"write_{suffix[1:]}"))(folder / f"{name}{suffix}")
    gs.grade(folder, tmp_path / "out", reward=spec("size"), workers=1)
    found = read(tmp_path / "out")
    assert found["file"].to_list() == [f"a{suffix}"] * 15 + [f"b{suffix}"] * 25
    assert found["row"].to_list() == [*range(15), *range(25)]
    assert found["reward"].to_list() == [float(len(one)) for one in frame["completion"]]
    entries = run_manifest(tmp_path / "out").asked["inputs"]
    assert [(e["rows"], e["size"] > 0, bool(e["digest"])) for e in entries] == [
        (15, True, True),
        (25, True, True),
    ]


def test_what_is_nested_is_handed_on_as_it_is_written(tmp_path, spec):
    given = [
        {
            "prompt": [{"role": "user", "content": "2+2="}],
            "completion": [{"role": "assistant", "content": "4" * i}],
            "meta": {"i": i, "list": [1, "x"]} if i % 2 else {"i": i, "other": None},
        }
        for i in range(6)
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    gs.grade(path, tmp_path / "out", reward=spec("nested"), columns=["meta"], workers=1)
    sizes = [float(len(json.dumps(list(row.values())))) for row in given]
    assert read(tmp_path / "out")["reward"].to_list() == sizes


def test_several_rewards_are_weighted_without_those_that_are_none_and_none_if_one_failed(
    tmp_path, spec
):
    frame = pl.DataFrame({"completion": ["aa", "xx", "bad", None]})
    report = gs.grade(
        frame,
        tmp_path / "out",
        reward=[spec("size"), spec("some"), spec("odd")],
        reward_weights=[0.5, 2.0, 4.0],
        workers=1,
        max_failed="50%",
    )
    found = read(tmp_path / "out")
    assert found["reward"].to_list() == [1.0 + 2.0 + 4.0, 1.0 + 4.0, None, None]
    assert found["reward_size"].to_list() == [2.0, 2.0, 3.0, None]
    assert found["reward_some"].to_list() == [1.0, None, 1.0, None]
    assert found["reward_odd"].to_list() == [1.0, 1.0, None, None]
    assert found["status"].to_list() == ["ok", "ok", "error", "skipped"]
    assert found["error"].to_list() == [None, None, "odd: raised ValueError: bad", None]
    assert report.failed == 1
    assert report.rewards["some"] == {"none": 1, "ok": 2, "skipped": 1}
    assert report.metrics == {"odd": {"size": 2.0}}
    with pytest.raises(ValueError, match="give 2 finite numbers, one for each of size, some"):
        gs.grade(
            frame,
            tmp_path / "o",
            reward=[spec("size"), spec("some")],
            reward_weights=[1],
            workers=1,
        )


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", USABLE)
@pytest.mark.usefixtures("ctrl_c")  # which a worker inherits
def test_a_hostile_set_has_its_statuses_and_every_other_row_its_reward(tmp_path, sandbox):
    said = [*FATES, *HARMLESS, *SEEN, *(f"{n / 8}" for n in range(200))]
    random.Random(1).shuffle(said)
    options = {"timeout": 600.0, "memory": "512MiB", "workers": 2, "max_failed": "100%"}
    frame = pl.DataFrame({"completion": said})
    gs.grade(frame, tmp_path / "out", reward=HOSTILE, sandbox=sandbox, **options)
    for one, row in zip(said, read(tmp_path / "out").iter_rows(named=True), strict=True):
        check(one, row["status"], row["error"] or "", row["reward"])
        assert row["attempts"] >= 1


@pytest.mark.slow
def test_a_row_that_hangs_is_a_timeout_and_every_other_has_its_reward(tmp_path):
    frame, options = pl.DataFrame({"completion": ["0.5", "sleep", "2.5"]}), {"max_failed": "50%"}
    gs.grade(frame, tmp_path / "out", reward=HOSTILE, timeout=8.0, workers=1, **options)
    found = read(tmp_path / "out")
    assert found["status"].to_list() == ["ok", "timeout", "ok"]
    assert found["reward"].to_list() == [0.5, None, 2.5]
    assert found["error"][1].startswith("gave no answer within 8 s")


@pytest.mark.parametrize("chunk", [3, 7])
def test_a_call_of_several_rows_that_fails_is_made_again_row_by_row(tmp_path, spec, chunk):
    said = ["ok"] * 20 + ["bad"] + ["ok"] * 19
    options = {"workers": 1, "chunk": chunk, "max_failed": 1}
    gs.grade(pl.DataFrame({"completion": said}), tmp_path / "out", reward=spec("odd"), **options)
    found = read(tmp_path / "out")
    assert found["reward"].to_list() == [1.0] * 20 + [None] + [1.0] * 19
    assert found["status"].to_list() == ["ok"] * 20 + ["error"] + ["ok"] * 19
    assert found["attempts"].sum() == 40 + chunk
    gs.grade(pl.DataFrame({"completion": said}), tmp_path / "c", reward=spec("calls"), **options)
    found = read(tmp_path / "c")["reward"].to_list()
    assert found[:8] == [float(chunk)] * 7 + [found[7]]


@pytest.mark.slow
def test_a_function_that_fails_alike_on_the_first_rows_stops_the_run_with_its_traceback(
    tmp_path, spec
):
    with pytest.raises(
        GradingError, match="fails alike on the first 32 rows: raised KeyError"
    ) as e:
        gs.grade(rows(200), tmp_path / "out", reward=spec("fails"), workers=2)
    assert "raise KeyError(completions[0])" in e.value.trace
    assert not list((tmp_path / "out").glob("part-*"))
    words = ["--reward", spec("fails"), "--workers", 1]
    done = command("grade", written(tmp_path, 40), "-o", tmp_path / "cli", *words)
    assert done.returncode == 2
    assert "raise KeyError(completions[0])" in done.stderr
    with pytest.raises(RewardError, match="no function nothing there"):
        gs.grade(rows(4), tmp_path / "out", reward=spec("nothing"), workers=1)


@pytest.mark.slow
def test_a_run_of_too_many_failures_stops_with_code_3_and_goes_on(tmp_path, spec):
    said = ["fine"] * 3000
    said[2000:2040] = ["bad"] * 40
    pl.DataFrame({"completion": said}).write_parquet(tmp_path / "in.parquet")
    words = ["grade", tmp_path / "in.parquet", "-o", tmp_path / "out", "--workers", 1]
    words += ["--reward", spec("odd")]
    done = command(*words)
    assert done.returncode == 3, done.stderr
    assert "40 error" in done.stderr
    assert "1 parts in" in done.stderr
    assert len(ledger_of(tmp_path / "out")) == 1
    such = "such as reward function odd: raised ValueError: bad; row .* and 39 of 3,000 may"
    with pytest.raises(FailureLimitError, match=such):
        gs.grade(
            tmp_path / "in.parquet", tmp_path / "out", reward=spec("odd"), workers=1, max_failed=39
        )
    done = command(*words, "--max-failed", "2%", "--json")
    facts = json.loads(done.stdout)
    assert (facts["skipped"], facts["parts"], facts["failed"]) == (1, 3, 40)
    assert facts["status"] == {"ok": 2960, "error": 40}


def test_a_failure_that_is_an_error_names_its_row(tmp_path, spec):
    frame = pl.DataFrame({"completion": ["a", "bad", "c"]})
    with pytest.raises(GradingError, match="odd: error, raised ValueError: bad; row 1 of"):
        gs.grade(frame, tmp_path / "out", reward=spec("odd"), workers=1, on_failure="error")


def test_keys_name_rows_once(tmp_path, spec):
    frame = rows(8).with_columns(number=pl.Series([0, 1, 2, 3] * 2), name=pl.lit("x"))
    options = {"reward": spec("size"), "workers": 1}
    gs.grade(frame, tmp_path / "out", by="id", key="number", **options)
    assert read(tmp_path / "out").columns[:3] == ["id", "number", "reward"]
    with pytest.raises(
        ValueError, match=r"row 0 of .* and row 4 of .* have the same key, of number"
    ):
        gs.grade(frame, tmp_path / "other", key="number", **options)
    holes = frame.with_columns(number=pl.Series([0, None] * 4))
    with pytest.raises(ValueError, match="the key 'number' is null at row 1"):
        gs.grade(holes, tmp_path / "other", key="number", **options)
    with pytest.raises(ValueError, match="the key 'status' has the name of a column"):
        gs.grade(frame.rename({"id": "status"}), tmp_path / "other", by="status", **options)
    assert not (tmp_path / "other").exists()


def test_what_would_be_wrong_later_is_refused_before(tmp_path, spec):
    frame, out = rows(4), tmp_path / "out"
    options = {"workers": 1}
    with pytest.raises(ValueError, match="has no column 'answer'"):
        gs.grade(frame, out, reward=spec("size"), completion="answer", **options)
    with pytest.raises(RewardError, match="takes prompts, and no column of them is known"):
        gs.grade(frame.drop("prompt"), out, reward=spec("sized"), **options)
    with pytest.raises(RewardError, match="no reward is given"):
        gs.grade(frame, out, **options)
    with pytest.raises(RewardError, match="two rewards are called size"):
        gs.grade(frame, out, reward=[spec("size"), spec("size")], **options)
    with pytest.raises(RewardError, match="is a function in memory"):
        gs.grade(frame, out, reward=len, **options)
    with pytest.raises(ValueError, match="max_failed = '1x' is no number of rows"):
        gs.grade(frame, out, reward=spec("size"), max_failed="1x", **options)
    with pytest.raises(RewardError, match="column 'prompts' of the DataFrame cannot go"):
        gs.grade(frame, out, reward=spec("size"), columns={"prompts": "most"}, **options)
    binary = frame.with_columns(data=pl.lit(b"x"))
    with pytest.raises(RewardError, match="column 'data' holds a bytes, row 0"):
        gs.grade(binary, out, reward=spec("size"), columns=["data"], **options)
    with pytest.raises(ValueError, match="has no rows"):
        gs.grade(frame[:0], out, reward=spec("size"), **options)


class Whole:
    """An engine that answers the size of its group."""

    name, kind, scorer, whole_groups, closed = "whole", "pairwise", "ab" * 32, True, False

    def grade(self, rows):
        return [Grade("ok", float(rows.groups.count(group))) for group in rows.groups]

    def close(self):
        self.closed = True


def test_an_engine_that_compares_groups_gets_them_whole(tmp_path, spec):
    sizes = [3, 1, 4, 1, 5, 9, 2, 6] * 200
    ids = [place for place, size in enumerate(sizes) for _ in range(size)]
    frame = pl.DataFrame({"id": ids, "completion": ["a"] * len(ids)})
    engine = Whole()
    gs.grade(frame, tmp_path / "out", engines=[engine], by="id")
    assert engine.closed
    expected = [float(size) for size in sizes for _ in range(size)]
    assert read(tmp_path / "out")["reward"].to_list() == expected
    assert len(ledger_of(tmp_path / "out")) > 2
    mixed = frame.sort(pl.col("completion"), pl.int_range(pl.len()) % 7)
    with pytest.raises(ValueError, match="are of one group, and rows of other groups lie between"):
        gs.grade(mixed, tmp_path / "mixed", engines=[Whole()], by="id")
    with pytest.raises(ValueError, match="compares whole groups; name their columns with --by"):
        gs.grade(frame, tmp_path / "mixed", engines=[Whole()])


def test_random_rewards_do_not_depend_on_workers_or_on_where_a_run_went_on(tmp_path, spec):
    frame = rows(3000)
    for workers in (1, 3):
        gs.grade(frame, tmp_path / f"out{workers}", reward=spec("drawn"), workers=workers)
    assert_frame_equal(stable(tmp_path / "out1"), stable(tmp_path / "out3"))
    assert stable(tmp_path / "out1")["reward"].n_unique() > 2900


def test_a_changed_function_option_or_input_is_refused_by_name(tmp_path, spec):
    path, out = written(tmp_path, 40), tmp_path / "out"
    gs.grade(path, out, reward=spec("size"), workers=1)
    with pytest.raises(ValueError, match=r"columns was \{\}, is \{'most': 'most'\}"):
        gs.grade(path, out, reward=spec("size"), columns=["most"], workers=1)
    (tmp_path / "given.py").write_text(FUNCTIONS + "# changed\n")
    with pytest.raises(ValueError, match=r"rewards was \[\{'name': 'size'"):
        gs.grade(path, out, reward=spec("size"), workers=1)
    (tmp_path / "given.py").write_text(FUNCTIONS)
    rows(41).write_parquet(path)
    with pytest.raises(ValueError, match=r"input .*in\.parquet, whose rows was 40, is 41"):
        gs.grade(path, out, reward=spec("size"), workers=1)
