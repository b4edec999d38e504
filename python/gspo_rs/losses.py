"""Policy losses that depend on the log-probabilities of sampled tokens only, and their gradients.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one;
``l`` and ``o`` are the log-probabilities of a token under the current and the old policy.

Every loss is minimised and is a sum over the tokens of weights times terms; with weights that
`sequence_weights` computed from the whole optimizer step, the losses and gradients of its
micro-batches add up to those of the step, however it is cut. Ratios are float32 (float64 for
float64 input); nothing waits for the GPU.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from gspo_rs.diagnostics import Level, measure, policy_metrics
from gspo_rs.divergence import kl_penalty
from gspo_rs.layout import Layout, bounded_exp
from gspo_rs.reductions import Reduction, sequence_weights

__all__ = [
    "Level",
    "Reduction",
    "grpo_loss",
    "gspo_loss",
    "gspo_token_loss",
    "kl_penalty",
    "policy_metrics",
    "sequence_weights",
]

WIDE_SEQUENCE_CLIP = 0.02
"""A clip above this hardly ever acts on a sequence ratio, which is a mean over its tokens."""


def gspo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the GSPO loss: one clipped importance ratio per sequence.

    Parameters
    ----------
    logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens under the current policy, in nats; any float dtype.
    old_logprobs : Tensor, same shape
        The same under the policy that sampled; no gradient flows into it.
    advantages : Tensor, shape (B,)
        One per sequence; unitless. Detached.
    mask : Tensor of bool, shape (B, T), or None
        True where the policy sampled the token. None for the flat layout. What stands elsewhere,
        NaN included, does not matter.
    weights : Tensor, shape (B,), optional
        Weight of each token of a sequence, from `sequence_weights`; the loss of sequence i counts
        ``weights[i] * L_i``. By default those of ``seq_mean`` over this batch alone.
    clip_low, clip_high : float
        The ratio is clipped to ``1 - clip_low`` .. ``1 + clip_high``.
    lengths : Tensor of int64, shape (B,), optional
        The flat layout: tokens of each sequence, which follow one another.

    Returns
    -------
    loss : Tensor, scalar
        Float32, or float64 if a log-probability is; to be minimised.
    metrics : dict of str to Tensor
        Detached scalars, those of `policy_metrics`.

    Raises
    ------
    ValueError
        If shapes do not fit one another, or a clip is negative.
    TypeError
        If `mask` is not bool or `lengths` not int64.

    Warns
    -----
    UserWarning
        If a clip is above 0.02: such a band is meant for token ratios.

    Notes
    -----
    With ``s_i = exp(mean_t (l_it - o_it))`` over the sampled tokens of sequence i, the loss is
    ``-sum_i w_i L_i min(s_i A_i, clip(s_i) A_i)`` [1]_. A sequence without a token contributes
    nothing, and a log-ratio beyond 20 nats has no gradient.

    References
    ----------
    .. [1] C. Zheng et al. (2025). Group Sequence Policy Optimization. arXiv 2507.18071.

    Examples
    --------
    >>> old = torch.log(torch.tensor([[0.5, 0.25], [0.1, 1.0]]))
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> loss, metrics = gspo_loss(old + 1e-4, old, torch.tensor([1.0, -0.5]), mask)
    >>> loss, metrics["clip/seq"]
    (tensor(-0.2500), tensor(0.))
    """
    _check_clip(clip_low, clip_high, "sequence")
    layout = Layout.of(logprobs, mask, lengths)
    log_ratio = layout.log_ratio(logprobs, old_logprobs)
    per_sequence = layout.sequence_values(advantages, "advantages", log_ratio)  # (B,)
    ratio = bounded_exp(layout.mean(log_ratio))  # (B,)
    terms = _clipped(ratio, per_sequence, clip_low, clip_high)
    loss = (layout.weights(weights, log_ratio) * layout.lengths * terms).sum()
    per_token = layout.spread(per_sequence)
    return loss, measure(log_ratio, per_token, layout, (clip_low, clip_high), "sequence")


