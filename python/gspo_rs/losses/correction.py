"""Correction for a sampler that is not quite the policy it stands for, and how far off it is.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one;
``o`` and ``u`` are the log-probabilities of a token under the old policy, computed by the training
engine, and as the sampler had it.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from gspo_rs.groups.synonyms import listed
from gspo_rs.losses.layout import LOG_RATIO_BOUND, Layout, bounded_exp

__all__ = ["Correction", "mismatch_metrics", "off_policy_mask", "sampler_correction"]

Correction = Literal[
    "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "seq_mask"
]
BOUNDS: dict[str, tuple[float, float]] = {
    "token_truncate": (0.0, 2.0),
    "token_mask": (0.5, 5.0),
    "sequence_truncate": (0.0, 3.0),
    "sequence_mask": (0.0, 3.0),
    "seq_mask": (0.99, 1.01),
}
"""The bounds of each mode where none are given."""


@torch.no_grad()
def sampler_correction(
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    mask: Tensor | None,
    *,
    mode: Correction = "seq_mask",
    low: float | None = None,
    high: float | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the factors that correct advantages for a sampler that differs from the old policy.

    Parameters
    ----------
    old_logprobs, sampler_logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens by the training engine and by the sampler, in
        nats. NaN in the sampler's means unknown: that token has ratio 1.
    mask, lengths
        The layout, as in `gspo_loss`.
    mode : str
        See Notes.
    low, high : float, optional
        Bounds of the ratio; by default 0 and 2 for ``token_truncate``, 0.5 and 5 for
        ``token_mask``, 0 and 3 for ``sequence_truncate`` and ``sequence_mask``, 0.99 and 1.01 for
        ``seq_mask``.

    Returns
    -------
    weights : Tensor, shape (B,) or that of the log-probabilities
        Per sequence, or per token for the two ``token_`` modes; to be multiplied with the
        advantages. 0 for a sequence without tokens and outside the mask.
    metrics : dict of str to Tensor
        Those of `mismatch_metrics`; ``ess/seq`` or ``ess/token``, the effective share of the
        sample under these weights, in (0, 1]; ``mismatch/kept_frac``, the share not weighed 0.

    Raises
    ------
    ValueError
        If `mode` is unknown, the bounds do not satisfy ``0 <= low <= high``, or shapes do not fit.

    Notes
    -----
    With ``x = o - u``, truncation takes ``clamp(ratio, low, high)`` and masking the ratio where
    it is inside the bounds, else 0:

    - ``token_truncate``, ``token_mask``: ``ratio = e^x`` of each token [1]_;
    - ``sequence_truncate``, ``sequence_mask``: ``ratio = e^(sum_t x)``, the whole product;
    - ``seq_mask``: 1 where ``e^(mean_t x)`` is inside, else 0, the companion of GSPO's ratio.
      Times the weights of ``token_truncate`` it is what others call sequence-masked importance
      sampling.

    Masked sequences keep their place in the reduction's denominator.

    References
    ----------
    .. [1] F. Yao et al. (2025). Your efficient RL framework secretly brings you off-policy RL
       training. fengyao.notion.site/off-policy-rl.

    Examples
    --------
    >>> old = torch.tensor([-1.0, -2.0, -1.0])
    >>> sampler = torch.tensor([-1.0, -2.0, -1.5])
    >>> lengths = torch.tensor([2, 1])
    >>> sampler_correction(old, sampler, None, lengths=lengths)[0]
    tensor([1., 0.])
    >>> sampler_correction(old, sampler, None, mode="token_truncate", lengths=lengths)[0]
    tensor([1.0000, 1.0000, 1.6487])
    """
    if mode not in get_args(Correction):
        raise ValueError(f"mode is {mode!r}; one of {listed(mode, get_args(Correction))}")
    low, high = (b if x is None else x for x, b in zip((low, high), BOUNDS[mode], strict=True))
    if not 0 <= low <= high:
        raise ValueError(f"low={low}, high={high}: should be 0 <= low <= high")
    layout, log_ratio = _mismatch(old_logprobs, sampler_logprobs, mask, lengths)
    by_token = mode.startswith("token")
    ratio = bounded_exp(
        log_ratio
        if by_token
        else layout.mean(log_ratio)
        if mode == "seq_mask"
        else layout.total(log_ratio)
    )
    inside = (ratio >= low) & (ratio <= high)
    if mode.endswith("truncate"):
        weights = ratio.clamp(low, high)
    else:
        weights = torch.where(inside, torch.ones_like(ratio) if mode == "seq_mask" else ratio, 0.0)
    live = layout.select(torch.ones_like(ratio)) if by_token else (layout.lengths > 0).to(ratio)
    weights = weights * live
    metrics = _mismatch_metrics(layout, log_ratio)
    metrics["ess/token" if by_token else "ess/seq"] = _effective_share(weights, live)
    metrics["mismatch/kept_frac"] = (weights > 0).sum() / live.sum()
    return weights, metrics


