"""A step that is spread over processes has the gradient of one process."""

import subprocess
import sys
import textwrap
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
import torch

from gspo_rs.losses import (
    grpo_loss,
    gspo_loss,
    plackett_luce_loss,
    sequence_scores,
    sequence_weights,
    step_counts,
)

LENGTHS = [4, 1, 6, 3, 0, 9, 2, 5]
GROUPS = [0, 0, 0, 1, 1, 2, 2, 2]  # three sequences on one rank and five on the other
REDUCTIONS = ["seq_mean", "token_mean", "prompt_mean", "constant", "seq_sum"]

# What a rank does: its share of the sequences through a model, averaged by data parallelism.
RANK = textwrap.dedent(
    """
    import os, sys, torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from gspo_rs.losses import distributed_weights
    sys.path.insert(0, sys.argv[4])
    from test_reductions_parallel import LENGTHS, GROUPS, REDUCTIONS, model, objective, step

    rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    rows = range(3) if rank == 0 else range(3, 8)
    found = []
    for reduction in REDUCTIONS:
        lengths = torch.tensor([LENGTHS[i] for i in rows])
        groups = [GROUPS[i] for i in rows]
        weights = distributed_weights(lengths, reduction, groups, budget=16)
        network = DistributedDataParallel(model())
        objective(network, step(rows), weights).backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    if rank == 0:
        open(out, "w").write(repr([x.tolist() for x in found]))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # threads of gloo may end after the interpreter, which aborts it once in a while
    """
)


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Embedding(11, 6), torch.nn.Tanh(), torch.nn.Linear(6, 11)
    ).double()


def step(rows):
    """Tokens, old log-probabilities and advantages of some sequences of the step, flat."""
    draw = np.random.default_rng(0)
    tokens = [draw.integers(0, 11, n) for n in LENGTHS]
    old = [-draw.exponential(2.0, n) for n in LENGTHS]
    advantages = draw.standard_normal(len(LENGTHS))
    flat = (torch.from_numpy(np.concatenate([x[i] for i in rows])) for x in (tokens, old))
    lengths = torch.tensor([LENGTHS[i] for i in rows])
    return *flat, torch.from_numpy(advantages[list(rows)]), lengths


def objective(network, part, weights):
    tokens, old, advantages, lengths = part
    logprobs = network(tokens).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    return grpo_loss(logprobs, old, advantages, None, weights, lengths=lengths)[0]


def gradient(network, loss):
    network.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.slow
def test_three_and_five_sequences_on_two_ranks_give_the_gradient_of_one_process(tmp_path):
    out, store = tmp_path / "gradients", tmp_path / "store"
    rest = [str(path) for path in (store, out, Path(__file__).parent)]
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), *rest]) for rank in range(2)]
    assert [rank.wait(timeout=600) for rank in ranks] == [0, 0]
    for reduction, found in zip(REDUCTIONS, literal_eval(out.read_text()), strict=True):
        network = model()
        weights = sequence_weights(LENGTHS, reduction, GROUPS, budget=16)
        expected = gradient(network, objective(network, step(range(8)), weights))
        assert expected.abs().max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_counts_summed_over_the_parts_of_a_step_give_its_weights(reduction):
    parts = [slice(0, 3), slice(3, 5), slice(5, 8)]
    counts = sum(step_counts(LENGTHS[part], GROUPS[part]) for part in parts)
    found = [
        sequence_weights(LENGTHS[part], reduction, GROUPS[part], budget=16, counts=counts)
        for part in parts
    ]
    expected = sequence_weights(LENGTHS, reduction, GROUPS, budget=16)
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("loss_of", [gspo_loss, plackett_luce_loss])
def test_a_loss_of_sequences_is_exact_when_its_slopes_are_taken_first(loss_of):
    """The two-pass rule: c = dL/dh without a graph, then backward of sum c h, part by part."""
    advantages = step(range(8))[2]
    network = model()

    def logprobs(rows):
        part = step(rows)
        return network(part[0]).log_softmax(-1).gather(1, part[0][:, None])[:, 0], part

    def scores(rows):
        new, part = logprobs(rows)
        return sequence_scores(new, part[1], None, beta=0.3, average=True, lengths=part[3])

    def loss(h):
        if loss_of is plackett_luce_loss:
            return plackett_luce_loss(h, advantages, GROUPS)[0]
        ratio = (h / 0.3).exp()
        return -torch.minimum(ratio * advantages, ratio.clamp(0.99, 1.015) * advantages).mean()

    expected = gradient(network, loss(scores(range(8))))
    with torch.no_grad():
        known = scores(range(8))
    known.requires_grad_()
    slopes = torch.autograd.grad(loss(known), known)[0]
    network.zero_grad()
    for i in range(8):
        (slopes[i] * scores([i])).sum().backward()
    found = torch.cat([p.grad.flatten() for p in network.parameters()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
