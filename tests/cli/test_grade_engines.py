import re

import polars as pl
import pytest

from fixtures.commands import call
from fixtures.stub_server import StubServer, said
from fixtures.tiny_models import write_reward_model


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.parquet"
    pl.DataFrame(
        {"id": [0, 0, 1, 1], "prompt": "abc", "completion": ["3", "5", "4", "2"]}
    ).write_parquet(file)
    return file


def shown(request):
    return re.findall("<<(.*?)>>", request.body["messages"][0]["content"])


def answered(request):
    numbers = [float(text) for text in shown(request)]
    if len(numbers) == 1:
        return said({"reason": "", "score": numbers[0]})
    return said({"reason": "", "better": "A" if numbers[0] > numbers[1] else "B"})


def graded(rows, *words):
    out = rows.parent / "out"
    assert call("grade", rows, "-o", out, "--by", "id", *words) == 0
    return pl.read_parquet(out / "*.parquet")


def rubric(folder, text):
    (folder / "rubric.txt").write_text(text)
    return ("--judge-model", "stub", "--judge-prompt", folder / "rubric.txt")


def test_a_judge_grades_at_its_address_and_a_cache_spares_it_the_second_time(rows, tmp_path):
    given = rubric(tmp_path, "Is <<{{ completion }}>> good?")
    with StubServer(answered) as server:
        words = ("--judge", server.url, *given, "--cache", tmp_path / "cache")
        found = graded(rows, *words)
        again = graded(rows, *words, "--overwrite")
        assert len(server.requests) == 4
    assert found["reward_judge"].to_list() == [3.0, 5.0, 4.0, 2.0]
    assert again["reward"].equals(found["reward"])
    assert again["attempts"].to_list() == [0] * 4


def test_comparisons_are_of_whole_groups(rows, tmp_path):
    given = rubric(tmp_path, "<<{{ a }}>> or <<{{ b }}>>?")
    with StubServer(answered) as server:
        found = graded(rows, "--pairwise", server.url, *given)
    assert found["reward_pairwise"].to_list() == [-1.0, 1.0, 1.0, -1.0]


def test_a_reward_model_and_a_function_grade_together(rows, letters, tmp_path):
    model = write_reward_model(tmp_path / "reward", letters)
    (tmp_path / "reward.py").write_text("def one(completions, **_): return [1.0]\n")
    words = ("--model", model, "--reward", f"{tmp_path}/reward.py:one", "--workers", 1)
    found = graded(rows, *words)
    total = found["reward_model"] + found["reward_one"]
    assert (total - found["reward"]).abs().max() < 1e-12
    assert found["status"].to_list() == ["ok"] * 4


def test_rewards_and_their_weights_are_joined_by_commas_or_repeated(rows, tmp_path):
    (tmp_path / "given.py").write_text(
        "def one(completions, **_): return [1.0]\ndef two(completions, **_): return [2.0]\n"
    )
    one, two = f"{tmp_path}/given.py:one", f"{tmp_path}/given.py:two"
    joined = ("--reward", f"{one},{two}", "--reward-weights", "1,-0.25", "--workers", 1)
    apart = ("--reward", one, "--reward", two, "--reward-weights", "1", "--reward-weights", "-0.25")
    for words in (joined, (*apart, "--workers", 1, "--overwrite")):
        assert graded(rows, *words)["reward"].to_list() == [0.5] * 4


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--rpm", "3"], "--rpm is of a judge"),
        (["--judge", "http://localhost:1"], "needs --judge-model and --judge-prompt"),
        (["--judge", "http://a", "--pairwise", "http://a"], "grade in two runs"),
        (["--model", "{}"], "has no config.json"),
        (["--endpoint", "http://localhost:1"], "name its folder with --model"),
    ],
)
def test_options_that_belong_together_are_asked_for(rows, tmp_path, words, error, capsys):
    words = [word.format(tmp_path) for word in words]
    assert call("grade", rows, "-o", tmp_path / "out", *words) == 2
    assert error in capsys.readouterr().err


def test_ready_rewards_are_listed_with_what_they_need(capsys):
    assert call("grade", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "gspo_rs.rewards.library:math_match --pass answer pip install gspo_rs[math]" in lines
    assert call("grade") == 2
    assert "name what to grade" in capsys.readouterr().err
