"""Continuous batching of transformers: its completions are those of the policy, and it is alone."""

import numpy as np
import pytest
import torch

from fixtures.runs import TWO_STEPS, share_of_a
from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.continuous import Continuous
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout.agreement import check_sampler

pytestmark = pytest.mark.usefixtures("one_thread")
HOW = {"num_generations": 200, "max_completion_length": 3, "temperature": 0.7, "seed": 5}


@pytest.mark.slow
def test_completions_are_drawn_from_the_policy_at_the_temperature_with_their_log_probabilities(
    letters,
):
    config = resolve(Config(model=str(letters), prompts="p", reward="r", temperature=0.7))
    policy = policies.load(config)
    before, attention = torch.get_rng_state(), policy.model.config._attn_implementation
    found = Continuous().generate(policy, ["ab", "cde"], **HOW)
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.model.config._attn_implementation == attention
    check_sampler(policy, found, config)
    assert found.group_ids == [0, 1]
    assert found.offsets.tolist() == [0, 200, 400]
    for row in range(400):
        tokens = found.completion_tokens.row(row).tolist()
        assert found.truncated[row] == (tokens[-1] != 0)
        assert len(tokens) == 3 or tokens[-1] == 0
    # The first token of a group, against the softmax: five standard deviations.
    ids = torch.tensor([found.prompt_tokens.row(0).tolist()])
    with torch.no_grad():
        expected = torch.softmax(policy.model(ids).logits[0, -1].double() / 0.7, -1).numpy()
    first = [found.completion_tokens.row(row)[0] for row in range(200)]
    share = np.bincount(first, minlength=len(expected)) / 200
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected / 200) + 1e-9).all()


@pytest.mark.slow
def test_a_run_with_continuous_batching_learns_from_its_policy(letters, tmp_path):
    prompts = [{"prompt": text} for text in ("ab", "bc", "cd")]
    given = {"model": str(letters), "prompts": prompts, "reward": share_of_a, "lora_r": 2}
    given |= {"output_dir": str(tmp_path / "run"), "sampler": "transformers-continuous"}
    result = train(**{**TWO_STEPS, **given, "eval_size": 0, "quiet": True})
    lines = metrics.read(result.metrics_file)
    assert len(lines) == 2
    assert all(line["mismatch/abs"] < 1e-5 for line in lines)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"top_k": 3}, "top_k = 3: continuous batching answers log-prob"),
        ({"max_staleness": 1}, "max_staleness = 1: continuous batching reads the model"),
    ],
)
def test_what_continuous_batching_cannot_do_is_refused(more, problem):
    given = {"model": "m", "prompts": [{"prompt": "a"}], "reward": share_of_a}
    with pytest.raises(ConfigError, match=problem):
        train(**given, sampler="transformers-continuous", **more)


def test_stop_strings_and_completions_that_are_not_finished_are_refused(letters, monkeypatch):
    policy = policies.load(resolve(Config(model=str(letters), prompts="p", reward="r")))
    with pytest.raises(SamplerError, match="stop = 'c': continuous batching knows no stop strin"):
        Continuous().generate(policy, ["ab"], stop="c", **HOW)
    monkeypatch.setattr(type(policy.model), "generate_batch", lambda *_, **__: {})
    with pytest.raises(SamplerError, match="finished 0 of 200 completions: see its log"):
        Continuous().generate(policy, ["ab"], **HOW)
