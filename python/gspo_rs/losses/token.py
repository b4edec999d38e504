"""Losses with one importance ratio per token.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one;
``l`` and ``o`` are the log-probabilities of a token under the current and the old policy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gspo_rs.losses.band import Band
from gspo_rs.losses.clip import cap_of, check_clip, clipped_slopes
from gspo_rs.losses.layout import bounded_exp, compare, sloped
from gspo_rs.losses.metrics import measure


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
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the clipped loss over token ratios: GRPO, DAPO and Dr. GRPO by clip and weights.

    Parameters
    ----------
    logprobs, old_logprobs, mask, lengths, metrics
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
    check_clip(clip_low, clip_high, "token")
    cap = cap_of(dual_clip, delta, clip_high)
    with torch.no_grad():
        layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
        ratio, terms, slopes = clipped_slopes(log_ratio, per_token, clip_low, clip_high, cap)
        value = layout.weighted_sum(terms, weights)
        slopes = layout.spread(layout.weights(weights, terms)) * slopes
    loss = sloped(value, logprobs, slopes, layout)
    if not metrics:
        return loss, {}
    return loss, measure(log_ratio, layout, Band(clip_low, clip_high, ratio, per_token))


def sapo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    tau_pos: float = 1.0,
    tau_neg: float = 1.05,
    lengths: Tensor | None = None,
    metrics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the SAPO loss: a smooth gate on the token ratio in place of a clip.

    Parameters
    ----------
    logprobs, old_logprobs, advantages, mask, weights, lengths, metrics
        As in `grpo_loss`; the paper has the weights of ``seq_mean``.
    tau_pos, tau_neg : float
        Steepness of the gate for tokens of positive and of negative advantage, above 0.

    Returns
    -------
    loss, metrics
        As in `gspo_loss`, without clip shares: nothing is clipped.

    Raises
    ------
    ValueError
        As in `gspo_loss`; also if a steepness is not above 0.

    Notes
    -----
    ``loss_it = -(4 / tau) sigmoid(tau (r_it - 1)) A_it`` [1]_. Its slope in the ratio is 1 at
    ``r = 1`` and falls off on both sides; its value there is ``-2 A / tau``, so loss curves are
    not comparable with those of clipped losses.

    References
    ----------
    .. [1] C. Gao et al. (2025). Soft adaptive policy optimization. arXiv 2511.20347.

    Examples
    --------
    >>> old, lengths = torch.zeros(2), torch.tensor([1, 1])
    >>> sapo_loss(old, old, torch.tensor([1.0, -1.0]), None, lengths=lengths)[0]
    tensor(-0.0476)
    """
    if not (tau_pos > 0 and tau_neg > 0):
        raise ValueError(f"tau_pos={tau_pos} and tau_neg={tau_neg} should be above 0")
    layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
    tau = torch.full_like(per_token, tau_neg).masked_fill(per_token > 0, tau_pos)
    gate = 4 / tau * torch.sigmoid(tau * (bounded_exp(log_ratio) - 1))
    loss = layout.weighted_sum(-gate * per_token, weights)
    return loss, measure(log_ratio, layout) if metrics else {}
