"""Losses of a linear head in one pass over it, without the matrix of all logits.

Letters: ``n`` tokens, ``B`` sequences, ``D`` hidden size, ``V`` vocabulary; ``l`` and ``o`` are the
log-probabilities of a token under the current and the old policy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gspo_rs.logprobs.chunk import Scaling
from gspo_rs.logprobs.fused import one_pass
from gspo_rs.losses.layout import Layout, to_device
from gspo_rs.losses.sequence import gspo_loss

__all__ = ["linear_gspo_loss", "linear_sequence_loss"]


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
        as make 128 MiB of float32 logits, and 512 at least.

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
    `linear_logprobs` and `gspo_loss` need four. A chunk holds whole sequences; a sequence longer
    than a chunk has its gradient for the head summed up apart, in another (V, D) tensor, and
    scaled at its end. Without `old_logprobs` c_i is known beforehand and no such tensor is needed.
    A head that takes no gradient costs two products; tokens of sequences whose c_i is 0 cost one,
    64 and more in a row, except on a GPU. Differentiable once.

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
    return linear_sequence_loss(
        partial(gspo_loss, clip_low=clip_low, clip_high=clip_high),
        hidden,
        weight,
        targets,
        old_logprobs,
        advantages=advantages,
        lengths=lengths,
        weights=weights,
        bias=bias,
        temperature=temperature,
        softcap=softcap,
        chunk_size=chunk_size,
    )


def linear_sequence_loss(
    loss: Callable[..., tuple[Tensor, dict[str, Tensor]]],
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
    """Return a loss that weighs all tokens of a sequence alike, its gradients taken on the way.

    Parameters
    ----------
    loss : callable
        `gspo_loss`, `gspo_token_loss`, `luspo_loss`, `vespo_loss`, `reinforce_loss` without bound,
        or another whose gradient for a log-probability depends on the sequence only, its options
        bound to it as by `functools.partial`. A loss by token, such as `grpo_loss`, would get
        wrong gradients in sequences longer than a chunk.
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
    dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    like = hidden.new_zeros(hidden.shape[0], dtype=dtype)
    on_device = to_device(lengths, hidden.device)
    layout = Layout.of(like, None, on_device)
    advantages = layout.sequence_values(advantages, "advantages", like)
    # Those of the whole batch: `loss` sees a few sequences at a time.
    weights = layout.weights(weights, like)
    if old_logprobs is not None:
        layout.log_ratio(like, old_logprobs)  # checks the shape before the work begins

    def part(logprobs: Tensor, tokens: slice, rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        old = logprobs.detach() if old_logprobs is None else old_logprobs[tokens]
        of_rows = advantages[rows], None, weights[rows]
        return loss(logprobs, old, *of_rows, lengths=on_device[rows])

    gradient, logprobs = one_pass(
        hidden,
        weight,
        targets,
        lambda *which: part(*which)[0],
        lengths=None if old_logprobs is None else lengths.tolist(),
        bias=bias,
        scaling=Scaling(float(temperature), softcap),
        chunk_size=chunk_size,
    )
    value, metrics = part(logprobs, slice(None), slice(None))
    return value + gradient, metrics
