"""The command that a summary names next, run as it stands there."""

import json
import shlex

import polars as pl
import pytest

from fixtures.commands import call

NAMED = ["--by", "question", "--reward", "score"]
TEXTS = ["--prompt", "question", "--completion", "answer"]
# Commands with a table of columns that have no usual name, and their options.
COMMANDS = {
    "best": [*NAMED, *TEXTS],
    "explode": [],
    "filter": [*NAMED, "--keep", "informative"],
    "nest": NAMED,
    "pairs": [*NAMED, *TEXTS],
    "scan": [],
    "score": NAMED,
    "score --layout narrow": NAMED,
    "stats": NAMED,
}


@pytest.fixture
def rows(tmp_path):
    """One row per completion, and the same with one row per question."""
    frame = pl.DataFrame(
        {
            "question": ["a", "a", "b", "b"],
            "answer": ["x", "y", "z", "w"],
            "score": [0.0, 1.0, 0.5, 0.25],
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    frame.group_by("question", maintain_order=True).all().write_ndjson(tmp_path / "lists.jsonl")
    return tmp_path


def following(folder, verb, source, options, capsys):
    out = [] if verb == "stats" else ["-o", folder / f"{verb}.parquet"]
    assert call(*verb.split(), folder / source, *out, *options, "--json") == 0
    found = shlex.split(json.loads(capsys.readouterr().out)["next"])
    assert found[0] == "gspo-rs"
    return found[1:]


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_next_command_runs_as_it_is_printed(rows, verb, capsys, monkeypatch):
    monkeypatch.chdir(rows)
    source = "lists.jsonl" if verb == "explode" else "rows.parquet"
    words = following(rows, verb, source, COMMANDS[verb], capsys)
    assert call(*words) == 0


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_the_next_command_finds_the_groups_of_rows_with_lists(rows, layout, capsys, monkeypatch):
    monkeypatch.chdir(rows)
    options = ["--reward", "score", "--layout", layout]
    words = following(rows, "score", "lists.jsonl", options, capsys)
    assert call("stats", *words[1:], "--json") == 0
    assert json.loads(capsys.readouterr().out)["whole"]["groups"] == 2


def test_a_missing_reward_and_lists_of_rewards_are_refused_with_what_to_type(rows, capsys):
    assert call("stats", rows / "rows.parquet", "--by", "question") == 2
    assert "name the rewards with --reward (reward=…)" in capsys.readouterr().err
    assert call("stats", rows / "lists.jsonl") == 2
    said = "or the rewards where each row has a list of them: --reward score"
    assert said in capsys.readouterr().err


def test_one_thing_is_counted_in_the_singular(rows, capsys):
    frame = pl.DataFrame({"prompt_id": ["a"], "reward": [1.0]})
    frame.write_parquet(rows / "one.parquet")
    assert call("score", rows / "one.parquet", "-o", rows / "out", "--by", "prompt_id") == 0
    assert "1 row in 1 group, 0 of them with signal" in capsys.readouterr().out
    assert call("verify", rows / "out") == 0
    assert "1 file, 1 row: as written" in capsys.readouterr().out
