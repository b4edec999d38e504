"""Losses whose gradient is a weighted score: a detached weight times the log-probability.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one;
``l`` and ``o`` are the log-probabilities of a token under the current and the old policy, and
``sg`` stops the gradient. Their values contain ``l``, so they tell nothing from step to step.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gspo_rs.losses.layout import LOG_RATIO_BOUND, bounded_exp, compare
from gspo_rs.losses.metrics import clip_shares, measure


def reinforce_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    w_max: float | None = None,
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the REINFORCE loss: the log-probability times the advantage.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, weights, lengths, metrics
        As in `grpo_loss`. The weights of ``seq_sum`` (or ``constant``) make it unbiased. Without
        `w_max` the old log-probabilities only make the metrics.
    w_max : float, optional
        Weigh each token by its importance ratio, at most this; by default all by 1.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`, without clip shares: nothing is clipped.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if `w_max` is not above 0.

    Notes
    -----
    ``loss_it = -sg[min(r_it, w_max)] A_it l_it`` [1]_, [2]_.

    References
    ----------
    .. [1] R. J. Williams (1992). Simple statistical gradient-following algorithms for
       connectionist reinforcement learning. Machine Learning 8, 229-256.
    .. [2] A. Ahmadian et al. (2024). Back to basics. arXiv 2402.14740.

    Examples
    --------
    >>> new, lengths = torch.tensor([-1.0, -2.0]), torch.tensor([2])
    >>> reinforce_loss(new, new, torch.tensor([0.5]), None, lengths=lengths)[0]
    tensor(0.7500)
    """
    if w_max is not None and not w_max > 0:
        raise ValueError(f"w_max={w_max} should be above 0")
    layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
    ratio = 1.0 if w_max is None else bounded_exp(log_ratio.detach()).clamp(max=w_max)
    loss = layout.weighted_sum(-ratio * per_token * layout.logprobs(logprobs), weights)
    return loss, measure(log_ratio, layout) if metrics else {}


def cispo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    w_min: float = 0.0,
    w_max: float = 5.0,
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the CISPO loss: the importance weight is clipped, no token loses its gradient.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, weights, lengths, metrics
        As in `grpo_loss`; the paper has the weights of ``token_mean``.
    w_min, w_max : float
        The weight's bounds. They are absolute, not distances from 1.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`; ``ratio/out_of_band``, the share of tokens whose weight a bound
        changes, in place of the clip shares.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if not ``0 <= w_min <= w_max`` and ``w_max > 0``.

    Notes
    -----
    ``loss_it = -sg[clip(r_it, w_min, w_max)] A_it l_it`` [1]_, [2]_.

    References
    ----------
    .. [1] MiniMax (2025). MiniMax-M1. arXiv 2506.13585.
    .. [2] D. Khatri et al. (2025). The art of scaling reinforcement learning compute for LLMs.
       arXiv 2510.13786.

    Examples
    --------
    >>> old, lengths = torch.tensor([-3.0, -1.0]), torch.tensor([2])
    >>> new = torch.tensor([-1.0, -1.0])
    >>> loss, metrics = cispo_loss(new, old, torch.tensor([1.0]), None, lengths=lengths)
    >>> loss, metrics["ratio/out_of_band"]
    (tensor(3.), tensor(0.5000))
    """
    if not (0 <= w_min <= w_max and w_max > 0):
        raise ValueError(f"w_min={w_min}, w_max={w_max}: should be 0 <= w_min <= w_max, w_max > 0")
    layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
    ratio = bounded_exp(log_ratio.detach())
    clipped = ratio.clamp(w_min, w_max)
    loss = layout.weighted_sum(-clipped * per_token * layout.logprobs(logprobs), weights)
    if not metrics:
        return loss, {}
    outside = layout.select((clipped != ratio).to(ratio.dtype))
    share = outside.sum() / layout.lengths.sum()
    return loss, measure(log_ratio, layout) | {"ratio/out_of_band": share}


def vespo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    k_pos: float = 2.0,
    lam_pos: float = 3.0,
    k_neg: float = 3.0,
    lam_neg: float = 2.0,
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the VESPO loss: a kernel of the whole sequence's ratio weighs its tokens.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, weights, lengths, metrics
        As in `grpo_loss`; the paper has the weights of ``token_mean``.
    k_pos, lam_pos, k_neg, lam_neg : float
        Shape of the kernel for tokens of advantage at least 0, and of the others; not negative.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`, without clip shares: nothing is clipped.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if a shape is negative.

    Notes
    -----
    ``loss_it = -sg[phi_i] A_it l_it`` with ``phi = W^k exp(lam (1 - W))``, which is 1 at ``W = 1``,
    and ``W_i = exp(sum_t (l_it - o_it))`` the product of the token ratios, not their mean, kept in
    1e-8 .. e^20 [1]_. The defaults are those of the authors' code.

    References
    ----------
    .. [1] G. Shen et al. (2026). VESPO: variational sequence-level soft policy optimization.
       arXiv 2602.10693.

    Examples
    --------
    >>> new, lengths = torch.tensor([-1.0, -2.0]), torch.tensor([2])
    >>> vespo_loss(new, new, torch.tensor([0.5]), None, lengths=lengths)[0]
    tensor(0.7500)
    """
    if min(k_pos, lam_pos, k_neg, lam_neg) < 0:
        raise ValueError(f"k {k_pos}, {k_neg} and lam {lam_pos}, {lam_neg} should be at least 0")
    layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
    bounded = log_ratio.detach().clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    log_w = layout.spread(layout.total(bounded).clamp(math.log(1e-8), LOG_RATIO_BOUND))
    lifted = per_token >= 0
    k = torch.full_like(per_token, k_neg).masked_fill(lifted, k_pos)
    lam = torch.full_like(per_token, lam_neg).masked_fill(lifted, lam_pos)
    phi = (k * log_w + lam * (1 - log_w.exp())).exp()
    loss = layout.weighted_sum(-phi * per_token * layout.logprobs(logprobs), weights)
    return loss, measure(log_ratio, layout) if metrics else {}


