"""What only a GPU can show: that the step never waits for it, and low-precision products."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.runs import configured
from gspo_rs.losses import gspo_loss, linear_gspo_loss
from gspo_rs.rollouts import Ragged
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.step.update import backward

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
    )


@pytest.mark.parametrize("algorithm", ["gspo", "grpo"])
def test_the_backward_passes_of_a_step_never_wait_for_the_gpu(algorithm):
    policy, training_batch = make_policy(), make_training_batch()
    config = configured(algorithm=algorithm, micro_batch_tokens=100)
    backward(
        policy, training_batch, config
    )  # the first call compares the model's logits, and waits
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics, _ = backward(policy, training_batch, config)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metrics["loss"].isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_one_pass_loss_is_no_further_from_float64_than_the_plain_expression(dtype):
    torch.manual_seed(0)
    lengths = torch.tensor([300, 7, 0, 150])
    n, made = int(lengths.sum()), {"device": "cuda", "dtype": dtype}
    inputs = [torch.randn(n, 64, **made) * 0.3, torch.randn(1000, 64, **made) * 0.3]
    targets = torch.randint(1000, (n,), device="cuda")
    advantages = torch.randn(4, device="cuda")

    def plain(hidden, weight, old):
        logits = hidden @ weight.T
        every = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)
        logprobs = every.gather(1, targets[:, None])[:, 0]
        old = logprobs.detach() if old is None else old
        return gspo_loss(logprobs, old, advantages, None, lengths=lengths, clip_high=0.02)[0]

    def ours(hidden, weight, old):
        given = (targets, old, advantages, lengths)
        return linear_gspo_loss(hidden, weight, *given, chunk_size=64, clip_high=0.02)[0]

    def gradients(function, leaves):
        leaves = [x.detach().requires_grad_() for x in leaves]
        return torch.autograd.grad(function(*leaves, None), leaves)

    exact = gradients(plain, [x.double() for x in inputs])
    triples = zip(gradients(ours, inputs), gradients(plain, inputs), exact, strict=True)
    for mine, theirs, truth in triples:
        limit = 1.1 * (theirs.double() - truth).norm() + 1e-6 * truth.norm()
        assert (mine.double() - truth).norm() <= limit