def gspo_token_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the GSPO-token loss: the sequence ratio in value, a gradient for each token.

    With one advantage per sequence, value and gradient are those of `gspo_loss`; this form also
    takes an advantage per token. Parameters, results, errors and warnings are those of
    `gspo_loss`, except

    Parameters
    ----------
    logprobs, old_logprobs, mask, weights, clip_low, clip_high, lengths
        As in `gspo_loss`.
    advantages : Tensor, shape (B,), (B, T) or (n_tokens,)
        Per sequence, or per token. In the flat layout, shape (B,) is read as per sequence.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`.

    Notes
    -----
    ``loss_it = -min(s_it A_it, clip(s_it) A_it)`` with ``s_it = sg[s_i] exp(l_it - sg[l_it])``,
    section 4.3 of [1]_. A correction for a sampler that differs from the old policy (truncated
    importance weights) multiplies the advantages.

    References
    ----------
    .. [1] C. Zheng et al. (2025). Group Sequence Policy Optimization. arXiv 2507.18071.

    Examples
    --------
    >>> old = torch.log(torch.tensor([0.5, 0.25, 0.1]))
    >>> per_token = torch.tensor([1.0, 0.0, -0.5])
    >>> gspo_token_loss(old, old, per_token, None, lengths=torch.tensor([2, 1]))[0]
    tensor(0.)
    """
    _check_clip(clip_low, clip_high, "sequence")
    layout = Layout.of(logprobs, mask, lengths)
    log_ratio = layout.log_ratio(logprobs, old_logprobs)
    per_token = layout.token_values(advantages, "advantages", log_ratio)
    # This order keeps the value exactly that of the sequence: the difference is 0 to the last bit,
    # also for a token that became impossible, whose log-ratio of -inf would be NaN here.
    token = log_ratio.clamp(min=torch.finfo(log_ratio.dtype).min)
    moving = (token - token.detach()) + layout.spread(layout.mean(log_ratio.detach()))
    terms = _clipped(bounded_exp(moving), per_token, clip_low, clip_high)
    loss = (layout.weights(weights, log_ratio) * layout.total(layout.select(terms))).sum()
    return loss, measure(log_ratio, per_token, layout, (clip_low, clip_high), "sequence")


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    delta: float | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the clipped loss over token ratios: GRPO, DAPO and Dr. GRPO by clip and weights.

    Parameters
    ----------
    logprobs, old_logprobs, mask, lengths
        As in `gspo_loss`.
    advantages : Tensor, shape (B,), (B, T) or (n_tokens,)
        Per sequence, or per token. In the flat layout, shape (B,) is read as per sequence.
    weights : Tensor, shape (B,), optional
        From `sequence_weights`: ``seq_mean`` (the default, over this batch) for GRPO,
        ``token_mean`` or ``prompt_mean`` for DAPO, ``constant`` for Dr. GRPO.
    clip_low, clip_high : float
        The ratio is clipped to ``1 - clip_low`` .. ``1 + clip_high``; DAPO has 0.2 and 0.28.
    dual_clip, delta : float, optional
        An upper bound of the unclipped ratio, above ``1 + clip_high``, which ends the push against
        a token of negative advantage whose ratio has grown beyond it. The two names, of the dual
        clip and of the two-sided clip, mean the same bound: give one.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`; the clip shares are of tokens.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if both `dual_clip` and `delta` are given, or the one that is does
        not lie above ``1 + clip_high``.

    Notes
    -----
    ``loss_it = -min(r_it A_it, clip(r_it) A_it)`` with ``r_it = exp(l_it - o_it)`` [1]_. A
    correction for a sampler that differs from the old policy (truncated importance weights,
    sequence masking) multiplies the advantages.

    References
    ----------
    .. [1] Z. Shao et al. (2024). DeepSeekMath. arXiv 2402.03300.
    .. [2] Q. Yu et al. (2025). DAPO. arXiv 2503.14476.
    .. [3] D. Ye et al. (2020). Mastering complex control in MOBA games. arXiv 1912.09729.

    Examples
    --------
    >>> old = torch.log(torch.tensor([0.5, 0.25, 0.1]))
    >>> new = torch.log(torch.tensor([0.5, 0.50, 0.1]))
    >>> loss, metrics = grpo_loss(
    ...     new, old, torch.tensor([1.0, 0.0]), None, lengths=torch.tensor([2, 1])
    ... )
    >>> loss, metrics["clip/token_high"]
    (tensor(-0.5500), tensor(0.3333))
    """
    _check_clip(clip_low, clip_high, "token")
    cap = _cap(dual_clip, delta, clip_high)
    layout = Layout.of(logprobs, mask, lengths)
    log_ratio = layout.log_ratio(logprobs, old_logprobs)
    per_token = layout.token_values(advantages, "advantages", log_ratio)
    terms = _clipped(bounded_exp(log_ratio), per_token, clip_low, clip_high, cap=cap)
    loss = (layout.weights(weights, log_ratio) * layout.total(layout.select(terms))).sum()
    return loss, measure(log_ratio, per_token, layout, (clip_low, clip_high), "token")


def _clipped(
    ratio: Tensor, advantages: Tensor, low: float, high: float, cap: float | None = None
) -> Tensor:
    """Return the pessimistic one of the free and the clipped loss; `cap` bounds the free one."""
    free = ratio if cap is None else ratio.clamp(max=cap)
    return torch.maximum(-free * advantages, -ratio.clamp(1 - low, 1 + high) * advantages)


def _check_clip(low: float, high: float, level: Level) -> None:
    if not (low >= 0 and high >= 0):
        raise ValueError(f"clip_low={low} and clip_high={high} should be at least 0")
    if level == "sequence" and max(low, high) > WIDE_SEQUENCE_CLIP:
        warnings.warn(
            f"clip_low={low}, clip_high={high} hardly ever clip a sequence ratio, which is a "
            "geometric mean over tokens; the GSPO paper has 3e-4 and 4e-4",
            stacklevel=3,
        )


def _cap(dual_clip: float | None, delta: float | None, clip_high: float) -> float | None:
    if dual_clip is not None and delta is not None:
        raise ValueError(f"dual_clip={dual_clip} and delta={delta} are the same bound; give one")
    cap = delta if dual_clip is None else dual_clip
    if cap is not None and not cap > 1 + clip_high:
        raise ValueError(
            f"{'delta' if dual_clip is None else 'dual_clip'}={cap} should be above "
            f"1 + clip_high = {1 + clip_high}"
        )
    return cap
