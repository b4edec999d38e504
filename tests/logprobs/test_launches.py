"""What a block of the head costs the host on a GPU: the operations that it queues there."""

from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gspo_rs.logprobs import gradients
from gspo_rs.losses import linear_gspo_loss
from oracles.emulated_gpu import emulated

MEMORY = {"empty", "new_empty", "empty_like", "empty_strided"}
WIDENED = {"mm": 2, "addmm": 2}
"""Copies of factors in float32, which the emulation makes and a GPU does not."""


class Launches(TorchDispatchMode):
    """Notes the operations that compute something: no views, and no memory."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if not func.is_view and name not in MEMORY:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def queued(n_blocks):
    """The operations of a batch of sequences, one a block."""
    counted, n = Launches(), 8 * n_blocks
    hidden, weight = (torch.zeros(k, 16, dtype=torch.bfloat16) for k in (n, 50))
    leaves = hidden.requires_grad_(), weight.requires_grad_()
    given = torch.zeros(n, dtype=torch.int64), torch.zeros(n), torch.zeros(n_blocks)
    lengths = torch.full((n_blocks,), 8)

    def kernel(*_, **__):
        counted.names.append("kernel")

    # On a GPU nobody looks for slopes that are 0.
    every = mock.patch.object(gradients, "live_runs", lambda slopes: [slice(0, len(slopes))])
    with emulated(kernel), every, counted:
        loss, _ = linear_gspo_loss(*leaves, *given, lengths, chunk_size=8)
    assert loss.requires_grad
    return counted.names


def test_a_block_queues_few_operations():
    few, more = queued(3), queued(4)
    for name in few:
        more.remove(name)
    widened = sum(WIDENED.get(name, 0) for name in more)
    assert len(more) - widened <= 21, sorted(more)
