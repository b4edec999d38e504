"""Offline the starting policy is asked once, before the first step; no second model is held."""

import copy

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

from fixtures.runs import make, records, weights
from gspo_rs.train import checkpoint, train
from gspo_rs.train.config.toml import load
from gspo_rs.train.model import policy as policies
from gspo_rs.train.reference import restored

pytestmark = pytest.mark.usefixtures("one_thread")

# 15 groups in batches of 4, of two steps each: 8 steps an epoch, the last of one group.
OFFLINE = {
    "rollouts": "scored.parquet",
    "max_steps": 20,
    "learning_rate": 1e-3,
    "algorithm": "grpo",
    "beta": 0.1,
}


@pytest.fixture
def without_second(monkeypatch):
    """Fail where a second model is loaded."""

    def refused(*_, **__):
        raise AssertionError("a second model was loaded")

    monkeypatch.setattr(policies, "freeze", refused)


def started(model, batch):
    """The log-probabilities of a training batch's tokens in float64, one sequence at a time."""
    found = []
    for row in range(len(batch.prompts)):
        prompt, completion = batch.prompts.row(row), batch.completions.row(row)
        tokens = torch.from_numpy(np.concatenate([prompt, completion]))[None]
        with torch.no_grad():
            logits = model(tokens).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1)
        found.append(logprobs.gather(1, torch.from_numpy(completion)[:, None])[:, 0].numpy())
    return np.concatenate(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"beta": 0.0},  # the starting policy is the old one
        {"algorithm": "dpo"},
        {"algorithm": "qrpo", "num_iterations": 2},
        {"lora_r": 4},
    ],
)
def test_every_step_has_what_the_starting_policy_says_without_a_second_model(
    letters, tmp_path, training_batches, without_second, fields
):
    train(load(make(tmp_path, letters, **OFFLINE | fields)), quiet=True)
    model = AutoModelForCausalLM.from_pretrained(letters, dtype=torch.float64)
    assert len(training_batches) == 20
    for batch in training_batches[::3]:
        taken = batch.old_logprobs if fields.get("beta") == 0 else batch.ref_logprobs
        assert np.abs(taken.values - started(model, batch)).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"lora_r": 4}])
def test_a_resumed_run_has_the_numbers_of_its_checkpoint(letters, tmp_path, without_second, fields):
    settings = OFFLINE | fields
    train(load(make(tmp_path / "whole", letters, **settings)), quiet=True)
    path = make(tmp_path / "stopped", letters, **settings)
    train(load(path, ["max_steps=11"]), quiet=True)  # in the second epoch, within a batch
    train(load(path), resume=True, quiet=True)
    assert records(tmp_path / "stopped/run") == records(tmp_path / "whole/run")
    one, other = (weights(tmp_path / name / "run/final") for name in ("stopped", "whole"))
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"lora_r": 4}])
@pytest.mark.parametrize("given", ["named", "in memory"])
def test_what_a_checkpoint_lacks_is_computed_with_the_weights_of_the_start(
    letters, tmp_path, fields, given
):
    """A run that is to go further than it was, and a checkpoint of a version before."""
    settings = OFFLINE | fields

    def trained(name, *overrides, **more):
        path = make(tmp_path / name, letters, **settings)
        if given == "in memory":
            model = AutoModelForCausalLM.from_pretrained(letters, dtype=torch.float32)
            more |= {"model": model, "tokenizer": tokenizer(letters)}
        train(load(path, [*overrides]), quiet=True, **more)
        return records(tmp_path / name / "run")

    expected = trained("whole")
    # The reference of 3 steps is that of two batches of the four.
    trained("further", "max_steps=3")
    kept = checkpoint.read(tmp_path / "further/run/checkpoint-3").tensors
    assert restored(kept).batches == 2
    assert trained("further", resume=True) == expected


def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_a_run_of_few_steps_asks_of_what_it_reads_alone(letters, tmp_path, without_second):
    train(load(make(tmp_path, letters, **OFFLINE), ["max_steps=2"]), quiet=True)
    kept = checkpoint.read(tmp_path / "run/checkpoint-2").tensors
    frame = pl.read_parquet(tmp_path / "scored.parquet")
    found = restored(kept)
    assert found.batches == 1
    # Two groups a step, of four members each.
    assert len(found.keys) == 16
    assert len(np.unique(frame["prompt_id"].to_numpy()[found.keys >> 24])) == 4


def test_a_run_stopped_before_its_first_step_is_not_resumed_with_less(
    letters, tmp_path, monkeypatch
):
    path = make(tmp_path, letters, **OFFLINE)
    expected = make(tmp_path / "whole", letters, **OFFLINE)
    train(load(expected), quiet=True)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(policies, "starting", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(load(path), quiet=True)
    train(load(path), resume=True, quiet=True)
    assert records(tmp_path / "run") == records(tmp_path / "whole/run")


def test_members_of_rows_with_lists_are_told_apart(letters, tmp_path, without_second):
    path = make(tmp_path, letters, **OFFLINE)
    frame = pl.read_parquet(tmp_path / "scored.parquet")
    lists = frame.group_by("prompt_id", maintain_order=True).agg(
        pl.col("prompt").first(), "completion", "reward"
    )
    train(load(path), quiet=True)
    by_rows = records(tmp_path / "run")
    nested = load(path, [f"output_dir={tmp_path}/nested"])
    train(nested, rollouts=lists, quiet=True)
    assert records(tmp_path / "nested") == by_rows


def test_online_a_second_model_is_there_where_a_penalty_needs_it(letters, tmp_path, monkeypatch):
    made, freeze = [], policies.freeze

    def counted(*arguments):
        made.append(freeze(*arguments))
        return copy.copy(made[-1])

    monkeypatch.setattr(policies, "freeze", counted)
    settings = {"max_steps": 2, "eval_size": 0}
    train(load(make(tmp_path / "a", letters, beta=0.1, **settings)), quiet=True)
    assert len(made) == 1
    train(load(make(tmp_path / "b", letters, **settings)), quiet=True)
    assert len(made) == 1
