"""Losses of a linear head in one pass over it, without the matrix of all logits.

Letters: ``n`` tokens, ``B`` sequences, ``D`` hidden size, ``V`` vocabulary; ``l`` and ``o`` are the
log-probabilities of a token under the current and the old policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch
from torch import Tensor

from gspo_rs.logprobs import launch
from gspo_rs.logprobs.chunk import Scaling
from gspo_rs.logprobs.fused import Slopes, one_pass, slopes_of
from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses.clip import check_clip
from gspo_rs.losses.layout import LOG_RATIO_BOUND, Layout, check_lengths, to_device
from gspo_rs.losses.sequence import gspo_loss

__all__ = ["linear_gspo_loss", "linear_sequence_loss"]

SequenceLoss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
Given = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Hidden states (n, D), weight (V, D), targets (n,) and bias (V,)."""


def linear_gspo_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    lengths: Tensor,
    weights: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    chunk_size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return `gspo_loss` of a linear head's log-probabilities, its gradients taken on the way.

    Parameters
    ----------
    hidden : Tensor, shape (n, D)
        Input of the head for each sampled token, sequence after sequence; any float dtype.
    weight : Tensor, shape (V, D)
        The head, in the dtype of `hidden` (both are cast under autocast).
    targets : Tensor of int64, shape (n,)
        The sampled tokens, from 0 to V - 1.
    old_logprobs : Tensor, shape (n,), or None
        Under the policy that sampled, in nats. None where that is the current policy: every ratio
        is 1.
    advantages : Tensor, shape (B,)
        One per sequence; unitless. Detached.
    lengths : Tensor of int64, shape (B,)
        Tokens of each sequence, which follow one another; 0 is allowed. Best on the CPU, where the
        cut into chunks is decided: lengths on a GPU are waited for.
    weights : Tensor, shape (B,), optional
        Weight of each token of a sequence, from `sequence_weights`; ``seq_mean`` over this batch by
        default. With those of ``seq_sum`` the loss is LUSPO's.
    bias : Tensor, shape (V,), optional
        Added to the logits.
    temperature : float
        Positive; the logits are divided by it before the softmax.
    softcap : float, optional
        Positive; before that, logits become ``softcap * tanh(logits / softcap)``.
    clip_low, clip_high : float
        The ratio is clipped to ``1 - clip_low`` .. ``1 + clip_high``.
    chunk_size : int, optional
        Most tokens taken at once; it changes memory and speed, not the result. By default as many
        as make 128 MiB of float32 logits, and 512 at least, or as the longest sequence has, where
        that takes no more memory; on a GPU 8192, or the longest sequence, as far as a quarter of
        the free memory holds them.

    Returns
    -------
    loss : Tensor, scalar
        As `gspo_loss` returns it, with gradients for `hidden`, `weight`, `bias`.
    metrics : dict of str to Tensor
        Those of `gspo_loss`.

    Raises
    ------
    ValueError
        If shapes do not fit, a clip is negative, or `temperature`, `softcap` or `chunk_size` is
        not positive.
    TypeError
        If `hidden` and `weight` differ in dtype, or `lengths` is not int64.

    Notes
    -----
    The gradient is ``sum_i c_i sum_t grad l_it`` with one scalar per sequence,
    ``c_i = -w_i s_i A_i`` where the clip does not act and 0 where it does, with
    ``s_i = exp(mean_t (l_it - o_it))``. It is taken chunk by chunk in the forward pass, where c_i
    is known as soon as the sequence ends: three matrix products, none of them twice, where
    `linear_logprobs` and `gspo_loss` need four. A chunk holds whole sequences; of a sequence longer
    than a chunk all but the last chunk is multiplied by the head once more, after its end. Without
    `old_logprobs` c_i is known beforehand and nothing is waited for.
    With them a GPU knows each row's normaliser beforehand, and reads its logits once; a row for
    which they are off by 60 nats is read again. A head that takes no gradient costs two products;
    tokens of sequences whose c_i is 0 cost one, 64
    and more in a row, except on a GPU. Under `torch.compile` there are four products, as by
    `linear_logprobs` and `gspo_loss`, for chunks depend on values. Differentiable once.

    References
    ----------
    .. [1] C. Zheng et al. (2025). Group Sequence Policy Optimization. arXiv 2507.18071.

    Examples
    --------
    >>> hidden = torch.eye(2).requires_grad_()
    >>> weight = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    >>> loss, metrics = linear_gspo_loss(
    ...     hidden, weight, torch.tensor([1, 0]), None, torch.tensor([1.0]), torch.tensor([2])
    ... )
    >>> loss.backward()
    >>> loss.detach(), hidden.grad[0]
    (tensor(-1.), tensor([0.0000, 0.3333]))
    """
    check_clip(clip_low, clip_high, "sequence")
    batch = _Batch.of(hidden, old_logprobs, advantages, lengths, weights)
    loss = partial(gspo_loss, clip_low=clip_low, clip_high=clip_high)
    given, scaling = (hidden, weight, targets, bias), Scaling(float(temperature), softcap)
    if torch.compiler.is_compiling():
        return batch.traced(loss, given, scaling=scaling, chunk_size=chunk_size)
    slopes = batch.gspo_slopes(clip_low, clip_high)
    return batch.through(loss, slopes, given, scaling=scaling, chunk_size=chunk_size)


def linear_sequence_loss(
    loss: SequenceLoss,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    old_logprobs: Tensor | None,
    *,
    advantages: Tensor,
    lengths: Tensor,
    weights: Tensor | None = None,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    chunk_size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a loss of a linear head that is a sum over sequences, its gradients taken on the way.

    Parameters
    ----------
    loss : callable
        `gspo_loss`, `gspo_token_loss`, `luspo_loss`, `vespo_loss`, `grpo_loss`, or another whose
        gradient for a sequence depends on that sequence only, its options bound to it as by
        `functools.partial`.
    hidden, weight, targets, old_logprobs, advantages, lengths, weights
        As in `linear_gspo_loss`. Without `old_logprobs` the gradient of `loss` for a
        log-probability must not depend on its value.
    bias, temperature, softcap, chunk_size
        As in `linear_gspo_loss`.

    Returns
    -------
    loss, metrics
        As `loss` returns them, the first with gradients for `hidden`, `weight`, `bias`.

    Raises
    ------
    ValueError, TypeError
        As `linear_gspo_loss` and `loss` do.

    Examples
    --------
    >>> def log_likelihood(logprobs, old, advantages, mask, weights, *, lengths):
    ...     return -(Layout.of(logprobs, mask, lengths).spread(weights) * logprobs).sum(), {}
    >>> hidden, weight = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    >>> linear_sequence_loss(
    ...     log_likelihood,
    ...     hidden,
    ...     weight,
    ...     torch.tensor([1, 0]),
    ...     None,
    ...     advantages=torch.tensor([1.0]),
    ...     lengths=torch.tensor([2]),
    ... )[0]
    tensor(0.9803)
    """
    batch = _Batch.of(hidden, old_logprobs, advantages, lengths, weights)
    given, scaling = (hidden, weight, targets, bias), Scaling(float(temperature), softcap)
    if torch.compiler.is_compiling():
        return batch.traced(loss, given, scaling=scaling, chunk_size=chunk_size)
    # Metrics of the whole batch alone are wanted; a loss of the user's may have none.
    has_metrics = "metrics" in signature(loss).parameters
    silent = partial(loss, metrics=False) if has_metrics else loss
    slopes = slopes_of(lambda *which: batch.part(silent, *which)[0])
    return batch.through(loss, slopes, given, scaling=scaling, chunk_size=chunk_size)


