"""The loss of quantile reward policy optimization: a regression, one target per sequence.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gspo_rs.losses.group_order import sequence_scores
from gspo_rs.losses.layout import Layout


def qrpo_loss(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    targets: Tensor,
    mask: Tensor | None,
    weights: Tensor | None = None,
    *,
    beta: float = 0.1,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the QRPO loss: the squared distance of each score from its target.

    Parameters
    ----------
    logprobs, ref_logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens under the policy and under the starting policy, in
        nats; any float dtype. No gradient flows into the second.
    targets : Tensor, shape (B,)
        ``quantiles - beta * log_partition`` of `gspo_rs.quantile_rewards`, with the same `beta`;
        unitless. NaN where a sequence could not be scored: it is left out.
    mask, weights, lengths
        As in `gspo_loss`.
    beta : float
        Factor of the log-ratio; above 0.

    Returns
    -------
    loss : Tensor, scalar
        Float32, or float64 if a log-probability is; computed in float64.
    metrics : dict of str to Tensor
        ``score/mean`` and ``score/error``: means over the sequences of the score and of its
        absolute distance from the target.

    Raises
    ------
    ValueError
        If shapes do not fit one another, or `beta` is not above 0.
    TypeError
        If `mask` is not bool or `lengths` not int64.

    Notes
    -----
    With the score ``h_i = beta sum_t (l_it - f_it)`` the loss is
    ``sum_i w_i L_i (q_i - beta log Z_i - h_i)^2`` [1]_, the mean over sequences with the default
    weights. It is 0 for the policy ``pi_ref exp(q / beta) / Z``, which maximises the expected
    quantile less ``beta`` times the KL divergence from the starting policy.

    References
    ----------
    .. [1] S. Matrenok, S. Moalla, C. Gulcehre (2025). Quantile reward policy optimization:
       alignment with pointwise regression and exact partition functions. arXiv 2507.08068.

    Examples
    --------
    >>> new, ref = torch.tensor([-1.0, -2.0, -1.0]), torch.tensor([-2.0, -2.0, -1.5])
    >>> lengths, targets = torch.tensor([2, 1]), torch.tensor([0.3, 0.05])
    >>> qrpo_loss(new, ref, targets, None, lengths=lengths)[0]  # ((0.3 - 0.1)^2 + 0) / 2
    tensor(0.0200)
    """
    if not beta > 0:
        raise ValueError(f"beta={beta} should be above 0")
    layout = Layout.of(logprobs, mask, lengths)
    scores = sequence_scores(logprobs, ref_logprobs, mask, beta=beta, lengths=lengths)
    wanted = layout.sequence_values(targets, "targets", scores)
    known = ~wanted.isnan() & (layout.lengths > 0)
    count = known.sum().clamp(min=1)
    # By selection: NaN of a target that is not there reaches no gradient.
    error = torch.where(known, wanted, 0.0) - torch.where(known, scores, 0.0)
    weighed = layout.weights(weights, scores) * layout.lengths
    share = known.to(scores.dtype) / count if weights is None else weighed
    loss = (share * error.square()).sum()
    with torch.no_grad():
        mean = torch.where(known, scores, 0.0).sum() / count
        metrics = {"score/mean": mean, "score/error": error.abs().sum() / count}
    return loss.to(torch.promote_types(logprobs.dtype, torch.float32)), metrics
