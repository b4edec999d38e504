"""Heads for `gpu_once.py`: ours and all others there are, with their products and roundings.

Each is a function of a batch that returns the gradients for hidden states and head. Some kernels
have only the cross-entropy, which needs no pass over sequences and is the easier task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch
from gpu_cases import CLIP, Batch, of_logprobs, pieces
from torch import Tensor

from gspo_rs.logprobs import launch
from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import linear_gspo_loss

PIECE = 4096
"""Tokens whose logits the plain expression holds at once, so that it fits."""
Gradients = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Contender:
    """A head: how it is called, and what is known of it from its source.

    ``logprobs``, of those that give them, is called without gradient. ``module`` is what has to be
    installed, under the name of ``package``.
    """

    name: str
    gradients: Callable[[Batch], Gradients]
    products: str
    logits: str
    kind: str = "off policy"
    logprobs: Callable[[Batch], Tensor] | None = None
    module: str | None = None
    package: str | None = None


def of_loss(loss: Callable[[Tensor, Tensor, Batch], Tensor]) -> Callable[[Batch], Gradients]:
    """Take the gradients of a loss of hidden states and head."""

    @functools.wraps(loss)
    def run(batch: Batch) -> Gradients:
        leaves = [x.detach().requires_grad_() for x in (batch.hidden, batch.weight)]
        hidden, weight = torch.autograd.grad(loss(*leaves, batch), leaves)
        return hidden, weight

    return run


def of_heads(logprobs: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, Callable]:
    """Make a contender of a function of hidden states, head and targets to log-probabilities."""

    def loss(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        return of_logprobs(logprobs(hidden, weight, batch.targets), batch, "off policy")

    def alone(batch: Batch) -> Tensor:
        return logprobs(batch.hidden, batch.weight, batch.targets)

    return {"gradients": of_loss(loss), "logprobs": alone}


def every_logprob(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return (hidden @ weight.T).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]


def in_pieces(logprobs: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, Callable]:
    """Run an expression that holds all logits over pieces of a batch, as micro-batches would."""

    def run(batch: Batch) -> Gradients:
        weight = batch.weight.detach().requires_grad_()
        found = []
        for piece in pieces(batch, PIECE):
            hidden = piece.hidden.detach().requires_grad_()
            now = logprobs(hidden, weight, piece.targets)
            of_logprobs(now, piece, "off policy", rows=batch.rows).backward()
            found.append(hidden.grad)
        return torch.cat(found), weight.grad

    def alone(batch: Batch) -> Tensor:
        parts = pieces(batch, PIECE)
        return torch.cat([logprobs(part.hidden, part.weight, part.targets) for part in parts])

    return {"gradients": run, "logprobs": alone}


def compiled(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return _compiled()(hidden, weight, targets)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(every_logprob, dynamic=False)


def one_pass(hidden: Tensor, weight: Tensor, batch: Batch, *, size: int | None = None) -> Tensor:
    given = (batch.targets, batch.old_logprobs, batch.advantages, batch.lengths)
    return linear_gspo_loss(hidden, weight, *given, **CLIP, chunk_size=size)[0]


def in_chunks(size: int | None) -> Callable[[Batch], Gradients]:
    """Return our loss with chunks of so many tokens."""
    return of_loss(functools.partial(one_pass, size=size))


def by_passes(batch: Batch) -> Gradients:
    """Run ours as where Triton cannot be used."""
    with mock.patch.object(launch, "kernels_on", return_value=None):
        return of_loss(one_pass)(batch)


def by_exponentials(batch: Batch) -> Gradients:
    """Run ours with exponentials out of a product of its own, which is off until it is faster."""
    with mock.patch.object(launch, "EXPONENTIAL_IN_PRODUCT", new=True):
        return of_loss(one_pass)(batch)


def trl(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from trl.kernels import ChunkedLogProbFunction

    given = (hidden, weight, None, targets)
    return ChunkedLogProbFunction.apply(*given, 1.0, 32_768, None, 1.0, ())[0]


def verl(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(hidden, weight, targets, 1.0, "none")[0]


def cut(filter_eps: str | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def logprobs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        from cut_cross_entropy import linear_cross_entropy

        given = (hidden, weight, targets)
        return -linear_cross_entropy(*given, reduction="none", filter_eps=filter_eps).float()

    return logprobs


def liger_grpo(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    loss = LigerFusedLinearGRPOLoss(
        beta=0.0,
        use_ref_model=False,
        epsilon_low=CLIP["clip_low"],
        epsilon_high=CLIP["clip_high"],
        loss_type="grpo",
        importance_sampling_level="sequence",
    )
    targets, old = (x.view(batch.rows, -1) for x in (batch.targets, batch.old_logprobs))
    padded = hidden.view(batch.rows, -1, hidden.shape[1])
    given = (padded, weight, targets, torch.ones_like(targets), batch.advantages)
    return loss(*given, old_per_token_logps=old)[0]


def liger_cute(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
    from liger_kernel.ops.cutedsl.ops.fused_linear_cross_entropy_sm90 import (
        liger_fused_linear_cross_entropy_sm90,
    )

    return liger_fused_linear_cross_entropy_sm90(hidden, weight, batch.targets, -100, "mean")


def liger_triton(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    # No bias, no weights, index to ignore, no z-loss, no smoothing; no soft cap, no z-loss to
    # return, sums in float32, no scaling, no accuracy, no predictions.
    before, after = (None, None, -100, 0.0, 0.0), (None, False, torch.float32, False, False, False)
    return LigerFusedLinearCrossEntropyFunction.apply(
        hidden, weight, batch.targets, *before, "mean", *after, "nvidia-triton"
    )[0]


def quack(scaled: bool) -> Callable[[Tensor, Tensor, Batch], Tensor]:
    def loss(hidden: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        from quack.linear_cross_entropy import chunked_linear_cross_entropy

        given = (hidden, weight, batch.targets)
        return chunked_linear_cross_entropy(*given, use_scaled_exp=scaled)

    return loss


TRL = {"module": "trl", "package": "trl==1.16.0"}
LIGER = {"module": "liger_kernel", "package": "liger-kernel==0.8.5", "kind": "cross-entropy"}
CUTE = {**LIGER, "module": "cutlass", "package": "liger-kernel[cutedsl]==0.8.5"}
QUACK = {"module": "quack", "package": "quack-kernels==0.6.5", "kind": "cross-entropy"}
CUT = {"module": "cut_cross_entropy", "package": "cut-cross-entropy==25.1.1"}
VERL = {"module": "verl", "package": "verl==0.9.1"}
F32 = "float32, chunks"
# In this order, as time may run out: ours, the fastest rivals, those that people use, the slow.
CONTENDERS = (
    Contender("linear_gspo_loss", of_loss(one_pass), "3", F32),
    Contender("linear_gspo_loss, on policy", of_loss(one_pass), "3", F32, "on policy"),
    Contender("linear_gspo_loss, exponential in the product", by_exponentials, "3", "not kept"),
    Contender("QuACK scaled-exp", of_loss(quack(True)), "3", "bfloat16 exponentials", **QUACK),
    Contender("QuACK chunked", of_loss(quack(False)), "3", "bfloat16, chunks of 4096", **QUACK),
    Contender("Liger CuTe DSL", of_loss(liger_cute), "3", "bfloat16, all at once", **CUTE),
    Contender("TRL chunked", products="4", logits="bfloat16, tiles", **of_heads(trl), **TRL),
    Contender("verl fused", products="4", logits="float32, not kept", **of_heads(verl), **VERL),
    Contender(
        "cut-cross-entropy",
        products="2, and 2 of what its filter leaves",
        logits="float32, not kept",
        **of_heads(cut("high")),
        **CUT,
    ),
    Contender(
        "cut-cross-entropy, no filter",
        products="4",
        logits="float32, not kept",
        **of_heads(cut(None)),
        **CUT,
    ),
    Contender("plain, in pieces", products="3", logits="bfloat16", **in_pieces(every_logprob)),
    Contender("plain, compiled, in pieces", products="3", logits="bfloat16", **in_pieces(compiled)),
    Contender("linear_logprobs + gspo_loss", products="4", logits=F32, **of_heads(linear_logprobs)),
    Contender("linear_gspo_loss, PyTorch passes", by_passes, "3", F32),
    Contender("Liger Triton", of_loss(liger_triton), "3", "bfloat16, chunks", **LIGER),
    Contender(
        "Liger fused GRPO",
        of_loss(liger_grpo),
        "4, 2 of them in float32",
        "bfloat16, tiles",
        **{**LIGER, "kind": "off policy"},
    ),
)
