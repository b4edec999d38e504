"""Metrics of how far the policy has moved: ratios, clip fractions, divergences.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gspo_rs.losses.layout import LOG_RATIO_BOUND, Layout, bounded_exp, compare

__all__ = ["Level", "clip_shares", "entropy_metrics", "measure", "policy_metrics"]

Level = Literal["sequence", "token"]

UNMOVED = 1e-6
"""Mean log-ratios below this count as unmoved: there the clip band acts on rounding noise."""


def policy_metrics(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    clip_low: float,
    clip_high: float,
    level: Level = "sequence",
) -> dict[str, Tensor]:
    """Measure how far the policy is from the sampling policy, and how often ratios are clipped.

    The losses return these numbers for their own batch; for a whole optimizer step, call this
    with the log-probabilities of all its micro-batches together, since a maximum or a percentile
    cannot be averaged.

    Parameters
    ----------
    logprobs, old_logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens under the current and the old policy, in nats.
    advantages : Tensor, shape (B,), (B, T) or (n_tokens,)
        Their sign decides which side of the band clips.
    mask : Tensor of bool, shape (B, T), optional
        The padded layout; or
    lengths : Tensor of int64, shape (B,), optional
        the flat layout.
    clip_low, clip_high : float
        The band ``1 - clip_low`` to ``1 + clip_high`` of the ratio.
    level : {"sequence", "token"}
        Whether the band is put on the ratio of the sequence or of the token.

    Returns
    -------
    dict of str to Tensor
        Detached scalars in float32 (float64 for float64 input); NaN where there is no token.

        - ``ratio/{mean,min,max,p99}``: the token ratio r;
        - ``seq_ratio/{mean,min,max,p99}``: the sequence ratio s, the geometric mean of its r;
        - ``seq_ratio/unmoved_frac``: share of sequences with ``|log s| < 1e-6``;
        - ``log_w_seq``: mean over sequences of the summed log-ratio;
        - ``clip/token_low``, ``clip/token_high``, ``clip/token``: share of tokens whose gradient
          the lower or upper bound removes (at the sequence level: tokens of clipped sequences);
        - ``clip/seq_low``, ``clip/seq_high``, ``clip/seq`` (sequence level only): the same,
          averaged over sequences instead of tokens;
        - ``kl/old_k1``, ``kl/old_k2``, ``kl/old_k3``: token means of ``-d``, ``d^2 / 2`` and
          ``e^d - d - 1`` with d the log-ratio, in nats.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `level` is unknown.

    Examples
    --------
    >>> new, old = torch.tensor([-1.0, -2.0, -1.5]), torch.tensor([-1.0, -2.0, -1.0])
    >>> metrics = policy_metrics(
    ...     new,
    ...     old,
    ...     torch.tensor([1.0, -1.0]),
    ...     lengths=torch.tensor([2, 1]),
    ...     clip_low=3e-4,
    ...     clip_high=4e-4,
    ... )
    >>> metrics["clip/seq_low"], metrics["clip/seq_high"], metrics["seq_ratio/unmoved_frac"]
    (tensor(0.5000), tensor(0.), tensor(0.5000))
    """
    if level not in ("sequence", "token"):
        raise ValueError(f"level is {level!r}; one of 'sequence', 'token'")
    logprobs = logprobs.detach()
    layout, log_ratio, per_token = compare(logprobs, old_logprobs, advantages, mask, lengths)
    return measure(log_ratio, per_token, layout, (clip_low, clip_high), level)


@torch.no_grad()
def measure(
    log_ratio: Tensor,
    advantages: Tensor,
    layout: Layout,
    clip: tuple[float, float] | None = None,
    level: Level = "token",
) -> dict[str, Tensor]:
    """Compute the metrics of `policy_metrics` from checked values, token by token.

    Without a band there are no clip shares.
    """
    log_ratio = log_ratio.detach()
    n_tokens = layout.lengths.sum().to(log_ratio.dtype)
    seq_log_ratio = layout.mean(log_ratio)
    bounded = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    ratio = bounded.exp()
    seq_ratio = bounded_exp(seq_log_ratio)
    live = layout.lengths > 0
    n_sequences = live.sum().to(log_ratio.dtype)

    metrics = {}
    if clip is not None:
        bound = layout.spread(seq_ratio) if level == "sequence" else ratio
        low = (bound < 1 - clip[0]) & (advantages < 0)
        high = (bound > 1 + clip[1]) & (advantages > 0)
        metrics = clip_shares(low.to(ratio.dtype), high.to(ratio.dtype), layout, level)
    metrics |= _distribution("ratio", ratio, layout.mask, n_tokens)
    metrics |= _distribution("seq_ratio", seq_ratio, live, n_sequences)
    unmoved = (seq_log_ratio.abs() < UNMOVED) & live
    metrics["seq_ratio/unmoved_frac"] = unmoved.sum() / n_sequences
    metrics["log_w_seq"] = (seq_log_ratio * layout.lengths).sum() / n_sequences
    metrics["kl/old_k1"] = -log_ratio.sum() / n_tokens
    metrics["kl/old_k2"] = log_ratio.square().sum() / 2 / n_tokens
    metrics["kl/old_k3"] = (bounded.expm1() - bounded).sum() / n_tokens
    return metrics


@torch.no_grad()
def entropy_metrics(entropy: Tensor) -> dict[str, Tensor]:
    """Summarise the entropies of the tokens of a whole optimizer step, (n_tokens,), in nats.

    Returns
    -------
    dict of str to Tensor
        ``entropy``, their mean, and ``entropy/p20``, their 20th percentile, interpolated linearly:
        how sure the policy is where it is surer than at four tokens in five. NaN without tokens.

    Examples
    --------
    >>> entropy_metrics(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    {'entropy': tensor(2.5000), 'entropy/p20': tensor(1.)}
    """
    n = entropy.shape[0]
    if n == 0:
        return {name: entropy.new_full((), torch.nan) for name in ("entropy", "entropy/p20")}
    place = 0.2 * (n - 1)
    low = int(place)
    lowest = entropy.topk(min(low + 2, n), largest=False).values
    return {"entropy": entropy.mean(), "entropy/p20": lowest[low].lerp(lowest[-1], place - low)}


@torch.no_grad()
def clip_shares(low: Tensor, high: Tensor, layout: Layout, level: Level) -> dict[str, Tensor]:
    """Average what is 1 for tokens whose gradient the lower or the upper bound removes."""
    n_tokens, n_sequences = layout.lengths.sum(), (layout.lengths > 0).sum()
    metrics = {}
    for side, removed in (("low", low), ("high", high)):
        hit = layout.select(removed)
        metrics[f"clip/token_{side}"] = hit.sum() / n_tokens
        if level == "sequence":
            metrics[f"clip/seq_{side}"] = layout.mean(hit).sum() / n_sequences
    for what in ("token", "seq") if level == "sequence" else ("token",):
        metrics[f"clip/{what}"] = metrics[f"clip/{what}_low"] + metrics[f"clip/{what}_high"]
    return metrics


def _distribution(
    name: str, values: Tensor, live: Tensor | None, count: Tensor
) -> dict[str, Tensor]:
    """Summarise the live `values`; `count` of them, known only on the device."""
    if values.numel() == 0:
        nothing = values.new_full((), torch.nan)
        return {f"{name}/{what}": nothing for what in ("mean", "min", "max", "p99")}
    from_top = values if live is None else values.masked_fill(~live, -torch.inf)
    from_bottom = values if live is None else values.masked_fill(~live, torch.inf)
    total = values.sum() if live is None else values.masked_fill(~live, 0.0).sum()
    # The 99th percentile is among the largest 1 %, whose number is known without asking the GPU.
    top = from_top.flatten().topk(min(values.numel(), values.numel() // 100 + 2)).values
    place = (count - 1).clamp(min=0) * 0.01
    above = top.take(place.floor().long())
    below = top.take(place.ceil().long())
    p99 = above + (below - above) * (place - place.floor())
    extremes = {"min": from_bottom.amin(), "max": top.amax(), "p99": p99}
    summary = {f"{name}/{what}": x.where(count > 0, torch.nan) for what, x in extremes.items()}
    return {f"{name}/mean": total / count} | summary
