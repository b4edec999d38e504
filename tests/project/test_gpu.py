"""What only a GPU can show: that the step never waits for it, and low-precision products."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.runs import configured
from gspo_rs.rollouts import Ragged
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.step.update import backward
from oracles.heads import case, evaluate, now, ours, plain

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def make_policy():
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=500, num_hidden_layers=2, **shape))
    return Policy(
        model=model.to("cuda").eval(),
        tokenizer=None,
        device=torch.device("cuda"),
        autocast=torch.bfloat16,
        shape="padded",
        context=None,
        temperature=1.0,
    )


def make_training_batch():
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 50, 12)
    rows = [draw.integers(0, 500, k) for k in lengths]
    old = Ragged(-draw.exponential(2.0, int(lengths.sum())).astype(np.float32), lengths)
    return TrainingBatch(
        prompts=Ragged.from_rows([row[:1] for row in rows], np.int64),
        completions=Ragged.from_rows(rows, np.int64),
        advantages=torch.from_numpy(draw.normal(size=12)),
        weights=torch.from_numpy(draw.random(12)),
        rewards=draw.random(12),
        codes=np.arange(12) // 4,
        n_groups=3,
        old_logprobs=old,
        ref_logprobs=old,
        sampler_logprobs=old,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "gspo"},
        {"algorithm": "grpo"},
        {"algorithm": "grpo", "correction": "token_truncate"},
        {"algorithm": "listwise"},
        {"algorithm": "listwise", "loss": "pairwise"},
        {"algorithm": "listwise", "loss": "dpo"},
    ],
)
def test_the_backward_passes_of_a_step_never_wait_for_the_gpu(fields):
    policy, training_batch = make_policy(), make_training_batch()
    config = configured(micro_batch_tokens=100, **fields)
    backward(
        policy, training_batch, config
    )  # the first call compares the model's logits, and waits
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics, _ = backward(policy, training_batch, config)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metrics["loss"].isfinite()


SCALINGS = [{}, {"temperature": 0.7}, {"softcap": 5.0, "temperature": 1.3}]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("on_policy", [False, True])
@pytest.mark.parametrize("words", [1000, 5001])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_one_pass_loss_is_no_further_from_float64_than_the_plain_expression(
    dtype, words, on_policy, scaling
):
    # The bound is that of the same roundings on a CPU: tests/logprobs/test_gpu_roundings.py.
    inputs, batch = case([300, 7, 0, 150], d=64, v=words, dtype=dtype, moved=0.0, **scaling)
    inputs[0] *= 0.3
    options = {"clip_low": 0.02, "clip_high": 0.02, **scaling}
    batch["old_logprobs"] = now(*(x.double() for x in inputs), batch["targets"], **scaling)
    inputs = [x.cuda() for x in inputs]
    batch |= {name: value.cuda() for name, value in batch.items() if name != "lengths"}
    if on_policy:
        batch["old_logprobs"] = None
    truth = evaluate(plain, [x.double() for x in inputs], batch, **options)
    theirs = evaluate(plain, inputs, batch, **options)
    for chunk_size in (64, None):
        found = evaluate(ours, inputs, batch, **options, chunk_size=chunk_size)
        for mine, other, exact in zip(found[2], theirs[2], truth[2], strict=True):
            limit = 1.1 * (other.double() - exact).norm() + 1e-6 * exact.norm()
            assert (mine.double() - exact).norm() <= limit
