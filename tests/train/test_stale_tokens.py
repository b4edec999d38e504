"""Completions whose tokens were sampled by several versions, against float64 by hand.

Letters: ``l``, ``u`` log-probabilities of a token by the policy and by the version that sampled it;
``A`` advantage and ``w`` weight of its sequence.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.step.update import backward

TEMPERATURE = 0.7


def version(letters, seed):
    """The starting weights, moved somewhere, in float64."""
    model = AutoModelForCausalLM.from_pretrained(letters).double()
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def token_logprobs(model, prompt, completion):
    """Log-probabilities of the tokens of a completion at the temperature, by the formula."""
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0] / TEMPERATURE
    rows = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
    return rows.gather(1, torch.tensor(completion)[:, None])[:, 0]


def of_two_versions(letters):
    """Two groups of three completions, the first tokens by one version, the rest by another."""
    draw, first, second = np.random.default_rng(0), version(letters, 0), version(letters, 1)
    prompts = [[2, 3], [4, 5, 6]]
    rows = [[int(token) for token in draw.integers(1, 10, n)] for n in (5, 4, 7, 5, 6, 3)]
    starts = [prompts[row // 3] for row in range(6)]
    cuts = [3, 1, 4, 5, 2, 1]
    logprobs = []
    for start, row, cut in zip(starts, rows, cuts, strict=True):
        with torch.no_grad():
            both = [token_logprobs(model, start, row).numpy() for model in (first, second)]
        logprobs.append(np.concatenate([both[0][:cut], both[1][cut:]]))
    versions = [[0] * cut + [1] * (len(row) - cut) for cut, row in zip(cuts, rows, strict=True)]
    return Rollouts(
        offsets=np.array([0, 3, 6]),
        prompts=["p"] * 6,
        completions=["c"] * 6,
        reward=draw.random(6),
        prompt_tokens=Ragged.from_rows(starts, np.int64),
        completion_tokens=Ragged.from_rows(rows, np.int64),
        sampler_logprobs=Ragged.from_rows(logprobs, np.float32),
        policy_versions=Ragged.from_rows(versions, np.int64),
    )


def clipped(ratio, advantage, config):
    bounded = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    return torch.minimum(ratio * advantage, bounded * advantage)


def by_hand(model, rollouts, batch, config):
    """The loss of a step by its formula, each token with the version that sampled it."""
    total = torch.zeros((), dtype=torch.float64)
    for row in range(rollouts.n_rollouts):
        prompt = rollouts.prompt_tokens.row(row).tolist()
        tokens = rollouts.completion_tokens.row(row).tolist()
        now = token_logprobs(model, prompt, tokens)
        sampler = torch.tensor(rollouts.sampler_logprobs.row(row)).double()
        advantage, weight = float(batch.advantages[row]), float(batch.weights[row])
        if config.correction == "token_truncate":
            old = now.detach()
            factor = (old - sampler).exp().clamp(max=2.0)
            terms = clipped((now - old).exp(), advantage * factor, config)
        elif config.correction == "seq_mask":
            old = now.detach()
            inside = 0.9 <= float((old - sampler).mean().exp()) <= 1.1
            terms = clipped((now - old).exp(), advantage * inside, config)
        elif config.loss == "gspo":
            ratio = (now - sampler).mean().exp()
            terms = clipped(ratio, advantage, config).expand(len(tokens))
        else:
            terms = clipped((now - sampler).exp(), advantage, config)
        total = total - weight * terms.sum()
    return total


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "grpo", "correction": "token_truncate"},
        {"algorithm": "grpo", "correction": "seq_mask", "correction_low": 0.9}
        | {"correction_high": 1.1},
        {"algorithm": "grpo"},
        {"algorithm": "gspo", "clip_low": 0.1, "clip_high": 0.1},
    ],
)
def test_each_token_is_weighed_by_the_version_that_sampled_it(letters, fields):
    given = {"model": str(letters), "prompts": "p", "reward": "r:f", "device": "cpu"}
    config = resolve(
        Config(**given, prompts_per_step=2, temperature=TEMPERATURE, max_staleness=2, **fields)
    )
    policy = policies.load(config)
    model = version(letters, 2)
    policy.model.load_state_dict(model.state_dict())
    rollouts = of_two_versions(letters)
    cuts = prepare.minibatches(RolloutBatch(rollouts, np.zeros(6, bool), {}), config)
    (batch,) = prepare.prepare_batches(cuts, policy, config, None)
    measured, _ = backward(policy, batch, config)
    expected = by_hand(model, rollouts, batch, config)
    expected.backward()
    expected = expected.detach()
    assert float(measured["loss"]) == pytest.approx(float(expected), abs=2e-6)
    largest = max(float(weight.grad.abs().max()) for weight in model.parameters())
    mine = dict(policy.model.named_parameters())
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            mine[name].grad.double(), weight.grad, rtol=0, atol=2e-5 * largest, msg=name
        )


def test_without_staleness_the_first_step_of_a_batch_has_no_ratios(letters):
    given = {"model": str(letters), "prompts": "p", "reward": "r:f", "device": "cpu"}
    for stale in (0, 1):
        config = resolve(Config(**given, algorithm="grpo", prompts_per_step=2, max_staleness=stale))
        rollouts = of_two_versions(letters)
        cuts = prepare.minibatches(RolloutBatch(rollouts, np.zeros(6, bool), {}), config)
        (batch,) = prepare.prepare_batches(cuts, policies.load(config), config, None)
        assert (batch.old_logprobs is None) == (stale == 0)
