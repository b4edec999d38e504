"""What the heads of `gpu_once.py` are given, and the float32 gradients they are compared with.

Letters: ``n`` tokens, ``B`` sequences, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gspo_rs.losses import gspo_loss

CLIP = {"clip_low": 3e-4, "clip_high": 4e-4}
DATA = ("random", "peaked")
KINDS = ("off policy", "on policy", "cross-entropy")
"""What is differentiated: the GSPO loss with and without old log-probabilities, or the mean
negative log-probability, for kernels that know no other loss."""
DRIFT = 3e-5
"""Nats by which the mean of a sequence has moved since its log-probabilities were old: within the
clip, so that no rounding decides whether a sequence is clipped."""


@dataclass(frozen=True)
class Sizes:
    """Of a batch, ``n`` a multiple of the tokens of a sequence."""

    tokens: int
    length: int
    hidden: int
    vocabulary: int

    @property
    def operations(self) -> int:
        """Of the three products that an exact head needs, forward and backward."""
        return 3 * 2 * self.tokens * self.hidden * self.vocabulary


@dataclass(frozen=True)
class Batch:
    """Hidden states, (n, D), a head, (V, D), sampled tokens, and what the loss is given."""

    hidden: Tensor
    weight: Tensor
    targets: Tensor
    old_logprobs: Tensor | None
    advantages: Tensor
    lengths: Tensor

    @property
    def rows(self) -> int:
        return len(self.advantages)


def batch(
    sizes: Sizes, data: str, kind: str, device: torch.device, dtype: torch.dtype, *, seed: int = 0
) -> Batch:
    """Draw a batch.

    Of "random" data every token has a probability of about 1 / V, and hardly a logit counts. Of
    "peaked" data the sampled token has one of 0.3 to 0.99, as in the text of a trained model.
    """
    draw = torch.Generator(device).manual_seed(seed)
    made = {"device": device, "generator": draw}
    n, d, v = sizes.tokens, sizes.hidden, sizes.vocabulary
    hidden, weight = torch.randn(n, d, **made), torch.randn(v, d, **made) / d**0.5
    targets = torch.randint(v, (n,), **made)
    if data == "peaked":
        # Beside a target of logit s the others sum up to V e^0.5, and |w| is about 1.
        height = math.log(v) + 0.5 - 1 + 6 * torch.rand(n, 1, **made)
        hidden += height * weight[targets]
    found = Batch(
        hidden.to(dtype),
        weight.to(dtype),
        targets,
        None,
        torch.randn(n // sizes.length, **made),
        torch.full((n // sizes.length,), sizes.length),
    )
    if kind != "off policy":
        return found
    drift = DRIFT * sizes.length**0.5
    now = torch.cat([exact_logprobs(part) for part in pieces(found, 4 * sizes.length)])
    return replace(found, old_logprobs=now + drift * torch.randn(n, **made))


def pieces(whole: Batch, tokens: int) -> list[Batch]:
    """Cut a batch into whole sequences, about as many `tokens` a piece."""
    length = int(whole.lengths[0])
    rows = max(tokens // length, 1)
    found = []
    for start in range(0, whole.rows, rows):
        some = slice(start, min(start + rows, whole.rows))
        part = slice(some.start * length, some.stop * length)
        old = None if whole.old_logprobs is None else whole.old_logprobs[part]
        found.append(
            Batch(
                whole.hidden[part],
                whole.weight,
                whole.targets[part],
                old,
                whole.advantages[some],
                whole.lengths[some],
            )
        )
    return found


def wide(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 if they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@torch.no_grad()
def exact_logprobs(given: Batch) -> Tensor:
    """Return log-probabilities in float32 at least, logits and all."""
    logits = wide(given.hidden) @ wide(given.weight).T
    return logits.log_softmax(-1).gather(1, given.targets[:, None])[:, 0]


def of_logprobs(logprobs: Tensor, given: Batch, kind: str, *, rows: int | None = None) -> Tensor:
    """Return the loss of the log-probabilities of a batch, or of a piece of one of `rows`."""
    rows = given.rows if rows is None else rows
    if kind == "cross-entropy":
        return -logprobs.sum() / (rows * given.lengths[0])
    old = logprobs.detach() if given.old_logprobs is None else given.old_logprobs
    weights = 1 / (rows * given.lengths.double())
    return gspo_loss(logprobs, old, given.advantages, None, weights, lengths=given.lengths, **CLIP)[
        0
    ]


def exact_gradients(given: Batch, kind: str) -> tuple[Tensor, Tensor]:
    """Return the gradients for hidden states and head, by float32 products of float32 inputs."""
    leaves = [wide(x.detach()).clone().requires_grad_() for x in (given.hidden, given.weight)]
    logits = leaves[0] @ leaves[1].T
    logprobs = logits.log_softmax(-1).gather(1, given.targets[:, None])[:, 0]
    hidden, weight = torch.autograd.grad(of_logprobs(logprobs, given, kind), leaves)
    return hidden, weight


def off_by(found: Tensor, expected: Tensor) -> float:
    """Return how far a tensor is from another, relative to its norm."""
    return float((found.to(expected.dtype) - expected).norm() / expected.norm())
