"""The options of `gspo-rs train`: as in a file, or refused with the option that is meant."""

import dataclasses
import shlex
import tomllib

import pytest

from fixtures.commands import call, command
from gspo_rs.cli.train_options import respelled
from gspo_rs.train.config.config import Config
from gspo_rs.train.config.sections import MAIN, option_of

FIELDS = [field.name for field in dataclasses.fields(Config)]
START = ["train", "--model", "m", "--rollouts", "r.parquet"]


def settings(capsys, *words):
    """What the command line makes of some options."""
    assert call(*words, "--print-config") == 0
    return tomllib.loads(capsys.readouterr().out)


def test_the_help_shows_the_main_options_and_the_long_help_all(capsys):
    call("train", "--help")
    short = capsys.readouterr().out
    assert call("train", "--help-all") == 0
    long = capsys.readouterr().out
    for name in FIELDS:
        shown = f"{option_of(name)} " in short or f"{option_of(name)}\n" in short
        assert shown == (name in MAIN), name
        assert f"{option_of(name)} " in long or f"{option_of(name)}\n" in long, name
    assert len(short.splitlines()) < 100


def test_options_alone_make_a_run(capsys):
    found = settings(
        capsys,
        *START,
        "more.parquet",
        "--rollouts=last.parquet",
        "--by",
        "a,b",
        "--seed",
        "-0",
        "--learning-rate",
        ".5",
        "--no-shuffle-dataset",
        "--renormalise",
        "-o",
        "out",
        "--advantage-options",
        "scale=none",
        "--reward-weights",
        "-1e-1",
    )
    assert [path.rsplit("/", 1)[1] for path in found["rollouts"]] == [
        "r.parquet",
        "more.parquet",
        "last.parquet",
    ]
    assert (found["by"], found["seed"], found["learning_rate"]) == (["a", "b"], 0, 0.5)
    assert (found["shuffle_dataset"], found["renormalise"]) == (False, True)
    assert found["output_dir"].endswith("/out")
    assert found["advantage_options"] == {"scale": "none"}
    assert found["reward_weights"] == [-0.1]


def test_options_win_over_a_file_in_toml_or_yaml(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('model = "m"\nrollouts = "r"\nseed = 1\ntop_k = 2\n')
    (tmp_path / "run.yaml").write_text("model: m\nrollouts: r\nseed: 1\ntop_k: 2\n")
    for name in ("run.toml", "run.yaml"):
        found = settings(capsys, "train", tmp_path / name, "--seed", "9")
        assert (found["seed"], found["top_k"]) == (9, 2)


def test_an_option_with_underscores_as_trl_has_them_is_the_same_option(capsys):
    assert settings(capsys, *START, "--max_steps", "30")["max_steps"] == 30
    assert settings(capsys, *START, "--torch_compile")["torch_compile"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "1"], "unknown option --lr; did you mean `--learning-rate`?"),
        (["--num_generation", "4"], "unknown option --num_generation; did you mean `--num-gen"),
        (["--epsilon", "4"], "did you mean `--clip-low` and `--clip-high`?"),
        (["--bf16"], "unknown option --bf16; did you mean `--dtype`?"),
        (["--xyzzy", "4"], "unknown option --xyzzy; `gspo-rs train --help-all` lists all"),
        (["--seed", "one"], "--seed: seed = 'one': expected an integer"),
        (["--prompts", "p"], "give either `prompts` (online) or `rollouts` (offline)"),
    ],
)
def test_a_wrong_option_gets_one_line_and_code_two(capsys, words, message):
    assert call(*START, *words, "--print-config") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_nothing_at_all_says_what_to_give(capsys):
    assert call("train") == 2
    assert "no model is given; give --model with --prompts and --reward" in capsys.readouterr().err


def test_set_still_works_and_answers_with_the_options_to_write(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('model = "m"\nrollouts = "r"\n')
    words = ["seed=9", "by=['a', 'b']", "shuffle_dataset=false", "rollouts=['x y', 'z']"]
    words = ["train", tmp_path / "run.toml", "--set", *words, "--print-config"]
    assert call(*words) == 0
    printed = capsys.readouterr()
    before = tomllib.loads(printed.out)
    start, _, spelled = printed.err.rstrip("\n").partition("; write ")
    assert start == "--set will be gone in the next release"
    assert settings(capsys, "train", tmp_path / "run.toml", *shlex.split(spelled)) == before


def test_a_table_is_spelled_as_its_option_is_read(capsys):
    words = shlex.split(respelled("advantage_options", {"eps": 0.5, "ddof": 0}))
    found = settings(capsys, *START, "--advantage", "zscore", *words)
    assert found["advantage_options"] == {"eps": 0.5, "ddof": 0}


def test_printing_the_configuration_trains_nothing_and_writes_nothing(tmp_path):
    found = command(*START, "--print-config", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert not list(tmp_path.iterdir())
