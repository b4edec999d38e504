"""A resumed run is the same run: what may be otherwise, what is refused, and two at once."""

import json

import numpy as np
import polars as pl
import pytest

from fixtures.forked import forked
from fixtures.runs import contents, make, records, wait_for, weights
from gspo_rs.train import checkpoint, train
from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.toml import load
from gspo_rs.train.world import WorldError

pytestmark = pytest.mark.usefixtures("one_thread")

OFFLINE = {"rollouts": "scored.parquet"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, OFFLINE])
@pytest.mark.parametrize(("generation", "iterations"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_a_longer_run_goes_on_bit_equal_where_a_batch_was_half_used(
    letters, tmp_path, generation, iterations, kind
):
    settings = {"steps_per_generation": generation, "num_iterations": iterations, **kind}
    train(load(make(tmp_path / "whole", letters, **settings)))
    path = make(tmp_path / "short", letters, **settings)
    for stop in (2, 5, 7):
        train(load(path, [f"max_steps={stop}"]), resume=stop > 2)
    train(load(path), resume=True)
    assert weights(tmp_path / "short/run/final") == weights(tmp_path / "whole/run/final")
    whole = records(tmp_path / "whole/run")
    # A run compares at its end, so that the shorter ones did so more often.
    kept = [
        {k: v for k, v in record.items() if k in whole[place]}
        for place, record in enumerate(records(tmp_path / "short/run"))
    ]
    assert kept == whole


def test_a_finished_run_that_is_resumed_stays_as_it_is_and_says_so(letters, tmp_path, caplog):
    path = make(tmp_path, letters, max_steps=3)
    first = train(load(path))
    before = contents(tmp_path / "run")
    with caplog.at_level("INFO"):
        again = train(load(path), resume=True)
    assert "nothing left to do: all 3 steps are done" in caplog.text
    assert (again.steps, again.final, again.metrics) == (3, first.final, first.metrics)
    assert contents(tmp_path / "run") == before


def test_a_finished_run_whose_model_is_lost_or_of_another_step_gets_it_again(letters, tmp_path):
    path = make(tmp_path, letters, max_steps=3)
    train(load(path))
    before = contents(tmp_path / "run/final")
    (tmp_path / "run/final/model.safetensors").unlink()
    train(load(path), resume=True)
    assert contents(tmp_path / "run/final") == before


def test_a_run_is_not_resumed_to_end_before_it_stands(letters, tmp_path):
    path = make(tmp_path, letters, max_steps=3)
    train(load(path))
    with pytest.raises(ConfigError, match=r"ends after step 2, but .*checkpoint-3 is beyond"):
        train(load(path, ["max_steps=2"]), resume=True)


def reverse(frame):
    return frame.reverse()


def shorten(frame):
    return frame.head(frame.height - 1)


def spoil(frame):
    column = "completion" if "completion" in frame.columns else "prompt"
    texts = frame[column].to_list()
    texts[1] = texts[1][::-1]  # as long as before
    return frame.with_columns(pl.Series(column, texts))


@pytest.mark.slow
@pytest.mark.parametrize("change", [reverse, shorten, spoil])
@pytest.mark.parametrize("key", ["prompts", "rollouts", "eval_prompts"])
def test_data_that_changed_are_refused_by_name(letters, tmp_path, key, change):
    names = {"prompts": "p.parquet", "rollouts": "scored.parquet", "eval_prompts": "e.parquet"}
    settings = {key: names[key], **({"prompts": "p.parquet"} if key != "rollouts" else {})}
    for name in ("p.parquet", "e.parquet"):
        pl.DataFrame({"prompt": ["ab", "bcd", "cd", "def"]}).write_parquet(tmp_path / name)
    path = make(tmp_path, letters, max_steps=2, **settings)
    if "prompts" in settings:
        path.write_text(path.read_text().replace('prompts = "prompts.jsonl"\n', "", 1))
    train(load(path))
    data = tmp_path / names[key]
    whole = data.read_bytes()
    before = contents(tmp_path / "run")
    frame = pl.read_parquet(data)
    change(frame).write_parquet(data)
    now = frame.height - (change is shorten)
    counts = f"{frame.height} rows then, {now} now" if change is shorten else f"{now} rows as then"
    place = rf"{key} = .*{names[key]}.* changed since .*checkpoint-2 was written: {counts}"
    with pytest.raises(ConfigError, match=place):
        train(load(path, ["max_steps=4"]), resume=True)
    assert contents(tmp_path / "run") == before
    # The same data elsewhere are the same data.
    (tmp_path / "elsewhere.parquet").write_bytes(whole)
    longer = [f"{key}={tmp_path}/elsewhere.parquet", "max_steps=4"]
    assert train(load(path, longer), resume=True).steps == 4


def test_a_project_that_moved_and_another_working_directory_resume(letters, tmp_path, monkeypatch):
    path = make(tmp_path / "here", letters, max_steps=2)
    monkeypatch.chdir(tmp_path / "here")
    train(load("run.toml"))
    monkeypatch.chdir(tmp_path)
    assert train(load("here/run.toml", ["max_steps=3"]), resume=True).steps == 3
    (tmp_path / "here/run").rename(tmp_path / "run elsewhere")
    more = [f"output_dir={tmp_path}/run elsewhere", "max_steps=4"]
    assert train(load(path, more), resume=True).steps == 4
    (tmp_path / "run elsewhere").rename(tmp_path / "here/run")
    (tmp_path / "here").rename(tmp_path / "there")
    assert train(load("there/run.toml", ["max_steps=5"]), resume=True).steps == 5
    with pytest.raises(ConfigError, match=r"reward = .*other\.py:noisy'"):
        train(load("there/run.toml", ["reward=there/other.py:noisy"]), resume=True)


def test_a_reward_that_changes_the_working_directory_does_not_split_the_run(
    letters, tmp_path, monkeypatch
):
    reward = (
        "import os, random\nos.chdir('/')\ndef noisy(completions, **_):\n    os.chdir('/tmp')\n"
    )
    reward += "    return [random.random() for _ in completions]\n"
    make(tmp_path, letters, reward=reward, max_steps=2, save_steps=1, eval_prompts="prompts.jsonl")
    monkeypatch.chdir(tmp_path)
    result = train(load("run.toml"))
    assert result.final == tmp_path / "run/final"
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "checkpoint-2",
        "final",
        "ledger.jsonl",
        "metrics.jsonl",
    }


@pytest.mark.parametrize("size", ["2", "3", " 4", "two", "0"])
def test_a_number_of_processes_without_the_rest_of_torchrun_is_refused_by_name(
    letters, tmp_path, monkeypatch, size
):
    monkeypatch.setenv("WORLD_SIZE", size)
    path = make(tmp_path, letters)
    with pytest.raises(WorldError, match=f"WORLD_SIZE = {size.strip()}"):
        train(load(path))
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert train(load(path, ["max_steps=1"])).steps == 1


HOLDS = """
import time
from pathlib import Path
from multiprocessing import get_context
def noisy(completions, **_):
    # A worker that outlives the run does not hold its folder.
    get_context("fork").Process(target=time.sleep, args=(60,)).start()
    Path(__file__).with_name("waiting").touch()
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_folder_takes_one_run_at_a_time(letters, tmp_path, resume):
    path = make(tmp_path, letters, reward=HOLDS, eval_size=0)
    first = forked("train", path)
    wait_for((tmp_path / "waiting").exists, first)
    before = contents(tmp_path / "run")
    second = forked("train", path, *resume)
    _, errors = second.communicate()
    assert second.returncode in (1, 2)
    assert "another process" in errors
    assert str(tmp_path / "run") in errors
    assert contents(tmp_path / "run") == before
    first.kill()
    first.wait()
    make(tmp_path, letters)
    assert train(load(path, ["max_steps=1"])).steps == 1


def test_a_checkpoint_keeps_rows_and_digest_of_its_data(letters, tmp_path):
    train(load(make(tmp_path, letters, max_steps=1, **OFFLINE)))
    (path,) = checkpoint.steps(tmp_path / "run")
    found = json.loads((path / "state.json").read_text())["data"]["rollouts"]
    assert found["rows"] == 60
    assert len(np.unique(list(found["digest"]))) > 4
