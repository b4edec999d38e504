"""A step on a GPU, traced without one: nothing that it computes waits for the GPU."""

from typing import get_args

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from fixtures.fake_gpu import NOTHING, fake_gpu
from fixtures.runs import configured
from gspo_rs.logprobs import chunk, launch, model_head
from gspo_rs.rollouts import Ragged
from gspo_rs.train import Config
from gspo_rs.train.config.config import resolve
from gspo_rs.train.config.presets import Algorithm
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.objective import Part, group_scores, policy_loss
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.step.update import backward

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


@pytest.fixture(scope="module", autouse=True)
def gpu():
    with fake_gpu():
        yield


@pytest.fixture(scope="module")
def policy(gpu):
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    with torch.device("cuda"):
        config = LlamaConfig(vocab_size=50, num_hidden_layers=1, **shape)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model_head._verified.add(model)  # a first call compares the model's logits, and waits
    return Policy(
        model=model.eval(),
        tokenizer=None,
        device=torch.device("cuda"),
        autocast=None,
        shape="padded",
        context=None,
        temperature=1.0,
    )


def online(**fields):
    """Settings of a run that samples, which its corrections need."""
    return resolve(Config(model="m", prompts="p", reward="r", old_logprobs="recompute", **fields))


def part():
    """The second half of the batch, on a GPU."""
    made = {"device": "cuda"}
    lengths = torch.zeros(2, dtype=torch.int64, **made)
    return Part(torch.zeros(6, requires_grad=True, **made), lengths, np.array([2, 3]))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_the_passes_of_no_preset_wait_for_the_gpu(algorithm, policy, monkeypatch):
    monkeypatch.setattr(launch, "kernels_on", lambda _: NOTHING)
    monkeypatch.setattr(chunk, "_free", lambda _: 2**35)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    # Autograd itself does not run on what has no contents.
    monkeypatch.setattr(torch.autograd, "grad", lambda _, leaf: [torch.zeros_like(leaf)])
    walked = []
    monkeypatch.setattr(torch.autograd, "backward", walked.append)
    metrics, whole = backward(policy, BATCH, configured(algorithm=algorithm, micro_batch_tokens=6))
    assert len(walked) > 1
    assert all(value.requires_grad for value in walked)
    assert len(whole.logprobs) == 10
    assert {value.device.type for value in metrics.values()} == {"cuda"}


@pytest.mark.slow
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
    loss, _ = policy_loss(part(), BATCH, online(algorithm="grpo", **fields))
    assert loss.requires_grad


@pytest.mark.slow
def test_scores_and_values_of_sequences_never_wait_for_the_gpu():
    config = configured(algorithm="listwise")
    here = part()
    assert group_scores(here, BATCH, config).requires_grad
    assert here.of(torch.zeros(4, device="cuda")).shape == (2,)
