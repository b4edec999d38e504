"""Processes of one run that are stopped, killed, late, or not alike."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from fixtures.forked import forked
from fixtures.places import ROOT
from fixtures.processes import free_port
from fixtures.runs import (
    HALTS,
    MAIN,
    expected,
    last_step,
    make,
    process,
    records,
    trained,
    wait_for,
    weights,
)
from gspo_rs.train import checkpoint, train
from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.toml import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

# Of the completion alone: what a rank draws from a global generator is its own.
PLAIN = """
def noisy(completions, **_):
    return [t.count("a") - 0.1 * t.count("b") for t in completions]
"""
FAILS = """
import os
def noisy(completions, **_):
    if os.environ.get("RANK") == "1":
        raise RuntimeError("no judge here")
    return [1.0 for _ in completions]
"""
# A model in memory, which on rank 1 is another.
HELD = """
import os, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
from gspo_rs.train import train
from gspo_rs.train.config.toml import load
config = load(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(config.model)
next(model.parameters()).data.add_(float(os.environ["RANK"]))
train(config, model=model, tokenizer=AutoTokenizer.from_pretrained(config.model))
"""
# What an interpreter does at its end, and what is asked of it before.
ENDS = """
import atexit, os
class Torn:
    def __del__(self, write=os.write):
        write(2, b"the interpreter was torn down")
torn = Torn()
atexit.register(os.write, 2, b"asked at the end")
"""
# Halts at a place of the writing of checkpoints, counted over all of them, until a file is there.
INSIDE = """
import sys, time
from pathlib import Path
from gspo_rs.files import atomic
from gspo_rs.train import checkpoint
at, go, passed = int(sys.argv.pop()), Path(sys.argv.pop()), []
def halt():
    passed.append(None)
    if len(passed) == at:
        print("halted", flush=True)
        while not go.exists():
            time.sleep(0.01)
def halting(work, *, after=False):
    def halted(*given, **named):
        halt()
        found = work(*given, **named)
        if after:
            halt()
        return found
    return halted
for name in ("_save", "digests", "seal"):
    setattr(checkpoint, name, halting(getattr(checkpoint, name)))
put = atomic.put_directory
atomic.put_directory = halting(put, after=True)
atomic.remove = halting(atomic.remove)
"""
SETTINGS = {"prompts_per_step": 3, "adam_epsilon": 1e-3, "learning_rate": 1e-3}
KILLED = {**SETTINGS, "reward": PLAIN, "save_steps": 1, "max_steps": 10}


def ranks(size, *arguments, world=None, last=(), code=MAIN, first=(), main=MAIN, start=forked):
    """Start the processes of a run, as torchrun does.

    The `last` may get more words and other `code`, and so may the `first`, with all the rest.
    """
    shared = {"WORLD_SIZE": str(world or size), "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = free_port()
    words = [first, *[()] * (size - 2), last] if size > 1 else [last]
    codes = [main] * (size - 1) + [code]
    return [
        start("train", *arguments, *words[rank], code=codes[rank], RANK=str(rank), **shared)
        for rank in range(size)
    ]


def halted(*arguments, step):
    """Start two processes; the second halts within a step, until it gets a signal."""
    children = ranks(2, *arguments, last=(step,), code=HALTS + MAIN)
    wait_for(lambda: children[1].stdout.readline() == "halted\n", children[1])
    return children


def ended(children):
    """Wait for processes; return their codes and what they said of what went wrong."""
    said = [child.communicate()[1] for child in children]
    return [child.returncode for child in children], said


def near(ours, theirs):
    """Whether the weights of two runs differ by rounding alone."""
    ours, theirs = (load_file(path / "final/model.safetensors") for path in (ours, theirs))
    return all(torch.allclose(ours[k], v, rtol=0, atol=1e-5) for k, v in theirs.items())


@pytest.fixture(scope="module")
def whole(letters, tmp_path_factory):
    """A run of one process from beginning to end."""
    folder = tmp_path_factory.mktemp("whole")
    train(load(make(folder, letters, reward=PLAIN, **SETTINGS)))
    return folder / "run"


def test_sigterm_to_one_process_ends_all_after_the_step_with_a_checkpoint_for_any_number(
    letters, tmp_path, whole
):
    path = make(tmp_path, letters, reward=PLAIN, save_steps=0, **SETTINGS)
    children = halted(path, step=3)
    children[1].send_signal(signal.SIGTERM)
    codes, said = ended(children)
    assert all(code in (130, 143) for code in codes), said
    assert codes[1] == 143
    (found,) = checkpoint.steps(tmp_path / "run")
    assert (found.name, last_step(tmp_path / "run")) == ("checkpoint-3", 3)
    for size in (1, 3):
        shutil.copytree(tmp_path / "run", tmp_path / f"on{size}/run")
        moved = make(tmp_path / f"on{size}", letters, reward=PLAIN, save_steps=0, **SETTINGS)
        codes, said = ended(ranks(size, moved, "--resume"))
        assert codes == [0] * size, said
        assert near(tmp_path / f"on{size}/run", whole)
        assert len(records(tmp_path / f"on{size}/run")) == len(records(whole))


def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on_to_the_same_bits(
    letters, tmp_path
):
    settings = {"reward": PLAIN, "save_steps": 1, **SETTINGS}
    codes, said = ended(ranks(2, make(tmp_path / "unbroken", letters, **settings)))
    assert codes == [0, 0], said
    path = make(tmp_path / "killed", letters, **settings)
    children = halted(path, step=4)
    children[1].kill()
    codes, said = ended(children)
    assert codes[0] not in (0, None)
    assert re.search(r"error: rank 0 of 2: another process ended", said[0])
    assert "Traceback" not in said[0]
    codes, said = ended(ranks(2, path, "--resume"))
    assert codes == [0, 0], said
    assert weights(tmp_path / "killed/run/final") == weights(tmp_path / "unbroken/run/final")
    assert records(tmp_path / "killed/run") == records(tmp_path / "unbroken/run")


def test_processes_that_sample_ahead_lose_no_completion_when_one_is_killed_and_others_go_on(
    letters, tmp_path
):
    ahead = {"max_staleness": 2, "steps_per_generation": 1, "eval_size": 0, "save_steps": 1}
    path = make(tmp_path, letters, reward=PLAIN, **{**SETTINGS, **ahead, "max_steps": 15})
    children = halted(path, step=4)
    children[1].kill()
    ended(children)
    for size, stop in ((3, 10), (1, 15)):
        codes, said = ended(ranks(size, path, "--resume", "--max-steps", stop))
        assert codes == [0] * size, said
        assert last_step(tmp_path / "run") == stop
    assert trained(tmp_path / "run") == expected(45)
    ages = [line["async/staleness_max"] for line in records(tmp_path / "run")]
    assert 0 < max(ages) <= 2


def test_a_process_of_several_ends_before_gloos_threads_can_abort_it(letters, tmp_path):
    settings = {**SETTINGS, "max_steps": 1, "eval_size": 0}
    codes, said = ended(
        ranks(2, make(tmp_path, letters, reward=PLAIN, **settings), code=ENDS + MAIN, start=process)
    )
    assert codes == [0, 0], said
    assert "asked at the end" in said[1]
    assert "torn down" not in said[1]


@pytest.fixture(scope="module")
def unbroken(letters, tmp_path_factory):
    """A run of two processes that nobody kills, of thirty visits of five prompts."""
    folder = tmp_path_factory.mktemp("unbroken")
    codes, said = ended(ranks(2, make(folder, letters, **KILLED)))
    assert codes == [0, 0], said
    assert trained(folder / "run") == expected(30)
    return folder / "run"


def goes_on_to_the_same_bits(path, unbroken):
    """Resume two processes, and compare all they leave with a run that was not killed."""
    codes, said = ended(ranks(2, path, "--resume"))
    assert codes == [0, 0], said
    run = path.parent / "run"
    assert weights(run / "final") == weights(unbroken / "final")
    assert records(run) == records(unbroken)
    assert trained(run) == expected(30)


@pytest.mark.soak
@pytest.mark.parametrize("moment", range(40))
def test_a_process_killed_at_any_moment_leaves_a_run_that_goes_on_to_the_same_bits(
    letters, tmp_path, unbroken, moment
):
    path, draw = make(tmp_path, letters, **KILLED), random.Random(moment)
    children, step = ranks(2, path), draw.randrange(2, 10)
    wait_for(lambda: checkpoint.steps(path.parent / "run"), children[0])
    wait_for(lambda: last_step(path.parent / "run") >= step, children[0])
    time.sleep(0.3 * draw.random())  # wherever in the run
    children[draw.randrange(2)].kill()
    ended(children)
    goes_on_to_the_same_bits(path, unbroken)


@pytest.mark.soak
@pytest.mark.parametrize("moment", range(20))
def test_a_process_killed_inside_a_checkpoint_leaves_a_run_that_goes_on_to_the_same_bits(
    letters, tmp_path, unbroken, moment
):
    path, go = make(tmp_path, letters, **KILLED), tmp_path / "go"
    # After the first checkpoint, each has seven places.
    children = ranks(2, path, first=(go, 8 + moment), main=INSIDE + MAIN)
    wait_for(lambda: children[0].stdout.readline() == "halted\n", children[0])
    children[moment // 7 % 2].kill()
    go.touch()
    ended(children)
    goes_on_to_the_same_bits(path, unbroken)


def test_an_error_of_one_process_is_told_with_its_rank_and_ends_all(letters, tmp_path):
    codes, said = ended(ranks(2, make(tmp_path, letters, reward=FAILS, **SETTINGS)))
    assert 0 not in codes
    assert "error: rank 1: " in said[1]
    assert "no judge here" in said[1]
    assert "rank 0 of 2: another process ended" in said[0]


def test_a_process_that_never_comes_is_an_error_with_the_rank_of_who_waited(letters, tmp_path):
    path = make(tmp_path, letters, reward=PLAIN, ddp_timeout=2.0, **SETTINGS)
    codes, (said,) = ended(ranks(1, path, world=2))
    assert codes == [1]
    assert "rank 0 of 2: not all processes came within 2 s" in said
    assert not (tmp_path / "run").exists()


def test_processes_with_other_settings_are_refused_by_rank(letters, tmp_path):
    path = make(tmp_path, letters, reward=PLAIN, **SETTINGS)
    children = ranks(2, path, last=("--seed", "4"))
    codes, said = ended(children)
    assert 0 not in codes
    assert "rank 1 has the configuration other than rank 0" in said[0]


def test_models_in_memory_with_other_weights_are_refused_by_rank(letters, tmp_path):
    path = make(tmp_path, letters, reward=PLAIN, **SETTINGS)
    codes, said = ended(ranks(2, path, code=HELD, main=HELD))
    assert 0 not in codes
    assert "rank 1 has the weights other than rank 0" in said[0]


@pytest.mark.parametrize(
    ("size", "settings", "message"),
    [
        (2, {"prompts_per_step": 1, "steps_per_generation": 1}, "a batch of 1 prompts is fewer"),
        (2, {"weights": "bfloat16"}, "weights = 'bfloat16': its state is not cut over 2 processes"),
        (2, {"optimizer": "adamw_8bit"}, "optimizer = 'adamw_8bit': its state is not cut"),
        (2, {"replicas": 3}, "replicas = 3: is no divisor of the number of processes, 2"),
        (1, {"replicas": 2}, "replicas = 2: is no divisor of the number of processes, 1"),
    ],
)
def test_what_so_many_processes_cannot_do_is_refused_before_they_come_together(
    letters, tmp_path, monkeypatch, size, settings, message
):
    monkeypatch.setenv("WORLD_SIZE", str(size))
    config = load(make(tmp_path, letters, reward=PLAIN, **{**SETTINGS, **settings}))
    with pytest.raises(ConfigError, match=re.escape(message)):
        train(config)
    assert not (tmp_path / "run").exists()


def test_two_shells_do_not_train_into_one_folder(letters, tmp_path):
    path = make(tmp_path, letters, reward=PLAIN, **SETTINGS)
    first = halted(path, step=2)
    codes, said = ended(ranks(2, path))
    assert 0 not in codes
    assert f"another process is writing {tmp_path / 'run'}" in said[0]
    for child in first:
        child.send_signal(signal.SIGTERM)
    assert 0 not in ended(first)[0]


def test_torchrun_starts_the_command_line(letters, tmp_path, whole):
    path = make(tmp_path, letters, reward=PLAIN, **SETTINGS)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    found = subprocess.run(
        [*words, "--no-python", sys.executable, "-c", MAIN, "train", str(path), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert not found.returncode, found.stderr
    # One process tells how it ended.
    assert json.loads(found.stdout)["steps"] == 9
    assert near(tmp_path / "run", whole)