@torch.no_grad()
def off_policy_mask(
    logprobs: Tensor,
    sampler_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    *,
    delta: float,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return 0 for sequences with negative advantage that are far off policy, else 1.

    Parameters
    ----------
    logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens under the current policy, in nats.
    sampler_logprobs : Tensor, same shape
        Those of the sampler, or of the old policy. NaN means unknown and counts as equal.
    advantages : Tensor, shape (B,)
        One per sequence.
    mask, lengths
        The layout, as in `gspo_loss`.
    delta : float
        How much less likely a token may have become in the mean, in nats; above 0.

    Returns
    -------
    weights : Tensor, shape (B,)
        To be multiplied with the advantages.
    metrics : dict of str to Tensor
        ``mismatch/opsm_frac``: the share of sequences that are dropped.

    Raises
    ------
    ValueError
        If `delta` is not above 0, or shapes do not fit.

    Notes
    -----
    Sequence i is dropped where ``A_i < 0`` and ``mean_t (u_it - l_it) > delta``, the off-policy
    sequence mask of [1]_.

    References
    ----------
    .. [1] DeepSeek-AI (2025). DeepSeek-V3.2. arXiv 2512.02556.

    Examples
    --------
    >>> new, sampler = torch.tensor([-3.0, -3.0]), torch.tensor([-1.0, -1.0])
    >>> advantages, lengths = torch.tensor([-1.0, 1.0]), torch.tensor([1, 1])
    >>> off_policy_mask(new, sampler, advantages, None, delta=0.5, lengths=lengths)[0]
    tensor([0., 1.])
    """
    if not delta > 0:
        raise ValueError(f"delta={delta} should be above 0")
    layout, log_ratio = _mismatch(logprobs, sampler_logprobs, mask, lengths)
    per_sequence = layout.sequence_values(advantages, "advantages", log_ratio)
    dropped = (per_sequence < 0) & (layout.mean(-log_ratio) > delta)
    weights = (~dropped).to(log_ratio.dtype)
    return weights, {"mismatch/opsm_frac": dropped.sum() / (layout.lengths > 0).sum()}


@torch.no_grad()
def mismatch_metrics(
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    mask: Tensor | None,
    *,
    lengths: Tensor | None = None,
) -> dict[str, Tensor]:
    """Measure how far the sampler is from the old policy.

    Parameters
    ----------
    old_logprobs, sampler_logprobs, mask, lengths
        As in `sampler_correction`.

    Returns
    -------
    dict of str to Tensor
        Detached scalars, NaN where there is no token. With ``x = o - u``: ``mismatch/k1``, ``k3``
        and ``abs``, the token means of ``-x``, ``e^x - x - 1`` and ``|x|``, in nats;
        ``mismatch/max``, the largest ``|x|``; ``mismatch/ppl_ratio``, the mean over sequences of
        ``e^(-mean_t x)``; ``mismatch/chi2_token`` and ``chi2_seq``, ``E[ratio^2] - 1`` of the
        token ratio and of the product over a sequence.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> old, sampler = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0])
    >>> mismatch_metrics(old, sampler, None, lengths=torch.tensor([2]))["mismatch/abs"]
    tensor(0.5000)
    """
    return _mismatch_metrics(*_mismatch(old_logprobs, sampler_logprobs, mask, lengths))


def _mismatch(
    old_logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor | None, lengths: Tensor | None
) -> tuple[Layout, Tensor]:
    """Return the layout and ``o - u``, 0 where the sampler's is unknown."""
    layout = Layout.of(old_logprobs, mask, lengths)
    log_ratio = layout.log_ratio(old_logprobs.detach(), sampler_logprobs)
    unknown = layout.log_ratio(sampler_logprobs.detach(), sampler_logprobs).isnan()
    bounded = torch.where(unknown, 0.0, log_ratio).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return layout, bounded


def _mismatch_metrics(layout: Layout, log_ratio: Tensor) -> dict[str, Tensor]:
    n_tokens, n_sequences = layout.lengths.sum(), (layout.lengths > 0).sum()
    live = (layout.lengths > 0).to(log_ratio.dtype)
    ratio, product = log_ratio.exp(), bounded_exp(layout.total(log_ratio))
    largest = log_ratio.abs().amax() if log_ratio.numel() else log_ratio.new_zeros(())
    return {
        "mismatch/k1": -log_ratio.sum() / n_tokens,
        "mismatch/k3": (log_ratio.expm1() - log_ratio).sum() / n_tokens,
        "mismatch/abs": log_ratio.abs().sum() / n_tokens,
        "mismatch/max": largest.where(n_tokens > 0, torch.nan),
        "mismatch/ppl_ratio": (live * (-layout.mean(log_ratio)).exp()).sum() / n_sequences,
        "mismatch/chi2_token": layout.select(ratio.square() - 1).sum() / n_tokens,
        "mismatch/chi2_seq": (live * (product.square() - 1)).sum() / n_sequences,
    }


def _effective_share(weights: Tensor, live: Tensor) -> Tensor:
    """Return ``(sum w)^2 / (n sum w^2)``; 0 where every weight is 0."""
    squares = weights.square().sum()
    share = weights.sum().square() / (live.sum() * squares.clamp(min=1e-30))
    return share.where(live.sum() > 0, torch.nan)
