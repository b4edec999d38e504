"""Command lines of the release before are answered with the new one, and nothing is done."""

import shlex
import sys

import polars as pl
import pytest

from fixtures.forked import finished
from gspo_rs.cli.application import app
from gspo_rs.cli.commands import COMMANDS, USAGE
from gspo_rs.cli.old_spellings import FLAGS, TARGETS, renewed

FRAME = pl.DataFrame(
    {
        "id": ["a", "a", "b", "b"],
        "prompt": ["p", "p", "q", "q"],
        "completion": ["1", "2", "3", "4"],
        "model": ["x", "y", "x", "y"],
        "reward": [0.0, 1.0, 1.0, 0.0],
    }
)
OLD = {
    "best": "best in.parquet out.parquet --by id --n 1 --chat",
    "pairs": "pairs --by id in.parquet out.parquet",
    "select": "select in.parquet 'out 1.parquet' --keep best:1 --by=id",
    "lists": "lists --by id in.parquet --once prompt -- out.parquet",
    "rows": "rows lists.parquet out.parquet",
    "verl": "verl in.parquet out.parquet --by id --ground-truth prompt --data-source sums",
    "score": "score in.parquet more.parquet out --by id --layout narrow",
    "report": "report in.parquet --by id --source model -o page.html",
}


@pytest.fixture
def folder(tmp_path):
    for name in ("in", "more"):
        FRAME.write_parquet(tmp_path / f"{name}.parquet")
    FRAME.group_by("id").agg("reward").write_parquet(tmp_path / "lists.parquet")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", OLD)
def test_an_old_command_is_answered_with_one_that_does_the_same(folder, name):
    before = {path.name for path in folder.iterdir()}
    refused = finished(*shlex.split(OLD[name]), cwd=folder)
    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert {path.name for path in folder.iterdir()} == before
    # The line begins with the program, which is three words here.
    new = shlex.split(line.split("type now: ")[1])[3:]
    done = finished(*new, cwd=folder)
    assert done.returncode == 0, done.stderr
    (written,) = {path.name for path in folder.iterdir()} - before
    assert written in ("out.parquet", "out 1.parquet", "out", "page.html")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("rows l.parquet r.parquet", "explode l.parquet -o r.parquet"),
        ("select a b --keep all", "filter a -o b --keep all --layout narrow"),
        ("pairs a --by id", "pairs a --by id -o pairs.parquet"),
        ("score a b c --by id", "score a b -o c --by id"),
        ("lists --help", "nest --help"),
        ("report a --source=m --by id", "report a --model-column=m --by id"),
        ("best - x.jsonl --by id", "best - -o x.jsonl --by id"),
        ("best 'a b' \"it's\" --by id", "best 'a b' -o 'it'\"'\"'s' --by id"),
    ],
)
def test_the_answer_is_the_whole_new_command_quoted_for_a_shell(words, answer, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gspo-rs"])
    found = renewed(shlex.split(words))
    assert found.startswith("error: ")
    assert found.endswith(f"type now: gspo-rs {answer}")


@pytest.mark.parametrize(
    "words",
    [
        "pairs a.parquet b.parquet -o c.parquet --by id",
        "pairs a.parquet --output=c.parquet --by id",
        "pairs a.parquet -oc.parquet --by id",
        "pairs --help",
        "stats a.parquet b.parquet --by id",
        "train run.toml",
        "scan a.parquet",
        "",
    ],
)
def test_a_new_command_is_not_answered(words):
    assert renewed(words.split()) is None


def test_the_last_file_of_a_glob_never_comes_after_the_option_of_the_target(folder):
    files = [str(folder / f"{name}.parquet") for name in ("in", "lists", "more")]
    for words in (files, [*files, "--overwrite"], files[:2]):
        assert f"-o {files[-1]}" not in renewed(["pairs", *words])
        assert renewed(["pairs", *words]).endswith("-o pairs.parquet")


def test_the_words_that_take_no_value_are_those_of_the_commands():
    found = set()
    for verb in TARGETS:
        for argument in app[verb].assemble_argument_collection():
            if argument.hint is bool:
                found |= {name for name in argument.names if name.startswith("-")}
    assert found == FLAGS


def test_every_verb_that_needs_a_target_is_known_to_need_one():
    needing = {name for name, (arguments, _) in USAGE.items() if " -o " in arguments}
    assert needing == {*TARGETS}
    assert {*USAGE} == {*COMMANDS}
