"""Ctrl-C and SIGTERM: real signals to real processes, which leave a run that goes on."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from transformers.utils import logging

from fixtures.forked import forked
from fixtures.places import ROOT
from fixtures.runs import (
    HALTS,
    MAIN,
    contents,
    last_step,
    make,
    records,
    wait_for,
    weights,
)
from gspo_rs.cli.train import train as command
from gspo_rs.train import checkpoint, train
from gspo_rs.train.config.toml import load
from gspo_rs.train.interruptions import Interruptions

# As the stopped processes compute.
pytestmark = pytest.mark.usefixtures("one_thread")

# Waits in the second batch for a file that no one writes, as a slow judge would.
WAITS = """
import random, time
from pathlib import Path
import numpy as np
calls = 0
def noisy(completions, **_):
    global calls
    calls += 1
    found = [t.count("a") + random.random() / 99 + np.random.random() / 99 for t in completions]
    if calls == {call}:
        Path(__file__).with_name("waiting").touch()
        while True:  # a signal that comes just before a long sleep would not end it
            time.sleep(0.01)
    return found
"""
SOURCES = {
    "online": {"beta": 0.1},
    "lora": {"lora_r": 2},
    "offline": {"rollouts": "scored.parquet"},
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_stopped_run_goes_on_from_that_very_step(letters, tmp_path, number, kind):
    settings = {"num_iterations": 2, "save_steps": 0, **SOURCES[kind]}
    train(load(make(tmp_path / "whole", letters, **settings)))
    path = make(tmp_path / "stopped", letters, **settings)
    child = forked("train", path, 3, code=HALTS + MAIN)
    wait_for(lambda: child.stdout.readline() == "halted\n", child)
    child.send_signal(number)
    _, errors = child.communicate()
    assert child.returncode == 128 + number, errors
    assert "Traceback" not in errors
    # The step was taken when the signal came, in the middle of a batch of four.
    (found,) = checkpoint.steps(tmp_path / "stopped/run")
    assert found.name == "checkpoint-3"
    assert last_step(tmp_path / "stopped/run") == 3
    assert train(load(path), resume=True).steps == 9
    assert weights(tmp_path / "stopped/run/final") == weights(tmp_path / "whole/run/final")
    assert records(tmp_path / "stopped/run") == records(tmp_path / "whole/run")


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2, 4])
def test_a_run_stopped_while_it_scores_goes_on_as_if_it_had_not_begun_to(letters, tmp_path, call):
    # The first call scores the starting policy, the fourth compares with it after a step.
    train(load(make(tmp_path / "whole", letters)))
    path = make(tmp_path / "stopped", letters, reward=WAITS.format(call=call))
    child = forked("train", path)
    wait_for((tmp_path / "stopped/waiting").exists, child)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate()
    assert child.returncode == 130, errors
    assert "goes on" in errors
    make(tmp_path / "stopped", letters)
    train(load(path), resume=True)
    assert weights(tmp_path / "stopped/run/final") == weights(tmp_path / "whole/run/final")
    assert records(tmp_path / "stopped/run") == records(tmp_path / "whole/run")


SLOW = """
import time
from gspo_rs.train import checkpoint
def slow(*_, **__):
    print("saving", flush=True)
    while True:
        time.sleep(0.01)
