"""What reward functions log in a run: in metrics, in comparisons and beside the completions."""

import inspect
import json
import math
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import gspo_rs as gs
from fixtures.runs import make, records
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.logged import Logged
from gspo_rs.rollouts.rollouts import Rollouts, joined
from gspo_rs.train import metrics, train
from gspo_rs.train.config.toml import load
from gspo_rs.train.metric_table import METRICS
from gspo_rs.train.rollout.function import RolloutError
from gspo_rs.train.rollout.reward_log import means_of, merged
from gspo_rs.train.shown import cells
from gspo_rs.train.trainer_state import TrainerState

pytestmark = pytest.mark.usefixtures("one_thread")

JUDGE = """
import json
def one(completions, trainer_state, log_metric, log_extra, **_):
    # The line of a step is written after the comparison that is in it.
    missing = trainer_state.global_step - len([r for r in trainer_state.log_history if r["step"]])
    assert missing in (0, 1)
    counts = [text.count("a") for text in completions]
    log_metric("as", sum(counts) / len(counts))
    log_metric("at", trainer_state.global_step)
    log_metric("epochs", trainer_state.epoch)
    log_metric("of", trainer_state.max_steps)
    log_extra("as", counts)
    log_extra("upper", [text.upper() if text else None for text in completions])
    return [float(count) for count in counts]

async def two(completions, log_metric, **_):
    log_metric("as", 0.0)
    return [len(text) / 9 for text in completions]
"""


def judged(folder, letters, *names, **settings):
    path = make(folder, letters, reward=JUDGE, log_completions=True, **settings)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("reward =")]
    named = json.dumps([f"reward.py:{name}" for name in names])
    path.write_text("\n".join([*lines, f"reward = {named}"]) + "\n")
    return path


def logged_rows(folder):
    return gs.scan(folder / "run" / "completions").collect().sort("step", "prompt_id")


def test_metrics_are_averaged_over_the_calls_and_columns_are_beside_their_completions(
    letters, tmp_path
):
    train(load(judged(tmp_path, letters, "one", "two")), quiet=True)
    steps = metrics.read(tmp_path / "run" / "metrics.jsonl")
    rows = logged_rows(tmp_path)
    counted = rows["completion"].str.count_matches("a").cast(pl.Float64)
    assert rows["as"].equals(counted.alias("as"))
    assert rows["upper"].to_list() == [text.upper() or None for text in rows["completion"]]
    # 9 steps in batches of two; the mean of a batch is in both of its steps.
    for batch, first in enumerate(range(1, 10, 2)):
        of_batch = rows.filter(pl.col("step").is_in([first, first + 1]))
        for record in steps:
            if record["step"] in (first, first + 1):
                assert record["as"] == pytest.approx(of_batch["as"].mean() / 2)
                assert record["at"] == 2 * batch
                assert record["epochs"] == pytest.approx(2 * batch * 2 / 5)
                assert record["of"] == 9
    compared = [r for r in steps if "eval/reward" in r]
    assert [r["step"] for r in compared] == [0, 4, 8, 9]
    assert [r["eval/at"] for r in compared] == [0, 4, 8, 9]
    assert "as" not in compared[0]
    assert compared[0]["eval/as"] >= 0


def test_a_run_that_stopped_within_a_batch_logs_what_one_that_was_not_stopped_does(
    letters, tmp_path
):
    settings = {"num_iterations": 2, "max_steps": 7, "eval_size": 0}
    train(load(judged(tmp_path / "whole", letters, "one", **settings)), quiet=True)
    path = judged(tmp_path / "stopped", letters, "one", **settings)
    train(load(path, ["max_steps=3"]), quiet=True)  # of the four of its batch
    train(load(path), quiet=True, resume=True)
    found, expected = (records(tmp_path / name / "run") for name in ("stopped", "whole"))
    assert [r.pop("of") for r in found] == [3.0] * 4 + [7.0] * 3
    assert found == [{k: v for k, v in r.items() if k != "of"} for r in expected]
    assert logged_rows(tmp_path / "stopped").equals(logged_rows(tmp_path / "whole"))


def test_columns_stay_with_their_rows_where_groups_are_kept_for_the_next_batch(letters, tmp_path):
    path = judged(
        tmp_path, letters, "one", dynamic_sampling=True, prompts_per_step=3, steps_per_generation=1
    )
    train(load(path), quiet=True)
    rows = logged_rows(tmp_path)
    assert rows["as"].equals(rows["completion"].str.count_matches("a").cast(pl.Float64).alias("as"))
    steps = [r for r in metrics.read(tmp_path / "run" / "metrics.jsonl") if r["step"]]
    assert max(r["dynamic_sampling/rounds"] for r in steps) > 1
    assert all("as" in record for record in steps)


def test_a_rehearsal_tells_the_step_too(letters, tmp_path):
    from gspo_rs.train.rehearsal import plan

    assert plan(load(judged(tmp_path, letters, "one"))).steps == 9


