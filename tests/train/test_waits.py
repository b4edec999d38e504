"""The objective of a step on a GPU: nothing that it computes waits for the GPU."""

from typing import get_args

import numpy as np
import pytest
import torch

from fixtures.fake_gpu import fake_gpu
from fixtures.runs import configured
from gspo_rs.rollouts import Ragged
from gspo_rs.train import Config
from gspo_rs.train.config.config import resolve
from gspo_rs.train.config.presets import GROUP_LOSSES, Algorithm
from gspo_rs.train.step.objective import Part, group_scores, policy_loss
from gspo_rs.train.step.training_batch import TrainingBatch

LENGTHS = np.array([3, 1, 4, 2])
KNOWN = Ragged(np.full(10, -1.0, np.float32), LENGTHS)
BATCH = TrainingBatch(
    prompts=Ragged(np.zeros(4, np.int64), np.ones(4, np.int64)),
    completions=Ragged(np.zeros(10, np.int64), LENGTHS),
    advantages=torch.ones(4),
    weights=torch.ones(4),
    rewards=np.arange(4.0),
    codes=np.zeros(4, np.int64),
    n_groups=1,
    targets=torch.ones(4),
    old_logprobs=KNOWN,
    ref_logprobs=KNOWN,
    sampler_logprobs=KNOWN,
)


def online(**fields):
    """Settings of a run that samples, which its corrections need."""
    return resolve(Config(model="m", prompts="p", reward="r", old_logprobs="recompute", **fields))


def part():
    """The second half of the batch, on a GPU."""
    made = {"device": "cuda"}
    lengths = torch.zeros(2, dtype=torch.int64, **made)
    return Part(torch.zeros(6, requires_grad=True, **made), lengths, np.array([2, 3]))


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_the_loss_of_no_preset_waits_for_the_gpu(algorithm):
    config = configured(algorithm=algorithm)
    if config.loss in GROUP_LOSSES:
        pytest.skip("its groups are compared once a step: see tests/losses/test_waits.py")
    with fake_gpu():
        loss, metrics = policy_loss(part(), BATCH, config)
        assert loss.device.type == "cuda"
        assert loss.requires_grad
        assert all(value.device.type == "cuda" for value in metrics.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"correction": "token_truncate"},
        {"correction": "token_mask"},
        {"correction": "seq_mask"},
        {"off_policy_mask_threshold": 1.0},
        {"beta": 0.1},
    ],
)
def test_no_correction_or_penalty_waits_for_the_gpu(fields):
    with fake_gpu():
        loss, _ = policy_loss(part(), BATCH, online(algorithm="grpo", **fields))
        assert loss.requires_grad


def test_scores_and_values_of_sequences_never_wait_for_the_gpu():
    config = configured(algorithm="listwise")
    with fake_gpu():
        here = part()
        assert group_scores(here, BATCH, config).requires_grad
        assert here.of(torch.zeros(4, device="cuda")).shape == (2,)