checkpoint.write = slow
"""


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_without_a_checkpoint_and_promises_none(letters, tmp_path):
    path = make(tmp_path, letters, reward=WAITS.format(call=2), save_steps=0)
    child = forked("train", path, code=SLOW + MAIN)
    wait_for((tmp_path / "waiting").exists, child)
    child.send_signal(signal.SIGINT)
    wait_for(lambda: child.stdout.readline() == "saving\n", child)
    child.send_signal(signal.SIGTERM)  # one from a supervisor does not end the saving
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=2)
    # Again and again, because one that comes with the SIGTERM's own is one with it.
    while child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=60)
    _, errors = child.communicate()
    assert child.returncode == 143, errors
    assert not checkpoint.steps(tmp_path / "run")
    assert "goes on" not in errors
    assert "without a checkpoint" in errors.splitlines()[-1]


@pytest.mark.slow
def test_the_command_that_is_printed_is_the_one_that_was_typed_and_resume(letters, tmp_path):
    folder = tmp_path / "a folder's"
    make(folder, letters, reward=WAITS.format(call=2))
    typed = ["train", "run.toml", "--set", "seed=4", "output_dir=it's here", "--no-resume"]
    child = forked(*typed, cwd=folder)
    wait_for((folder / "waiting").exists, child)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate()
    printed = re.search(r"`(.*)` goes on", errors)[1]
    assert shlex.split(printed) == [sys.executable, "-c", MAIN, *typed[:-1], "--resume"]
    make(folder, letters)
    done = subprocess.run(printed, shell=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "it's here/final").is_dir()


@pytest.mark.slow
def test_the_readme_s_own_example_resumes(letters, tmp_path):
    told = re.findall(r"^gspo-rs train (examples/letters.*?)(?:  +#.*)?$", README(), re.MULTILINE)
    first, again = map(shlex.split, told)
    assert again == [*first, "--resume"]
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    run_file = tmp_path / "examples/letters.toml"  # with steps enough to be stopped twice
    run_file.write_text(run_file.read_text().replace("max_steps = 40", "max_steps = 4000"))
    shutil.copytree(letters, tmp_path / "runs/letters/model")
    rows = [{"prompt": f"{text}>", "answer": text} for text in ("ab", "bcd", "ce", "defg")]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "runs/letters/prompts.jsonl").write_text("".join(lines))
    run = tmp_path / "runs/first"
    child = forked("train", *first, cwd=tmp_path)
    wait_for(lambda: last_step(run) >= 1, child)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate()
    assert shlex.split(re.search(r"`(.*)` goes on", errors)[1])[3:] == ["train", *again]
    stopped = last_step(run)
    child = forked("train", *again, cwd=tmp_path)
    wait_for(lambda: last_step(run) > stopped, child)
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130


def README():  # noqa: N802 -- the name of the file
    return (ROOT / "README.md").read_text()


FINAL = """
import time
from gspo_rs.train.model.policy import Policy
save = Policy.save
def slow(self, folder, *more):
    save(self, folder, *more)
    if "checkpoint" not in str(folder):
        print("final", flush=True)
        while True:  # a signal that comes just before a long sleep would not end it
            time.sleep(0.01)
Policy.save = slow
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("old", [False, True])
def test_a_run_stopped_while_it_writes_its_model_has_the_old_or_the_new(
    letters, tmp_path, number, old
):
    train(load(make(tmp_path / "whole", letters)))
    path = make(tmp_path / "stopped", letters)
    run = tmp_path / "stopped/run"
    if old:
        train(load(path, ["max_steps=5"]))
    before = contents(run / "final")
    child = forked("train", path, *["--resume"] * old, code=FINAL + MAIN)
    wait_for(lambda: child.stdout.readline() == "final\n", child)
    child.send_signal(number)
    child.communicate()
    assert child.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert contents(run / "final") == before
    train(load(path), resume=True)
    assert contents(run / "final") == contents(tmp_path / "whole/run/final")
    assert {path.name[0] for path in run.iterdir()} <= set("cflm")


@pytest.mark.usefixtures("ctrl_c")
def test_what_is_held_back_is_answered_when_it_is_let_through_and_no_sooner():
    with Interruptions() as interruptions:
        interruptions.hold()
        signal.raise_signal(signal.SIGINT)
        assert interruptions.held
        with pytest.raises(KeyboardInterrupt):
            interruptions.release()
        assert not interruptions.held
        interruptions.release()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_an_interruption_that_foreign_code_swallowed_is_answered_at_the_next_step():
    with Interruptions() as interruptions:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        interruptions.hold()
        with pytest.raises(KeyboardInterrupt):
            interruptions.release()


@pytest.mark.parametrize("resume", [False, True])
def test_a_stop_before_the_first_checkpoint_promises_no_checkpoint_of_another_run(
    tmp_path, monkeypatch, capsys, resume
):
    (tmp_path / "run" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "run.toml").write_text(
        f'model = "m"\nrollouts = "r.jsonl"\noutput_dir = "{tmp_path}/run"\n'
    )

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(logging, "disable_progress_bar", stopped)
    code = command(tmp_path / "run.toml", resume=resume)
    assert code == 130
    told = capsys.readouterr().err
    assert ("goes on" in told) == resume
    assert resume or "before the first checkpoint" in told