def test_columns_that_come_and_go_are_null_where_they_are_not(tmp_path, letters):
    reward = """
def noisy(completions, trainer_state, log_extra, **_):
    if trainer_state.global_step:
        log_extra("late", [len(text) for text in completions])
        log_extra("never", [None] * len(completions))
    return [text.count("a") for text in completions]
"""
    path = make(tmp_path, letters, reward=reward, log_completions=True, max_steps=4)
    train(load(path), quiet=True)
    rows = logged_rows(tmp_path)
    assert rows["late"].is_null().to_list() == (rows["step"] <= 2).to_list()
    assert rows["never"].is_null().all()
    assert gs.stats(tmp_path / "run" / "completions", by="prompt_id")[0].rows == len(rows)


@pytest.mark.parametrize(
    "name",
    ["loss", "reward/mean", "passk/3", "step", "reward", "percentile", "eval/mine", "time/score"],
)
def test_a_metric_with_a_name_of_ours_is_refused_with_its_function(name):
    with pytest.raises(RewardError, match=f"function judge logged a metric '{re.escape(name)}'"):
        merged({"judge": Logged({name: [1.0]})})


def test_every_metric_of_ours_is_refused():
    known = [name for rows in METRICS.values() for row in rows for name in row.names.split()]
    for name in known:
        with pytest.raises(RewardError, match="a name that metrics of a run have"):
            merged({"judge": Logged({name.replace("<k>", "2"): [1.0]})})


@pytest.mark.parametrize("name", ["prompt", "length", "reward_short", "rollout", "step"])
def test_a_column_with_a_name_of_ours_is_refused_with_its_function(name):
    with pytest.raises(RewardError, match=f"function judge logged a column '{name}'"):
        merged({"judge": Logged(extra={name: [1.0]})})


def test_a_column_of_two_functions_is_refused_with_both():
    both = {"one": Logged(extra={"n": [1.0]}), "two": Logged(extra={"n": [2.0]})}
    with pytest.raises(RewardError, match="reward function one and reward function two both give"):
        merged(both)
    with pytest.raises(RewardError, match="the rollout function and reward function one both give"):
        merged({"one": both["one"]}, ["n"])


def test_a_mean_leaves_out_what_is_not_there():
    found = means_of({"a": [math.nan, 1.0, 2.0], "b": [math.nan]})
    assert found["a"] == 1.5
    assert math.isnan(found["b"])


def test_the_display_shows_what_was_logged_beside_what_is_ours():
    record = {"step": 1, "reward/mean": 0.5, "kl/old_k3": 0.25, "kl": 2.0, "right": 0.125}
    shown = cells(record)
    assert shown["kl"] == "0.250"
    assert shown["kl (logged)"] == "2.000"
    assert shown["right"] == "0.125"


def test_the_state_has_names_of_transformers():
    from transformers import TrainerState as Theirs

    own = {"metrics_file"}
    names = {*TrainerState.__dataclass_fields__, "log_history"} - own
    assert names <= set(Theirs.__dataclass_fields__)


def test_the_arguments_are_those_of_trl():
    trl = pytest.importorskip("trl")
    from gspo_rs.rewards.logged import Log

    for ours, theirs in ((Log.log_metric, "_log_metric"), (Log.log_extra, "_log_completion_extra")):
        other = getattr(trl.GRPOTrainer, theirs)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(other).parameters)


def rollouts_of(extra):
    texts = {"prompts": ["p", "p", "q"], "completions": ["a", "b", "c"]}
    return Rollouts(offsets=np.array([0, 2, 3]), reward=np.zeros(3), extra=extra, **texts)


def test_further_columns_are_cut_and_joined_as_their_rows_are():
    one, other = rollouts_of({"n": [1.0, None, 3.0]}), rollouts_of({"s": ["x", "y", "z"]})
    assert one.select([1]).extra == {"n": [3.0]}
    assert joined([one, other]).extra == {
        "n": [1.0, None, 3.0, None, None, None],
        "s": [None, None, None, "x", "y", "z"],
    }
    assert joined([one, rollouts_of(None)]).extra == {"n": [1.0, None, 3.0, None, None, None]}
    with pytest.raises(ValueError, match=r"extra\['n'\] has 1 entries, expected 3"):
        rollouts_of({"n": [1.0]})


@pytest.mark.parametrize("name", ["turns", "length"])
def test_a_rollout_function_gives_further_columns_of_names_that_are_not_ours(
    letters, tmp_path, name
):
    def play(sampler, prompts, **_):
        found = sampler.generate(prompts)
        reward = np.arange(found.n_rollouts, dtype=np.float64)
        return replace(found, reward=reward, extra={name: list(range(found.n_rollouts))})

    options = {"model": str(letters), "prompts": [{"prompt": "ab"}], "rollout": play}
    options |= {"max_completion_length": 4, "prompts_per_step": 1, "max_steps": 1, "eval_size": 0}
    options |= {"log_completions": True, "quiet": True, "output_dir": str(tmp_path / "run")}
    if name == "length":
        with pytest.raises(RolloutError, match=r"play answered extra\['length'\], a name that"):
            train(**options)
        return
    train(**options)
    rows = logged_rows(tmp_path)
    assert rows[name].to_list() == rows["reward"].cast(pl.Int64).to_list()