def dppo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    delta_low: float = 0.2,
    delta_high: float = 0.2,
    w_max: float = 20.0,
    divergence: Literal["tv", "kl"] = "tv",
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the DPPO loss: tokens whose probability has moved far enough lose their gradient.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, weights, lengths, metrics
        As in `grpo_loss`.
    delta_low, delta_high : float
        How far the probability of a token may have fallen (at a negative advantage) or risen (at
        a positive one) since it was sampled, measured by `divergence`.
    w_max : float
        Bound of the importance weight.
    divergence : {"tv", "kl"}
        Between "this token" and "any other" under the old and the current policy: total variation
        (the difference of probabilities), or KL(old, current) in nats.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`; the clip shares are of tokens.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if a bound is negative, `w_max` not above 0, or `divergence` is
        another.

    Notes
    -----
    ``loss_it = -sg[min(r_it, w_max)] A_it l_it``, 0 where ``D_it`` is above `delta_high` and
    ``l > o`` (``A > 0``), or above `delta_low` and ``l < o`` (``A <= 0``); with ``p = e^l`` and
    ``q = e^o``, ``D = |p - q|`` or ``q (o - l) + (1 - q) log((1 - q) / (1 - p))`` [1]_. A ratio
    holds back rare tokens too much and frequent ones too little; a divergence does not.

    References
    ----------
    .. [1] P. Qi et al. (2026). Rethinking the trust region in LLM reinforcement learning.
       arXiv 2602.04879.

    Examples
    --------
    >>> old, new = torch.log(torch.tensor([0.5, 0.1])), torch.log(torch.tensor([0.8, 0.2]))
    >>> lengths = torch.tensor([2])
    >>> dppo_loss(new, old, torch.tensor([1.0]), None, lengths=lengths)[1]["clip/token_high"]
    tensor(0.5000)
    """
    if not (delta_low >= 0 and delta_high >= 0 and w_max > 0):
        raise ValueError(
            f"delta_low={delta_low}, delta_high={delta_high} should be at least 0, w_max={w_max} "
            "above 0"
        )
    if divergence not in ("tv", "kl"):
        raise ValueError(f"unknown divergence {divergence!r}; choose 'tv' or 'kl'")
    layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
    ratio = bounded_exp(log_ratio.detach()).clamp(max=w_max)
    new, old = (layout.logprobs(x.detach()) for x in (logprobs, old_logprobs))
    moved = (new.exp() - old.exp()).abs() if divergence == "tv" else _binary_kl(old, new)
    high = (per_token > 0) & (new > old) & (moved > delta_high)
    low = (per_token <= 0) & (new < old) & (moved > delta_low)
    kept = torch.where(low | high, 0.0, ratio)
    loss = layout.weighted_sum(-kept * per_token * layout.logprobs(logprobs), weights)
    if not metrics:
        return loss, {}
    low = low & (per_token < 0)
    low, high = (layout.total(layout.select(x.to(ratio))) for x in (low, high))
    shares = clip_shares(low, high, layout, "token")
    return loss, measure(log_ratio, layout) | shares


def _binary_kl(old: Tensor, new: Tensor) -> Tensor:
    """KL(old, new) of a token against all others; large, not inf, where those have become 0."""
    others, now = (-torch.expm1(x) for x in (old, new))
    now = now.clamp(min=torch.finfo(now.dtype).tiny)
    return old.exp() * (old - new) + torch.xlogy(others, others.clamp(min=0) / now)
