"""What a block of the head costs the host on a GPU: the operations that it queues there."""

from dataclasses import fields

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fixtures.fake_gpu import NOTHING, fake_gpu
from gspo_rs.logprobs import chunk, launch
from gspo_rs.losses import layout, linear, linear_gspo_loss

BLOCK, WIDTH, VOCABULARY = 8192, 2048, 151_936
NOT_QUEUED = {"empty", "new_empty", "empty_like", "empty_strided", "device"}


class Launches(TorchDispatchMode):
    """Notes the operations that compute something: no views, and no memory."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if not func.is_view and name not in NOT_QUEUED:
            self.names.append(name)
        return func(*args, **(kwargs or {}))

    def noted(self, name, kernel):
        def call(*given, **options):
            self.names.append(name)
            return kernel(*given, **options)

        return call


def queued(n_blocks, monkeypatch):
    """The operations of a batch on a GPU whose sequences make so many full blocks."""
    counted = Launches()
    named = {field.name: getattr(NOTHING, field.name) for field in fields(NOTHING)}
    kernels = launch.Kernels(**{name: counted.noted(name, one) for name, one in named.items()})
    monkeypatch.setattr(launch, "kernels_on", lambda _: kernels)
    monkeypatch.setattr(chunk, "_free", lambda _: 80 * 10**9)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for module in (layout, linear):
        monkeypatch.setattr(module, "check_lengths", lambda *_: None)
    n, rows = BLOCK * n_blocks, 8 * n_blocks
    with fake_gpu():
        made = {"device": "cuda", "dtype": torch.bfloat16, "requires_grad": True}
        leaves = (torch.zeros(k, WIDTH, **made) for k in (n, VOCABULARY))
        vectors = torch.zeros(n, dtype=torch.int64, device="cuda"), torch.zeros(n, device="cuda")
        lengths = torch.full((rows,), BLOCK // 8)
        lengths.tolist = lambda: [BLOCK // 8] * rows
        with counted:
            loss, _ = linear_gspo_loss(*leaves, *vectors, torch.zeros(rows), lengths)
    assert loss.requires_grad
    return counted.names


def test_a_block_of_8192_tokens_queues_12_operations(monkeypatch):
    few, more = queued(3, monkeypatch), queued(4, monkeypatch)
    for name in few:
        more.remove(name)
    of_logits = 4 * ["mm", "fused_rows"]
    assert sorted(more) == sorted([*of_logits, "ratio_slopes", "mm", "scale_rows", "addmm"])
