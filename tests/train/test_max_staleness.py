"""Runs that sample ahead: what they learn, how old it is, and that no completion is lost."""

import os
import random
import signal
import threading
import time
from collections import Counter

import pytest

from fixtures.forked import finished, forked
from fixtures.model_server import ModelServer
from fixtures.runs import expected, make, records, trained, wait_for, weights
from fixtures.waiting import wait_until
from gspo_rs.train import checkpoint, ledger, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.rollout.ahead import Ahead

pytestmark = pytest.mark.usefixtures("one_thread")

AHEAD = {"max_staleness": 2, "steps_per_generation": 1, "eval_size": 0, "max_steps": 8}


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("gspo_rs-sampler")]


def test_a_run_that_samples_ahead_trains_on_every_completion_once_and_says_how_old_it_was(
    letters, tmp_path
):
    path = make(tmp_path, letters, **{**AHEAD, "max_steps": 10})
    train(load(path))
    assert trained(tmp_path / "run") == expected(20)
    assert not threads()
    lines = records(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 11))
    ages = [line["async/staleness_max"] for line in lines]
    assert ages[0] == 0
    assert max(ages) in (1, 2)
    assert all(0 <= line["async/staleness"] <= line["async/staleness_max"] for line in lines)
    for name in ("queue", "age", "sampler_wait", "generate", "score", "stale_groups"):
        assert all(line[f"async/{name}"] >= 0 for line in lines)
    assert weights(letters) != weights(tmp_path / "run/final")


def test_a_sampler_as_far_ahead_as_it_may_samples_nothing_twice_and_the_metrics_tell_that_it_waits(
    letters, tmp_path, monkeypatch
):
    waiting = Ahead.waiting

    def rests(ahead):
        with ahead._turn:
            return not ahead._active and not ahead._has_room()

    def once_it_is_as_far_ahead_as_it_may(ahead):
        wait_until(lambda: rests(ahead))
        return waiting(ahead)

    monkeypatch.setattr(Ahead, "waiting", once_it_is_as_far_ahead_as_it_may)
    train(load(make(tmp_path, letters, **AHEAD)))
    lines = records(tmp_path / "run")
    assert [line["async/queue"] for line in lines] == [6, 4, 4, 4, 4, 4, 4, 2]
    assert all(line["async/age"] > 0 for line in lines)
    assert sum(line["async/sampler_wait"] for line in lines) > 0
    assert [line["async/staleness"] for line in lines] == [0, 1, 2, 2, 2, 2, 2, 2]
    assert [line["async/stale_groups"] for line in lines] == [0] * 8


def test_without_staleness_no_thread_samples_and_the_ledger_is_there_too(
    letters, tmp_path, monkeypatch
):
    monkeypatch.setattr(Ahead, "start", None)
    runs = []
    for name, more in (("default", {}), ("zero", {"max_staleness": 0})):
        settings = {key: value for key, value in AHEAD.items() if key != "max_staleness"}
        train(load(make(tmp_path / name, letters, **{**settings, "max_steps": 10}, **more)))
        runs.append(weights(tmp_path / name / "run/final"))
        assert trained(tmp_path / name / "run") == expected(20)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("stale", [False, True])
def test_batches_of_several_steps_and_passes_are_in_the_ledger_once(letters, tmp_path, stale):
    settings = {"steps_per_generation": 2, "num_iterations": 2, "max_steps": 20}
    settings = {**AHEAD, **settings, "max_staleness": int(stale)}
    train(load(make(tmp_path, letters, **settings)))
    assert trained(tmp_path / "run") == expected(20)


def test_groups_without_a_signal_are_in_the_ledger_as_dropped(letters, tmp_path):
    reward = "def noisy(completions, **_):\n    return [float('a' in t) for t in completions]\n"
    for stale in (0, 2):
        settings = {**AHEAD, "dynamic_sampling": True, "num_generations": 2, "max_staleness": stale}
        folder = tmp_path / str(stale)
        train(load(make(folder, letters, reward=reward, **settings)))
        lines = ledger.read(folder / "run/ledger.jsonl")
        kept = [tuple(one[:2]) for line in lines for one in line["trained"]]
        dropped = [tuple(one) for line in lines for one in line["dropped"]]
        assert len(kept) == 16
        assert dropped
        assert max(Counter(kept + dropped).values()) == 1
        if stale == 0:  # in the order of sampling: none is missing before the last
            last = max(kept + dropped)
            whole = {divmod(place, 5) for place in range(5 * last[0])}
            assert whole <= {*kept, *dropped}
        assert all(line["group/zero_variance_frac"] == 0 for line in records(folder / "run"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{}, {"algorithm": "grpo", "lora_r": 2, "correction": "token_truncate"}]
)
def test_a_resumed_run_goes_on_with_what_was_in_flight(letters, tmp_path, more):
    path = make(tmp_path, letters, **AHEAD, **more)
    for stop in (1, 4, 10):
        train(load(path, [f"max_steps={stop}", "save_steps=1"]), resume=stop > 1)
    assert trained(tmp_path / "run") == expected(20)
    assert [line["step"] for line in records(tmp_path / "run")] == list(range(1, 11))


