"""What the groups of a step say: ties, pass rates, and whether the policy ranks as rewards do."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.groups import Groups
from gspo_rs.groups.overview import right_from, ties_of
from gspo_rs.groups.rows import rows
from gspo_rs.groups.statistics import best_of_n, informative, pass_at_k, rank, top_fraction

Floats = NDArray[np.float64]


def tie_metrics(rewards: Floats, groups: Groups) -> dict[str, float]:
    """Tell how many rewards of a group are equal, and which groups have nothing to learn or all.

    Parameters
    ----------
    rewards : ndarray of float64, shape (n,)
        One a rollout; NaN where it could not be scored.
    groups : Groups
        Of the ``n`` rollouts.

    Returns
    -------
    dict of str to float
        ``group/tie_frac``, the share of pairs of one group whose rewards are equal, NaN without a
        pair; ``group/distinct``, the mean number of different rewards of a group;
        ``group/all_best`` and ``group/all_worst``, the shares of groups all of whose rewards are
        the best and the worst there is: 1 and 0 where all rewards are 0 or 1, else the highest and
        the lowest of the step, and left out where those are one. Nothing without a reward.

    Examples
    --------
    >>> groups = Groups(["a", "a", "b", "b", "c", "c"])
    >>> found = tie_metrics(np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]), groups)
    >>> found["group/tie_frac"], found["group/distinct"], found["group/all_best"]
    (0.6666666666666666, 1.3333333333333333, 0.6666666666666666)
    """
    scored = rewards[~np.isnan(rewards)]
    if not len(scored):
        return {}
    codes = groups.codes
    (levels,) = rows(rewards, groups, [("rank", {"method": "dense"})])
    distinct = np.zeros(groups.n_groups)
    np.maximum.at(distinct, codes, np.nan_to_num(levels))
    found = {
        "group/tie_frac": ties_of(rewards, groups).share,
        "group/distinct": float(distinct[distinct > 0].mean()),
    }
    ends = scored.min(), scored.max()
    worst, best = ends if right_from(scored, None) is None else (0.0, 1.0)
    if worst < best:
        for name, end in (("group/all_best", best), ("group/all_worst", worst)):
            there = np.unique(codes[(distinct[codes] == 1) & (rewards == end)])
            found[name] = len(there) / groups.n_groups
    return found


def draw_metrics(rewards: Floats, groups: Groups) -> dict[str, float]:
    """Estimate what the best of some draws from each group would bring.

    Parameters
    ----------
    rewards, groups
        As in `tie_metrics`.

    Returns
    -------
    dict of str to float
        For k = 1, 2, 4, ... up to the size of the largest group ``bestofn/<k>``, the expected
        highest reward of k completions, and where all rewards are 0 or 1 ``passk/<k>``, the chance
        that one of k is right: unbiased, the means over the groups with k rewards at least; NaN
        where there is none.

    Examples
    --------
    >>> draw_metrics(np.array([1.0, 0.0, 0.0, 0.0]), Groups(["a", "a", "b", "b"]))
    {'bestofn/1': 0.25, 'passk/1': 0.25, 'bestofn/2': 0.5, 'passk/2': 0.5}
    """
    threshold = right_from(rewards, None)
    found, k = {}, 1
    while k <= groups.sizes.max(initial=0):
        found[f"bestofn/{k}"] = mean_of_known(best_of_n(rewards, groups, k))
        if threshold is not None:
            found[f"passk/{k}"] = mean_of_known(pass_at_k(rewards, groups, k, threshold))
        k *= 2
    return found


def order_metrics(
    rewards: Floats, ids: NDArray[np.int64], logprobs: Floats, log_ratios: Floats, *, q: float
) -> dict[str, float]:
    """Tell whether the policy finds likelier, and makes likelier, what the rewards rank high.

    Parameters
    ----------
    rewards : ndarray of float64, shape (m,)
        Of the sequences that went through the model; none is NaN.
    ids : ndarray of int64, shape (m,)
        Their groups.
    logprobs, log_ratios : ndarray of float64, shape (m,)
        Means over the tokens of each sequence, in nats.
    q : float
        The fraction of a group that counts as its top, in (0, 1].

    Returns
    -------
    dict of str to float
        ``rank/spearman_logp``, the rank correlation of rewards and `logprobs` in a group, tied
        values sharing their mean rank, averaged over the groups that have one;
        ``percentile/top_q_prob_shift``, the mean of `log_ratios` over the best fraction `q` of each
        group minus that over the rest, members tied at its edge counting in part on both sides.
        Both are of the groups whose rewards differ, NaN where there is none, and left out where a
        log-probability is not finite.

    Examples
    --------
    >>> rewards, ids = np.array([3.0, 2.0, 1.0]), np.array([7, 7, 7])
    >>> logprobs, log_ratios = np.array([-1.0, -3.0, -2.0]), np.array([0.25, 0.0, 0.0])
    >>> order_metrics(rewards, ids, logprobs, log_ratios, q=1 / 3)
    {'rank/spearman_logp': 0.5, 'percentile/top_q_prob_shift': 0.25}
    """
    if not (np.isfinite(logprobs).all() and np.isfinite(log_ratios).all()):
        return {}
    everything = Groups(ids)
    differ = informative(rewards, everything)[everything.codes]
    rewards, logprobs, log_ratios = rewards[differ], logprobs[differ], log_ratios[differ]
    groups = Groups(ids[differ])
    by_reward, by_logprob = _centred_ranks(rewards, groups), _centred_ranks(logprobs, groups)
    spread = _sums(by_reward**2, groups) * _sums(by_logprob**2, groups)
    products = _sums(by_reward * by_logprob, groups)
    top = top_fraction(rewards, groups, q)
    return {
        "rank/spearman_logp": mean_of_known(
            np.divide(products, np.sqrt(spread), out=np.full_like(spread, np.nan), where=spread > 0)
        ),
        "percentile/top_q_prob_shift": _weighted(log_ratios, top) - _weighted(log_ratios, 1 - top),
    }


def _centred_ranks(values: Floats, groups: Groups) -> Floats:
    return rank(values, groups) - (groups.sizes[groups.codes] + 1) / 2


def _sums(values: Floats, groups: Groups) -> Floats:
    return np.bincount(groups.codes, values, minlength=groups.n_groups).astype(np.float64)


def _weighted(values: Floats, weights: Floats) -> float:
    total = weights.sum()
    return float((values * weights).sum() / total) if total > 0 else np.nan


def mean_of_known(values: NDArray[Any]) -> float:
    """Average the values that are not NaN; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
