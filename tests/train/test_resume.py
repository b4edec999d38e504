"""A run that was killed goes on to the very weights of a run that was not."""

import json
import random
import time

import numpy as np
import polars as pl
import pytest

from fixtures.forked import forked
from fixtures.runs import contents, wait_for, weights
from gspo_rs.train import checkpoint, metrics, train
from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.toml import load

# As the killed processes compute.
pytestmark = pytest.mark.usefixtures("one_thread")

# Draws from both global generators, as rewards of other people may.
REWARD = """
import random, time
import numpy as np
def noisy(completions, **_):
    time.sleep({pause})
    return [t.count("a") + random.random() / 99 + np.random.random() / 99 for t in completions]
def rare(completions, **_):
    time.sleep({pause})
    random.random(), np.random.random()
    return [float(t.count("a") > 1) for t in completions]
def short(completions, **_):
    return [-len(t) - random.random() / 99 if "b" in t else None for t in completions]
"""


@pytest.fixture
def run_file(letters, tmp_path):
    """Write the TOML of a run; `kind` is online, lora, several, dynamic or offline."""
    prompts = [{"prompt": text} for text in ("ab", "bc", "cd", "de", "ef")]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abcdefgh"), 6)) for _ in range(60)]
    pl.DataFrame(
        {
            "prompt_id": np.arange(60) % 15,
            "prompt": "abc",
            "completion": texts,
            "reward": [text.count("a") + draw.random() / 9 for text in texts],
        }
    ).write_parquet(tmp_path / "scored.parquet")

    def write(name, kind="online", pause=0.0):
        (tmp_path / f"{name}.py").write_text(REWARD.format(pause=pause))
        source = f'prompts = "prompts.jsonl"\nreward = "{name}.py:noisy"\nbeta = 0.1'
        if kind == "offline":
            source = 'rollouts = "scored.parquet"'
        if kind == "several":
            both = f'reward = ["{name}.py:noisy", "{name}.py:short"]\nreward_weights = [1, 0.5]'
            source = f'prompts = "prompts.jsonl"\nalgorithm = "gdpo"\n{both}'
        if kind == "dynamic":
            source = source.replace("noisy", "rare") + "\ndynamic_sampling = true"
        if kind == "lora":
            source += "\nlora_r = 2"
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'model = "{letters}"\noutput_dir = "{name}"\n{source}\nmax_completion_length = 8\n'
            "prompts_per_step = 2\nsteps_per_generation = 2\nmax_steps = 14\nsave_steps = 2\n"
            "learning_rate = 1e-2\neval_size = 2\neval_steps = 5\nwarmup_steps = 3\nseed = 3\n"
        )
        return path

    return write


def wait_for_checkpoint(child, folder):
    wait_for(lambda: checkpoint.steps(folder), child)


def without_times(record):
    return {k: v for k, v in record.items() if not k.startswith(("time/", "speed/"))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["online", "lora", "several", "offline", "dynamic"])
def test_a_killed_run_resumes_to_the_bits_of_one_that_was_not(run_file, tmp_path, kind):
    train(load(run_file("whole", kind)))
    killed = run_file("killed", kind, pause=0.15)
    process = forked("train", killed, "--set", "logging_steps=100")
    wait_for_checkpoint(process, tmp_path / "killed")
    time.sleep(random.uniform(0, 0.6))
    process.kill()  # unless it has ended meanwhile
    process.communicate()
    run_file("killed", kind)  # the same reward function without its pause
    result = train(load(killed), resume=True)
    assert result.steps == 14
    assert weights(tmp_path / "killed" / "final") == weights(tmp_path / "whole" / "final")
    records = [
        [without_times(r) for r in metrics.read(tmp_path / name / "metrics.jsonl")]
        for name in ("killed", "whole")
    ]
    assert records[0] == records[1]
    assert [record["step"] for record in records[0]] == list(range(kind == "offline", 15))


@pytest.mark.parametrize("seed", [3, 4])
def test_resuming_where_there_is_no_checkpoint_says_what_is_there_and_keeps_it(
    run_file, tmp_path, seed
):
    path = run_file("early")
    train(load(path, ["max_steps=2", "save_steps=0"]))
    before = contents(tmp_path / "early")
    there = (
        r"no checkpoint to resume from: it holds final/, ledger\.jsonl, metrics\.jsonl \(2 steps\)"
    )
    with pytest.raises(ConfigError, match=there):
        train(load(path, [f"seed={seed}"]), resume=True)
    assert contents(tmp_path / "early") == before


@pytest.mark.parametrize("there", [None, [], ["notes.txt", "a/b.txt"]])
def test_resuming_a_run_that_never_was_makes_and_removes_nothing(run_file, tmp_path, there):
    folder = tmp_path / "early"
    for name in there or ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if there is not None:
        folder.mkdir(exist_ok=True)
    told = "is not there" if there is None else "holds a/, notes.txt" if there else "is empty"
    with pytest.raises(ConfigError, match=f"no checkpoint to resume from: it {told}"):
        train(load(run_file("early")), resume=True)
    assert folder.exists() == (there is not None)
    assert sorted(contents(folder)) == sorted(there or ())


def test_a_finished_run_resumed_with_more_steps_is_the_longer_run(run_file, tmp_path):
    train(load(run_file("long")))
    path = run_file("short")
    train(load(path, ["max_steps=8"]))
    train(load(path), resume=True)
    assert weights(tmp_path / "short" / "final") == weights(tmp_path / "long" / "final")


def test_a_changed_key_that_matters_is_named_and_one_that_does_not_is_taken(run_file):
    path = run_file("run")
    train(load(path, ["max_steps=2"]))
    with pytest.raises(ConfigError, match=r"learning_rate = 0\.5, but .*checkpoint-2.* with 0\.01"):
        train(load(path, ["learning_rate=0.5"]), resume=True)
    assert train(load(path, ["max_steps=4", "save_steps=9"]), resume=True).steps == 4


def test_a_broken_checkpoint_is_named_and_not_passed_over(run_file, tmp_path):
    path = run_file("run")
    train(load(path, ["max_steps=4"]))
    file = tmp_path / "run/checkpoint-4/state.safetensors"
    with file.open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(checkpoint.CheckpointError, match=r"checkpoint-4/state\.safetensors"):
        train(load(path), resume=True)