SLOW = """
import time
def noisy(completions, **_):
    time.sleep(0.03)
    return [t.count("a") + len(t) / 99 for t in completions]
"""


def killed(path, folder, rng):
    """Kill a run at a random moment after its first checkpoint, and say at which step it was."""
    process = forked("train", path, *["--resume"] * folder.exists())
    before = checkpoint.steps(folder)[-1:]
    wait_for(lambda: checkpoint.steps(folder)[-1:] != before, process)
    time.sleep(rng.uniform(0, 0.4))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for lock in folder.glob(".lock"):
        assert lock.stat()


def kill_and_go_on(letters, folder, times, seed):
    """Kill a run many times; return it finished."""
    rng = random.Random(seed)
    steps = 5 * times + 5
    path = make(folder, letters, reward=SLOW, **{**AHEAD, "max_steps": steps, "save_steps": 1})
    done = 0
    for _ in range(times):
        killed(path, folder / "run", rng)
        last = int(checkpoint.steps(folder / "run")[-1].name.rpartition("-")[2])
        assert last > done
        done = last
        if done == steps:
            break
    ended = finished("train", path, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert trained(folder / "run") == expected(2 * steps)
    assert [line["step"] for line in records(folder / "run")] == list(range(1, steps + 1))


@pytest.mark.slow
def test_a_run_that_is_killed_has_trained_on_every_completion_once_in_the_end(letters, tmp_path):
    kill_and_go_on(letters, tmp_path, 3, seed=None)


@pytest.mark.soak
def test_a_run_that_is_killed_thirty_times_has_trained_on_every_completion_once(letters, tmp_path):
    kill_and_go_on(letters, tmp_path, 30, seed=None)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint_and_without_a_hanging_thread(
    letters, tmp_path, number
):
    settings = {**AHEAD, "max_steps": 100_000, "save_steps": 0}
    path = make(tmp_path, letters, reward=SLOW, **settings)
    process = forked("train", path)
    wait_for(lambda: len(records(tmp_path / "run")) > 3, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert "writing a checkpoint" in errors
    assert "Traceback" not in errors
    (kept,) = checkpoint.steps(tmp_path / "run")
    done = int(kept.name.rpartition("-")[2])
    total = -(-(done + 3) // 5) * 5
    train(load(path, [f"max_steps={total}"]), resume=True)
    assert trained(tmp_path / "run") == expected(2 * total)


def test_an_error_in_the_thread_ends_the_run_with_itself(letters, tmp_path):
    reward = "def noisy(completions, **_):\n    raise OSError('no judge')\n"
    path = make(tmp_path, letters, reward=reward, **AHEAD)
    with pytest.raises(ValueError, match=r"reward function noisy raised OSError: no judge"):
        train(load(path))
    assert not threads()


class Hanging:
    """A sampler that never answers, until it is closed."""

    def __init__(self):
        self.closed = threading.Event()

    def sample(self, prompts, *, places, seed):
        self.closed.wait()
        raise ConnectionError("closed")

    def refresh(self, policy, version):
        pass

    def close(self):
        self.closed.set()


@pytest.mark.slow
def test_a_sampler_that_hangs_ends_the_run_by_name_and_its_thread_with_it(letters, tmp_path):
    path = make(tmp_path, letters, **AHEAD, sampler_timeout=0.5)
    with pytest.raises(RuntimeError, match=r"the sampler gave nothing for 0\.5 s"):
        train(load(path), sampler=Hanging())
    assert not threads()


@pytest.mark.slow
def test_a_server_takes_new_weights_while_it_samples_and_no_completion_is_lost(letters, tmp_path):
    model = ModelServer(letters)
    with model.served() as server:
        settings = {**AHEAD, "max_steps": 10, "max_completion_length": 4, "num_generations": 4}
        train(load(make(tmp_path, letters, **settings, sampler=f"vllm:{server.url}")))
    assert model.versions == list(range(10))
    assert trained(tmp_path / "run") == expected(20, size=4)
    lines = records(tmp_path / "run")
    assert {line["sampler/failed"] for line in lines if "sampler/failed" in line} == {0}
    assert 0 < max(line["async/staleness_max"] for line in lines) <= 2
    assert not threads()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"old_logprobs": "recompute"}, "max_staleness = 1: .* set correction"),
        ({"torch_compile": True}, "torch_compile"),
        ({"max_staleness": 0, "on_stale": "correct"}, "on_stale = 'correct': .* max_staleness"),
        ({"max_staleness": -1}, "max_staleness = -1: must be at least 0"),
        ({"prompts": None, "rollouts": "x", "reward": None}, "max_staleness = 1: .* offline"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(fields, fault):
    given = {"model": "m", "prompts": "p", "reward": "r:f", "max_staleness": 1, **fields}
    with pytest.raises(ConfigError, match=fault):
        resolve(Config(**given))
