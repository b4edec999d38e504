"""Metrics of how far the policy has moved: ratios, clip fractions, divergences.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gspo_rs.losses.band import Band, Level
from gspo_rs.losses.core_metrics import core_metrics
from gspo_rs.losses.layout import LOG_RATIO_BOUND, Layout, bounded_exp, compare, readable

__all__ = [
    "clip_shares",
    "entropy_metrics",
    "largest",
    "measure",
    "policy_metrics",
    "torch_metrics",
]

UNMOVED = 1e-6
"""Mean log-ratios below this count as unmoved: there the clip band acts on rounding noise."""

OUT_OF_BOUND = 1e4
"""Farther than any bounded log-ratio, and finite: times 0 it is 0."""

STRANDS = 8
"""Values compared at a time before the largest are looked for."""


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
    moved = layout.mean(log_ratio) if level == "sequence" else log_ratio
    band = Band(clip_low, clip_high, bounded_exp(moved), per_token, level)
    return measure(log_ratio, layout, band)


@torch.no_grad()
def measure(log_ratio: Tensor, layout: Layout, band: Band | None = None) -> dict[str, Tensor]:
    """Compute the metrics of `policy_metrics` from checked values.

    Without a band there are no clip shares. The core measures what it can read, PyTorch the rest.
    """
    log_ratio = log_ratio.detach()
    return (core_metrics if readable(log_ratio) else torch_metrics)(log_ratio, layout, band)


def torch_metrics(log_ratio: Tensor, layout: Layout, band: Band | None) -> dict[str, Tensor]:
    """Compute the metrics of `policy_metrics` on any device, without waiting for it."""
    metrics = {} if band is None else _clip_shares_of(band, layout)
    lengths = layout.lengths.to(log_ratio.dtype)
    live = (layout.lengths > 0).to(log_ratio.dtype)
    n_tokens, n_sequences = lengths.sum(), live.sum()
    totals = layout.total(log_ratio)
    seq_log_ratio = totals / lengths.clamp(min=1)
    bounded = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    seq_bounded = seq_log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    # One pass of expm1, 0 outside the mask, serves the mean of the ratio and the divergence.
    grown, seq_grown = bounded.expm1(), seq_bounded.expm1()
    total = totals.sum()
    metrics["ratio/mean"] = 1 + grown.sum() / n_tokens
    metrics |= _extremes("ratio", bounded, layout.inside, n_tokens)
    metrics["seq_ratio/mean"] = 1 + seq_grown.sum() / n_sequences
    metrics |= _extremes("seq_ratio", seq_bounded, live, n_sequences)
    metrics["seq_ratio/unmoved_frac"] = live.dot((seq_log_ratio.abs() < UNMOVED).to(live))
    metrics["seq_ratio/unmoved_frac"] /= n_sequences
    metrics["log_w_seq"] = total / n_sequences
    metrics["kl/old_k1"] = -total / n_tokens
    metrics["kl/old_k2"] = log_ratio.flatten().dot(log_ratio.flatten()) / 2 / n_tokens
    metrics["kl/old_k3"] = grown.sub_(bounded).sum() / n_tokens
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
    """Average over tokens (and sequences) those that lost their gradient, (B,) in each sequence."""
    lengths, live = layout.lengths.clamp(min=1), (layout.lengths > 0).sum()
    n_tokens = layout.lengths.sum()
    metrics = {}
    for side, removed in (("low", low), ("high", high)):
        metrics[f"clip/token_{side}"] = removed.sum() / n_tokens
        if level == "sequence":
            metrics[f"clip/seq_{side}"] = (removed / lengths).sum() / live
    for what in ("token", "seq") if level == "sequence" else ("token",):
        metrics[f"clip/{what}"] = metrics[f"clip/{what}_low"] + metrics[f"clip/{what}_high"]
    return metrics


def _clip_shares_of(band: Band, layout: Layout) -> dict[str, Tensor]:
    ratio = band.ratio.detach()
    if band.level == "sequence" and not band.by_sequence:
        ratio = layout.spread(ratio)
    low = (ratio < 1 - band.low) & (band.advantages < 0)
    high = (ratio > 1 + band.high) & (band.advantages > 0)
    low, high = (x.to(ratio.dtype) for x in (low, high))
    if band.by_sequence:
        low, high = low * layout.lengths, high * layout.lengths
    else:
        low, high = (layout.total(layout.select(x)) for x in (low, high))
    return clip_shares(low, high, layout, band.level)


def _extremes(name: str, logs: Tensor, inside: Tensor | None, count: Tensor) -> dict[str, Tensor]:
    """Find least, largest and 99th percentile of ``exp(logs)``, of which `count` are inside."""
    if logs.numel() == 0:
        nothing = logs.new_full((), torch.nan)
        return {f"{name}/{what}": nothing for what in ("min", "max", "p99")}
    # Order is kept by exp: four exponentials instead of one a token. What is outside is moved out
    # of the bound, by a product, since a selection by bool takes five times as long.
    away = None if inside is None else inside - 1
    lowest = (logs if away is None else logs.sub(away, alpha=OUT_OF_BOUND)).amin()
    from_top = logs if away is None else logs.add(away, alpha=OUT_OF_BOUND)
    # The 99th percentile is among the largest 1 %, whose number is known without asking the GPU.
    top = largest(from_top.flatten(), logs.numel() // 100 + 2)
    place = (count - 1).clamp(min=0) * 0.01
    below = place.floor()
    places = torch.stack([torch.zeros_like(below), below, place.ceil()]).long()
    found = torch.cat([lowest.view(1), top.take(places)]).exp()
    # NaN is lowest too, and no percentile is known beside it.
    known = (count > 0) & ~lowest.isnan()
    least, most, above, under = found.where(known, torch.nan).unbind()
    p99 = above + (under - above) * (place - below)
    return {f"{name}/min": least, f"{name}/max": most, f"{name}/p99": p99}


def largest(values: Tensor, k: int) -> Tensor:
    """Return the `k` largest of `values`, (n,), falling; fewer where there are fewer."""
    n = values.shape[0]
    width = n // STRANDS
    if width < 2 * k or n < 4096:
        return values.topk(min(k, n)).values
    # The k largest lie in the k strands whose largest are largest: an eighth is searched twice.
    strands = values[: STRANDS * width].view(STRANDS, width)
    chosen = strands.amax(dim=0).topk(k, sorted=False).indices
    found = strands.index_select(1, chosen).flatten()
    return torch.cat([found, values[STRANDS * width :]]).topk(k).values
