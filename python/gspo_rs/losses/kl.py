"""How far the policy has moved from a reference, as a penalty with the right gradient.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gspo_rs.groups.synonyms import listed
from gspo_rs.losses.band import Level
from gspo_rs.losses.layout import LOG_RATIO_BOUND, Layout, bounded_exp

__all__ = ["Estimator", "kl_penalty"]

Estimator = Literal["k2", "k3", "k3_is"]


def kl_penalty(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    estimator: Estimator = "k3_is",
    old_logprobs: Tensor | None = None,
    lengths: Tensor | None = None,
    level: Level = "token",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted KL penalty towards a reference; the caller multiplies it by beta.

    Parameters
    ----------
    logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens under the current policy, in nats.
    ref_logprobs : Tensor, same shape
        The same under the reference; no gradient flows into it.
    mask : Tensor of bool, shape (B, T), or None
        True where the policy sampled the token; None for the flat layout.
    weights : Tensor, shape (B,), optional
        Weight of each token of a sequence, from `sequence_weights`; by default those of
        ``seq_mean`` over this batch alone.
    estimator : {"k3_is", "k3", "k2"}
        See Notes.
    old_logprobs : Tensor, same shape as `logprobs`, optional
        Log-probabilities under the policy that sampled; ``k3_is`` needs them.
    lengths : Tensor of int64, shape (B,), optional
        The flat layout: tokens of each sequence, which follow one another.
    level : {"token", "sequence"}
        Whether ``k3_is`` corrects by the ratio of the token or of the sequence.

    Returns
    -------
    penalty : Tensor, scalar
        Float32, or float64 if a log-probability is; in nats times the weights.
    metrics : dict of str to Tensor
        Token means as detached scalars, NaN where there is no token: ``kl/ref_k1`` (can be
        negative), ``kl/ref_k2``, ``kl/ref_k3``, and ``kl/ref_k3_is`` for that estimator.

    Raises
    ------
    ValueError
        If `estimator` is ``k1`` or unknown, ``k3_is`` lacks `old_logprobs`, or shapes do not fit.

    Notes
    -----
    With ``x = ref - l``, clamped to 20 nats either way, and tokens drawn from the policy:

    - ``k2 = x^2 / 2`` has the gradient of KL(policy || reference), its value is biased;
    - ``k3 = e^x - x - 1`` is unbiased in value [1]_, with the gradient of KL(reference || policy);
    - ``k3_is = r k3`` with the ratio ``r = exp(l - old)`` kept differentiable is unbiased off
      policy too and has the gradient of KL(policy || reference) [2]_;
    - ``k1 = -x`` has an expected gradient of zero: as a loss it holds nothing back.

    References
    ----------
    .. [1] J. Schulman (2020). Approximating KL divergence. joschu.net/blog/kl-approx.html.
    .. [2] DeepSeek-AI (2025). DeepSeek-V3.2. arXiv 2512.02556.

    Examples
    --------
    >>> ref = torch.log(torch.tensor([0.5, 0.25]))
    >>> new = torch.log(torch.tensor([0.5, 0.50]))
    >>> penalty, metrics = kl_penalty(new, ref, None, estimator="k3", lengths=torch.tensor([2]))
    >>> penalty, metrics["kl/ref_k1"]
    (tensor(0.0966), tensor(0.3466))
    """
    _check(estimator, old_logprobs, level)
    layout = Layout.of(logprobs, mask, lengths)
    log_ratio = layout.log_ratio(logprobs, ref_logprobs).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    values = _estimate(-log_ratio, estimator)
    if old_logprobs is None or estimator != "k3_is":
        per_sequence = layout.total(values)
    elif level == "token":
        values = bounded_exp(layout.log_ratio(logprobs, old_logprobs)) * values
        per_sequence = layout.total(values)
    else:
        seq_ratio = bounded_exp(layout.mean(layout.log_ratio(logprobs, old_logprobs)))
        per_sequence = seq_ratio * layout.total(values)
    penalty = (layout.weights(weights, log_ratio) * per_sequence).sum()
    metrics = _measure(log_ratio.detach(), layout)
    if estimator == "k3_is":
        metrics["kl/ref_k3_is"] = per_sequence.detach().sum() / layout.lengths.sum()
    return penalty, metrics


def _check(estimator: str, old_logprobs: Tensor | None, level: str) -> None:
    if estimator == "k1":
        raise ValueError(
            "estimator 'k1' has an expected gradient of zero, so as a loss it holds nothing back; "
            "use 'k3_is', or 'k2', which has the gradient of the reverse KL"
        )
    if estimator not in ("k2", "k3", "k3_is"):
        known = listed(estimator, ("k3_is", "k3", "k2"))
        raise ValueError(f"unknown estimator {estimator!r}; one of {known}")
    if estimator == "k3_is" and old_logprobs is None:
        raise ValueError("estimator 'k3_is' needs old_logprobs, those of the policy that sampled")
    if level not in ("token", "sequence"):
        raise ValueError(f"level is {level!r}; one of 'token', 'sequence'")


def _estimate(x: Tensor, estimator: Estimator) -> Tensor:
    # expm1 keeps the digits that exp(x) - 1 would lose near 0, where a policy usually stands.
    return x.square() / 2 if estimator == "k2" else x.expm1() - x


@torch.no_grad()
def _measure(log_ratio: Tensor, layout: Layout) -> dict[str, Tensor]:
    n_tokens = layout.lengths.sum()
    return {
        "kl/ref_k1": log_ratio.sum() / n_tokens,
        "kl/ref_k2": _estimate(-log_ratio, "k2").sum() / n_tokens,
        "kl/ref_k3": _estimate(-log_ratio, "k3").sum() / n_tokens,
    }
