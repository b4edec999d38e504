"""Listwise losses of whole groups: they train the order of the members, ties included.

Letters: ``B`` sequences, ``P`` groups of at least two scored members, ``N`` the largest of them;
``h`` is the score of a sequence under the policy, for instance from `sequence_scores`.

They are sums over groups divided by their number, so a micro-batch must hold whole groups. Where
it cannot, take the gradient in the scores first (see docs/reference/losses.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from gspo_rs.groups.statistics import top_fraction
from gspo_rs.losses.group_operation import one_operation
from gspo_rs.losses.group_order import Order
from gspo_rs.losses.layout import to_device

STEP, NODES = 0.25, 169
"""Trapezoids of this width from -38 on, in ``log(-log u)``, hold the integral to 1e-13."""


@one_operation
def plackett_luce_loss(
    scores: Tensor, rewards: Any, groups: Any, *, n_groups: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the negative log-likelihood of the groups' orders by reward, exact under ties.

    Parameters
    ----------
    scores : Tensor, shape (B,)
        ``h``, in nats; any float dtype.
    rewards : Tensor or array_like of float, shape (B,)
        NaN where a sequence could not be scored: it is left out. Equal rewards are a tie.
    groups : Tensor, Groups or ids of B rows
        Which sequences are compared.
    n_groups : int, optional
        Groups of the whole optimizer step, which the sum is divided by; by default those of this
        batch with at least two scored members.

    Returns
    -------
    loss : Tensor, scalar
        In nats; float32, or float64 if `scores` is. Computed in float64.
    metrics : dict of str to Tensor
        ``pairs/accuracy`` and ``pairs/margin``: over all pairs of unlike reward, the share whose
        better one has the higher score (an equal one counting half), and the mean difference.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a reward is infinite.

    Notes
    -----
    With ``B_1 > ... > B_m`` the levels of equal reward and ``a_i = e^{h_i}`` over the sum of
    ``e^{h_j}`` of all lower levels, the loss of a group is
    ``-sum_{k<m} log int_0^1 prod_{i in B_k} (1 - u^{a_i}) du``: the probability that every
    member of a level is drawn before all lower ones, in whichever order [1]_. Without ties this
    is the Plackett-Luce likelihood, with two members the loss of DPO, and a group of equals has
    loss and gradient 0.

    References
    ----------
    .. [1] D. M. DeLong, G. H. Guirguis, Y. C. So (1994). Efficient computation of subset selection
       probabilities with application to Cox regression. Biometrika 81 (3), 607-611.

    Examples
    --------
    >>> scores = torch.tensor([0.0, 0.0, 0.0])
    >>> plackett_luce_loss(scores, [1.0, 0.5, 0.5], ["a", "a", "a"])[0]  # log 3
    tensor(1.0986)
    """
    order = Order.of(scores, rewards, groups)
    h = order.rows(scores.double())  # (P, N), rewards rising
    below = pad(h.logcumsumexp(dim=1), (1, 0))  # one column before the first
    log_a = h - below.gather(1, order.start)
    log_a = log_a.flatten().index_select(0, order.above)  # members with a level below
    nodes = STEP * torch.arange(NODES, dtype=h.dtype, device=h.device) - 38.0
    log_miss = _log_not_exp(log_a.unsqueeze(1) + nodes)  # (members, nodes)
    per_level = log_miss.new_zeros(order.n_levels, NODES).index_add(0, order.level, log_miss)
    log_integral = (per_level + nodes - nodes.exp() + np.log(STEP)).logsumexp(dim=1)
    return order.finish(-log_integral.sum(), scores, n_groups)


def _log_not_exp(z: Tensor) -> Tensor:
    """Return ``log(1 - exp(-e^z))`` with its digits where ``e^z`` is small or large."""
    small = z.clamp(max=-15.0)
    moderate = z.clamp(-15.0, 20.0)
    return torch.where(z < -15.0, small - small.exp() / 2, torch.log(-torch.expm1(-moderate.exp())))


