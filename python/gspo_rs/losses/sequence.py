"""Losses with one importance ratio per sequence.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one;
``l`` and ``o`` are the log-probabilities of a token under the current and the old policy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gspo_rs.losses.band import Band
from gspo_rs.losses.clip import check_clip, clipped_slopes
from gspo_rs.losses.layout import LOG_RATIO_BOUND, Layout, bounded_exp, compare, sloped
from gspo_rs.losses.metrics import measure


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
    metrics: bool = True,
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
    metrics : bool
        Whether to measure; without, the dictionary is empty.

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
    check_clip(clip_low, clip_high, "sequence")
    layout = Layout.of(logprobs, mask, lengths)
    with torch.no_grad():
        log_ratio = layout.log_ratio(logprobs, old_logprobs)
        per_sequence = layout.sequence_values(advantages, "advantages", log_ratio)  # (B,)
        per_token = layout.weights(weights, log_ratio)  # (B,)
        ratio, terms, slopes = clipped_slopes(
            layout.mean(log_ratio), per_sequence, clip_low, clip_high
        )
        value = (per_token * layout.lengths * terms).sum()
    loss = sloped(value, logprobs, layout.spread(per_token * slopes), layout)
    if not metrics:
        return loss, {}
    band = Band(clip_low, clip_high, ratio, per_sequence, "sequence", by_sequence=True)
    return loss, measure(log_ratio, layout, band)


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
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the GSPO-token loss: the sequence ratio in value, a gradient for each token.

    With one advantage per sequence, value and gradient are those of `gspo_loss`; this form also
    takes an advantage per token. Parameters, results, errors and warnings are those of
    `gspo_loss`, except

    Parameters
    ----------
    logprobs, old_logprobs, mask, weights, clip_low, clip_high, lengths, metrics
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
    check_clip(clip_low, clip_high, "sequence")
    with torch.no_grad():
        layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
        mean = layout.mean(log_ratio)
        _, terms, slopes = clipped_slopes(layout.spread(mean), per_token, clip_low, clip_high)
        value = layout.weighted_sum(terms, weights)
        slopes = layout.spread(layout.weights(weights, terms)) * slopes
    loss = sloped(value, logprobs, slopes, layout)
    if not metrics:
        return loss, {}
    band = Band(clip_low, clip_high, bounded_exp(mean), per_token, "sequence")
    return loss, measure(log_ratio, layout, band)


def luspo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    clip_low: float = 2e-3,
    clip_high: float = 2.5e-3,
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the LUSPO loss: that of GSPO, each sequence counting as often as it has tokens.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, clip_low, clip_high, lengths, metrics
        As in `gspo_loss`.
    weights : Tensor, shape (B,), optional
        From `sequence_weights` with ``seq_sum``; by default those of this batch alone.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`.

    Notes
    -----
    ``-(1/B) sum_i L_i min(s_i A_i, clip(s_i) A_i)`` [1]_: a token of a long sequence pulls as
    much as one of a short one. It is `gspo_loss` with the weights and the clip of the paper.

    References
    ----------
    .. [1] F. Liu et al. (2026). Length-unbiased sequence policy optimization. arXiv 2602.05261.

    Examples
    --------
    >>> old, lengths = torch.zeros(3), torch.tensor([2, 1])
    >>> luspo_loss(old, old, torch.tensor([1.0, -0.5]), None, lengths=lengths)[0]
    tensor(-0.7500)
    """
    if weights is None:
        live = Layout.of(logprobs, mask, lengths).lengths > 0
        weights = live.double() / live.sum().clamp(min=1)
    return gspo_loss(
        logprobs,
        old_logprobs,
        advantages,
        mask,
        weights,
        clip_low=clip_low,
        clip_high=clip_high,
        lengths=lengths,
        metrics=metrics,
    )


def gmpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    clip: float = 0.4,
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the GMPO loss: the geometric mean of token ratios, each clipped by itself.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, weights, lengths, metrics
        As in `gspo_loss`.
    clip : float
        Bound of a token's log-ratio, in nats, on the side where it would help the loss.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`; the clip shares are of tokens.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if `clip` is negative.

    Notes
    -----
    ``-sum_i w_i L_i A_i exp(mean_t z_it)`` with ``z = min(d, clamp(d))`` for a positive
    advantage and ``max(d, clamp(d))`` for another, ``d = l - o``, clamped to plus or minus
    `clip` [1]_.

    References
    ----------
    .. [1] Y. Zhao et al. (2025). Geometric-mean policy optimization. arXiv 2507.20673.

    Examples
    --------
    >>> old, lengths = torch.zeros(2), torch.tensor([2])
    >>> new = torch.tensor([1.4, 0.0])
    >>> gmpo_loss(new, old, torch.tensor([1.0]), None, lengths=lengths)[0]
    tensor(-1.2214)
    """
    if not clip >= 0:
        raise ValueError(f"clip={clip} should be at least 0")
    layout = Layout.of(logprobs, mask, lengths)
    with torch.no_grad():
        log_ratio = layout.log_ratio(logprobs, old_logprobs)
        per_sequence = layout.sequence_values(advantages, "advantages", log_ratio)  # (B,)
        per_token = layout.spread(per_sequence)
        bound = log_ratio.clamp(-clip, clip)
        kept = torch.where(per_token > 0, log_ratio.minimum(bound), log_ratio.maximum(bound))
        mean, weight = layout.mean(kept), layout.weights(weights, log_ratio)
        terms = -bounded_exp(mean) * per_sequence
        value = (weight * layout.lengths * terms).sum()
        slopes = layout.spread(weight * terms * (mean.abs() <= LOG_RATIO_BOUND))
        slopes = slopes * (kept == log_ratio)
    loss = sloped(value, logprobs, slopes, layout)
    if not metrics:
        return loss, {}
    band = Band(-math.expm1(-clip), math.expm1(clip), bounded_exp(log_ratio), per_token)
    return loss, measure(log_ratio, layout, band)