@dataclass(frozen=True)
class _Batch:
    """Whole sequences, checked, on the device of the hidden states."""

    old_logprobs: Tensor | None
    advantages: Tensor
    weights: Tensor
    lengths: Tensor
    layout: Layout

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        old_logprobs: Tensor | None,
        advantages: Tensor,
        lengths: Tensor,
        weights: Tensor | None,
    ) -> _Batch:
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        like = hidden.new_zeros(hidden.shape[0], dtype=dtype)
        check_lengths(lengths, hidden.shape[0])
        layout = Layout.of(like, None, to_device(lengths, hidden.device))
        advantages = layout.sequence_values(advantages, "advantages", like)
        if old_logprobs is not None:
            layout.log_ratio(like, old_logprobs)  # checks the shape before the work begins
        # The weights are those of the whole batch: a loss sees a few sequences at a time.
        return cls(old_logprobs, advantages, layout.weights(weights, like), lengths, layout)

    def old(self, logprobs: Tensor, tokens: slice) -> Tensor:
        """Return the old log-probabilities of some tokens, or their own without such."""
        return logprobs.detach() if self.old_logprobs is None else self.old_logprobs[tokens]

    def part(
        self, loss: SequenceLoss, logprobs: Tensor, tokens: slice, rows: slice
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of some sequences."""
        of_rows = self.advantages[rows], None, self.weights[rows]
        lengths = self.layout.lengths[rows]
        return loss(logprobs, self.old(logprobs, tokens), *of_rows, lengths=lengths)

    def gspo_slopes(self, clip_low: float, clip_high: float) -> Slopes:
        """Return the slopes of `gspo_loss`, in closed form: few operations for each block."""
        lengths, bound = self.layout.lengths, math.exp(LOG_RATIO_BOUND)
        kernels = launch.kernels_on(lengths.device)
        ends = lengths if kernels is None else lengths.cumsum(0)
        pull = -self.advantages * self.weights
        most, least = torch.full_like(pull, bound), torch.full_like(pull, 1 / bound)
        most.masked_fill_(self.advantages > 0, min(1 + clip_high, bound))
        least.masked_fill_(self.advantages < 0, max(1 - clip_low, 1 / bound))
        owner, found = self.layout.owner, torch.zeros_like(pull)
        assert owner is not None

        def slopes(logprobs: Tensor, tokens: slice, rows: slice) -> Tensor:
            old, bounds = self.old(logprobs, tokens), (least[rows], most[rows])
            if kernels is not None:
                of_rows = {"pull": pull[rows], "bounds": bounds, "origin": tokens.start or 0}
                sequences, now = (ends[rows], lengths[rows]), logprobs.to(pull.dtype)
                return kernels.ratio_slopes(now, old, sequences, **of_rows)
            moved = logprobs - old
            ratio = torch.segment_reduce(
                moved, "mean", lengths=lengths[rows], initial=0, unsafe=True
            ).exp()
            kept = ratio.clamp(*bounds)
            torch.mul(kept * pull[rows], kept == ratio, out=found[rows])
            return found.index_select(0, owner[tokens])

        return slopes

    def through(
        self,
        loss: SequenceLoss,
        slopes: Slopes,
        given: Given,
        *,
        scaling: Scaling,
        chunk_size: int | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the sequences through the head, and their loss of what comes out."""
        hidden, weight, targets, bias = given
        gradient, logprobs = one_pass(
            hidden,
            weight,
            targets,
            slopes,
            lengths=None if self.old_logprobs is None else self.lengths.tolist(),
            bias=bias,
            scaling=scaling,
            chunk_size=chunk_size,
            near=self.old_logprobs,
        )
        value, metrics = self.part(loss, logprobs, slice(None), slice(None))
        return value + gradient, metrics

    def traced(
        self, loss: SequenceLoss, given: Given, *, scaling: Scaling, chunk_size: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Do the same in a graph: which sequences make a chunk depends on values, so it has none.

        Gradients are taken after the loss, and logits computed again for them.
        """
        hidden, weight, targets, bias = given
        logprobs = linear_logprobs(
            hidden,
            weight,
            targets,
            bias=bias,
            temperature=scaling.temperature,
            softcap=scaling.softcap,
            chunk_size=chunk_size,
        )
        return self.part(loss, logprobs, slice(None), slice(None))