@one_operation
def pairwise_loss(
    scores: Tensor,
    rewards: Any,
    groups: Any,
    *,
    label_smoothing: float = 0.0,
    n_groups: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logistic loss of all pairs of unlike reward within the groups.

    Parameters
    ----------
    scores, rewards, groups, n_groups
        As in `plackett_luce_loss`.
    label_smoothing : float
        Probability, below 1/2, that the rewards order a pair wrongly.

    Returns
    -------
    loss, metrics
        As in `plackett_luce_loss`.

    Raises
    ------
    ValueError
        As in `plackett_luce_loss`; also if `label_smoothing` is not in [0, 0.5).

    Notes
    -----
    ``-1/C(N, 2) sum_{R_i > R_j} log sigmoid(h_i - h_j)`` for a group. At equal scores its
    gradient is the percentile advantage: ``-dL/dh_i = (2 p_i - 1) / N``. With two members it is
    the loss of DPO.

    Examples
    --------
    >>> pairwise_loss(torch.tensor([0.0, 0.0, 0.0]), [2.0, 1.0, 0.0], [0, 0, 0])[0]  # log 2
    tensor(0.6931)
    """
    _check_smoothing(label_smoothing)
    order = Order.of(scores, rewards, groups)
    margin = order.margins(scores.double())  # (P, N, N), of row over column
    per_group = torch.where(order.beats, _logistic(margin, label_smoothing), 0.0).sum(dim=(1, 2))
    return order.finish((per_group / order.n_pairs).sum(), scores, n_groups)


@one_operation
def top_fraction_loss(
    scores: Tensor, rewards: Any, groups: Any, *, q: float = 0.2, n_groups: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cross entropy from the best fraction of each group to the softmax of its scores.

    Parameters
    ----------
    scores, rewards, groups, n_groups
        As in `plackett_luce_loss`.
    q : float
        The fraction, in (0, 1]; members tied at its edge share what is left of it.

    Returns
    -------
    loss, metrics
        As in `plackett_luce_loss`.

    Raises
    ------
    ValueError
        As in `plackett_luce_loss`; also if `q` is not in (0, 1].

    Notes
    -----
    ``-sum_i T_i / (q N) log softmax(h)_i`` with ``T`` from `gspo_rs.top_fraction`, the forward
    form of listwise policy optimization [1]_. At equal scores its gradient is the top-fraction
    advantage: ``-dL/dh_i = (T_i - q) / (q N)``. With two members and q up to 1/2 it is the loss
    of DPO.

    References
    ----------
    .. [1] Y. Qu et al. (2026). Listwise policy optimization. arXiv 2605.06139.

    Examples
    --------
    >>> scores = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0])
    >>> top_fraction_loss(scores, [5.0, 1.0, 2.0, 3.0, 4.0], [0] * 5)[0]  # log 5
    tensor(1.6094)
    """
    order = Order.of(scores, rewards, groups)
    share = torch.from_numpy(top_fraction(order.rewards, order.groups, q))
    share = to_device(share, scores.device)
    target = order.rows(share) / (q * order.sizes.unsqueeze(1).double())  # (P, N)
    log_softmax = order.rows(scores.double(), fill=-torch.inf).log_softmax(dim=1)
    cross = torch.where(order.filled, target * log_softmax, 0.0)
    return order.finish(-cross.sum(), scores, n_groups)


@one_operation
def dpo_loss(
    scores: Tensor,
    rewards: Any,
    groups: Any,
    *,
    label_smoothing: float = 0.0,
    n_groups: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the DPO loss of the best member of each group against the worst.

    Parameters
    ----------
    scores, rewards, groups, label_smoothing, n_groups
        As in `pairwise_loss`; scores from `sequence_scores`. Of equal members the first counts.

    Returns
    -------
    loss, metrics
        As in `plackett_luce_loss`; a group of equals has loss 0.

    Raises
    ------
    ValueError
        As in `pairwise_loss`.

    Notes
    -----
    ``-(1 - e) log sigmoid(h_w - h_l) - e log sigmoid(h_l - h_w)`` with ``h = beta sum_t (l - f)``
    and e the label smoothing [1]_.

    References
    ----------
    .. [1] R. Rafailov et al. (2023). Direct preference optimization. arXiv 2305.18290.

    Examples
    --------
    >>> dpo_loss(torch.tensor([1.0, 0.0]), [1.0, 0.0], ["a", "a"])[0]
    tensor(0.3133)
    """
    _check_smoothing(label_smoothing)
    order = Order.of(scores, rewards, groups)
    margin = order.extremes(scores.double())
    return order.finish(_logistic(margin, label_smoothing).sum(), scores, n_groups)


@one_operation
def ipo_loss(
    scores: Tensor, rewards: Any, groups: Any, *, beta: float = 0.1, n_groups: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the IPO loss of the best member of each group against the worst.

    Parameters
    ----------
    scores, rewards, groups, n_groups
        As in `dpo_loss`; scores from `sequence_scores` with ``beta=1.0, average=True``.
    beta : float
        The margin aimed at is ``1 / (2 beta)``, in nats per token; above 0.

    Returns
    -------
    loss, metrics
        As in `dpo_loss`.

    Raises
    ------
    ValueError
        As in `plackett_luce_loss`; also if `beta` is not above 0.

    Notes
    -----
    ``(h_w - h_l - 1 / (2 beta))^2`` [1]_.

    References
    ----------
    .. [1] M. G. Azar et al. (2023). A general theoretical paradigm to understand learning from
       human preferences. arXiv 2310.12036.

    Examples
    --------
    >>> ipo_loss(torch.tensor([1.0, 0.0]), [1.0, 0.0], ["a", "a"], beta=0.25)[0]
    tensor(1.)
    """
    if not beta > 0:
        raise ValueError(f"beta={beta} should be above 0")
    order = Order.of(scores, rewards, groups)
    margin = order.extremes(scores.double())
    return order.finish((margin - 1 / (2 * beta)).square().sum(), scores, n_groups)


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing={label_smoothing} should be in [0, 0.5)")


def _logistic(margin: Tensor, label_smoothing: float) -> Tensor:
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
