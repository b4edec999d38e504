"""Runs that learn from an iterator of rollouts."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.runs import records, share_of_a, weights
from gspo_rs.rollouts import Ragged
from gspo_rs.train import plan, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout.function import RolloutError
from gspo_rs.train.rollout.policy_sampler import PolicySampler
from gspo_rs.train.rollout.stream import StreamEndedError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def batches(letters):
    """Batches of the starting policy, with rewards."""
    config = resolve(Config(model=str(letters), prompts="p", reward="r", max_completion_length=5))
    policy = policies.load(config)

    def batch(seed):
        found = PolicySampler(policy, config, seed=seed).generate(["ab", "bc"])
        return replace(found, reward=np.array(share_of_a(found.completions)))

    return [batch(seed) for seed in range(4)]


@pytest.fixture
def fields(letters, tmp_path):
    def make(name, **more):
        return {
            "model": str(letters),
            "output_dir": str(tmp_path / name),
            "prompts_per_step": 2,
            "steps_per_generation": 1,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "quiet": True,
            **more,
        }

    return make


def test_the_ratio_is_to_the_policy_that_drew_the_rollouts(fields, batches, tmp_path):
    off = [
        replace(
            one,
            old_logprobs=Ragged(one.sampler_logprobs.values - 0.3, one.sampler_logprobs.lengths),
        )
        for one in batches
    ]
    train(**fields("off", max_steps=1), rollouts=iter(off))
    train(**fields("on", max_steps=1), rollouts=iter(batches))
    (off_policy,), (on_policy,) = records(tmp_path / "off"), records(tmp_path / "on")
    assert off_policy["kl/old_k1"] == pytest.approx(-0.3, abs=1e-5)
    assert on_policy["kl/old_k1"] == pytest.approx(0, abs=1e-5)
    assert on_policy["mismatch/abs"] < 1e-5


def test_a_list_of_rollouts_trains_what_an_iterator_does(fields, batches, tmp_path):
    train(**fields("list"), rollouts=batches)
    train(**fields("iterator"), rollouts=(one for one in batches))
    assert weights(tmp_path / "list/final") == weights(tmp_path / "iterator/final")


@pytest.mark.parametrize("algorithm", ["gspo", "dapo"])
def test_a_resumed_run_leaves_out_the_batches_of_before(fields, batches, tmp_path, algorithm):
    train(**fields("whole", algorithm=algorithm), rollouts=iter(batches * 2))
    train(**fields("parts", algorithm=algorithm, max_steps=2), rollouts=iter(batches * 2))
    train(**fields("parts", algorithm=algorithm), rollouts=iter(batches * 2), resume=True)
    assert weights(tmp_path / "parts/final") == weights(tmp_path / "whole/final")


def test_the_starting_policy_is_the_reference_of_a_penalty(fields, batches, tmp_path):
    train(**fields("run", beta=0.1, algorithm="grpo"), rollouts=iter(batches))
    found = [record["kl/ref_k3"] for record in records(tmp_path / "run")]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[2] > 1e-4


def test_an_iterator_that_ends_early_leaves_a_checkpoint_to_go_on_from(fields, batches, tmp_path):
    with pytest.raises(StreamEndedError, match="ended after 2 batches, before the last step"):
        train(**fields("run"), rollouts=iter(batches[:2]))
    assert train(**fields("run"), rollouts=iter(batches), resume=True).steps == 3
    train(**fields("whole"), rollouts=iter(batches))
    assert weights(tmp_path / "run/final") == weights(tmp_path / "whole/final")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"completion_tokens": None, "sampler_logprobs": None}, "batch 0 .* has no completion_to"),
        ({"sampler_logprobs": None}, "has neither sampler_logprobs nor old_logprobs"),
        (None, "batch 0 of the iterator of rollouts is a dict, not gspo_rs.rollouts.Rollouts"),
    ],
)
def test_what_cannot_be_learned_from_is_named_by_its_batch(fields, batches, changes, problem):
    wrong = {} if changes is None else replace(batches[0], **changes)
    with pytest.raises(RolloutError, match=problem):
        train(**fields("run"), rollouts=iter([wrong]))


def test_a_run_of_an_iterator_needs_its_steps_and_no_rehearsal_takes_a_batch(fields, batches):
    with pytest.raises(ConfigError, match="max_steps is missing: an iterator of rollouts has no"):
        train(**fields("run", max_steps=None), rollouts=iter(batches))
    given = fields("run")
    given.pop("quiet")
    with pytest.raises(ConfigError, match="a rehearsal would take the first batch"):
        plan(**given, rollouts=iter(batches))
