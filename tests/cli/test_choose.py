"""The commands that choose and write: what Python writes, one line for a mistake."""

import json
from importlib import import_module

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.commands import call
from gspo_rs.cli.application import app
from gspo_rs.cli.commands import COMMANDS
from gspo_rs.files.best import best
from gspo_rs.files.nested import nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import apply, read_selection
from gspo_rs.files.summary import summarize
from gspo_rs.files.verl import verl


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"train"}))
def test_the_line_of_help_is_the_first_of_the_command(name):
    module, line = COMMANDS[name]
    command = getattr(import_module(f"gspo_rs.cli.{module}"), name)
    assert command.__doc__.splitlines()[0].startswith(line.rstrip("."))


def test_the_commands_write_what_the_functions_write(shared, tmp_path, capsys):
    source = shared / "data/llama3b_amc_aime50.parquet"
    by = ["source", "prompt_id"]
    keep = "informative,pass-rate:0.1.."
    options = [*(part for key in by for part in ("--by", key)), "--keep", keep]
    named = {"ground_truth": "expected_answer", "data_source": "aime"}
    truth = ["--ground-truth", "expected_answer", "--data-source", "aime"]
    for command, function, more, given in [
        ("pairs", pairs, ["--strategy", "all", "--chat"], {"strategy": "all", "chat": True}),
        ("best", best, ["--n", "2"], {"n": 2}),
        ("verl", verl, truth, named),
    ]:
        assert (
            call(command, source, "-o", tmp_path / "a.parquet", *options, *more, "--overwrite") == 0
        )
        written = function(
            source, tmp_path / "b.parquet", by=by, keep=keep, overwrite=True, **given
        )
        found, expected = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in "ab")
        assert found.equals(expected)
        said = capsys.readouterr().out.splitlines()
        assert (
            said[0] == f"{written.rows:,} rows of {written.groups:,} groups in {tmp_path}/a.parquet"
        )
        assert said[1:-1] == [
            f"{rows:,} rows dropped by {rule}" for rule, rows in written.dropped.items()
        ]
        assert said[-1].endswith(f" s; next: gspo-rs scan {tmp_path}/a.parquet")


def test_nest_explode_and_filter_write_what_the_functions_write(shared, tmp_path):
    source = shared / "data/tot_game24_200.parquet"
    lists, rows = tmp_path / "l.parquet", tmp_path / "r.parquet"
    assert call("nest", source, "-o", lists, "--by", "prompt_id", "--once", "prompt") == 0
    nest(source, tmp_path / "m.parquet", by="prompt_id", once=["prompt"])
    assert pl.read_parquet(lists).equals(pl.read_parquet(tmp_path / "m.parquet"))
    assert call("explode", lists, "-o", rows) == 0
    assert pl.read_parquet(rows).height == pl.read_parquet(source).height
    chosen = ["filter", source, "-o", rows, "--by", "prompt_id", "--keep", "best:3", "--overwrite"]
    assert call(*chosen) == 0
    kept = gs.filter(source, by="prompt_id", keep="best:3")
    assert kept.height == 300
    assert pl.read_parquet(rows).equals(kept)
    assert call(*chosen, "--layout", "narrow") == 0
    assert apply(read_selection(rows)).collect().equals(kept)


def test_stats_writes_json_and_a_table_of_the_same_numbers(shared, capsys, monkeypatch):
    source = shared / "data/rg_policy3.parquet"
    assert call("stats", source, "--by", "prompt_id", "--per", "source", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = summarize(source, by="prompt_id", per="source")
    numbers = json.loads(json.dumps([summary.to_dict() for summary in expected]))
    assert [found["whole"], *found["parts"]] == numbers
    monkeypatch.setenv("COLUMNS", "160")
    assert call("stats", source, "--by", "prompt_id", "--per", "source") == 0
    table = capsys.readouterr().out
    for text in ("26,100", "5,053", f"{expected[0].pass_at_k[1]:.3f}", expected[3].part):
        assert text in table


COPY = ("{rg}", "-o", "{out}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["pairs", *COPY, "--by", "prompt_id", "--keep", "best"],
            "write it as best:1",
        ),
        (["pairs", *COPY, "--by", "nothing"], "has no column 'nothing'"),
        (["best", *COPY, "--by", "prompt_id", "--n", "0"], "n is 0"),
        (
            ["best", "none.parquet", *COPY[1:], "--by", "prompt_id"],
            "no such file: none.parquet",
        ),
        (
            ["nest", *COPY, "--by", "task", "--once", "prompt"],
            "but differ in 'prompt'",
        ),
        (["explode", *COPY], "is a list; it has"),
        (
            ["filter", *COPY, "--by", "prompt_id", "--keep", "worst:1"],
            "'worst'; use all",
        ),
        (["stats", "{rg}", "--by", "prompt_id", "--threshold", "nan"], "threshold is nan"),
        (
            ["verl", *COPY, "--by=task", "--ground-truth=x", "--data-source=y"],
            "no column 'x'",
        ),
    ],
)
def test_a_mistake_is_one_line_and_code_two_and_writes_nothing(
    shared, tmp_path, capsys, arguments, message
):
    places = {"rg": shared / "data/rg_policy3.parquet", "out": tmp_path / "out.parquet"}
    assert call(*(argument.format(**places) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "option"), [("best", "--n"), ("pairs", "--seed")])
@pytest.mark.parametrize("given", ["1.5", "0.5", "1e0", "two", ""])
def test_a_number_of_rows_that_is_not_whole_is_never_rounded(
    tmp_path, capsys, command, option, given
):
    rows = {"id": [1, 1], "prompt": ["p"] * 2, "completion": ["a", "b"], "reward": [0.0, 1.0]}
    pl.DataFrame(rows).write_parquet(tmp_path / "x.parquet")
    files = [tmp_path / "x.parquet", tmp_path / "y.parquet"]
    with pytest.raises(SystemExit) as stopped:
        app(
            [command, str(files[0]), "-o", str(files[1]), "--by", "id", option, given],
            result_action="return_value",
        )
    assert stopped.value.code != 0
    assert f"{given!r} is no whole number" in " ".join(capsys.readouterr().err.split())
    assert not files[1].exists()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("answer", [{"value": 1}, [1, 2]])
def test_a_ground_truth_of_parts_is_not_written_as_another_text(tmp_path, suffix, answer):
    rows = pl.DataFrame({"id": [1], "prompt": ["p"], "answer": [answer], "reward": [0.0]})
    file, target = tmp_path / f"x.{suffix}", tmp_path / "y.parquet"
    rows.write_parquet(file) if suffix == "parquet" else rows.write_ndjson(file)
    with pytest.raises(TypeError, match=r"column 'answer' of .*x\.\w+ is .*; name a field of it"):
        verl(file, target, by="id", ground_truth="answer", data_source="sums")
    assert not target.exists()
    if isinstance(answer, dict):
        verl(file, target, by="id", ground_truth="answer.value", data_source="sums")
        (found,) = pl.read_parquet(target)["reward_model"]
        assert found["ground_truth"] == "1"


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
@pytest.mark.parametrize("command", ["best", "pairs", "verl"])
def test_a_file_of_0_bytes_has_no_rows_rather_than_no_prompt(tmp_path, capsys, name, command):
    (tmp_path / name).touch()
    named = ["--ground-truth", "a", "--data-source", "b"] if command == "verl" else []
    assert call(command, tmp_path / name, "-o", tmp_path / "y.parquet", "--by", "id", *named) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / name} has no rows\n"
