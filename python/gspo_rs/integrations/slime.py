"""Functions that slime loads by path: advantages by group, and the filter of dynamic sampling.

    --custom-reward-post-process-path gspo_rs.integrations.slime.post_process_rewards
    --dynamic-sampling-filter-path gspo_rs.integrations.slime.has_signal

Nothing of slime is imported at the top: the samples are looked at, not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.statistics import informative

__all__ = ["has_signal", "keep_if_signal", "post_process_rewards"]


def post_process_rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Return the raw rewards and the advantages within their groups, for slime to train on.

    Parameters
    ----------
    args : Namespace
        slime's. Two attributes more, which the YAML file of ``--custom-config-path`` may set:
        ``gspo_estimator`` (``"percentile"`` by default) and ``gspo_estimator_options``.
    samples : sequence of Sample, or of lists of Samples, one list per group
        Samples in a flat sequence name their group by ``group_index``.

    Returns
    -------
    raw : list of float
        One per sample, in order, the groups' lists end to end.
    advantages : list of float
        The same, of `gspo_rs.advantage`.

    Raises
    ------
    ValueError
        If a sample of a flat sequence has no ``group_index`` (names the sample), or a reward is
        infinite.

    Notes
    -----
    slime's own function reshapes the rewards to ``n_samples_per_prompt`` columns if their number
    is the expected one, wherever the groups begin and end, and takes the whole batch for one
    group if it is not. With ragged groups both compare answers to different prompts.

    Several Samples of one rollout, which follow one another with the same ``rollout_id``, share
    its reward: the rollout counts once in its group, and each of its Samples gets its advantage.

    Examples
    --------
    >>> from types import SimpleNamespace as Sample
    >>> samples = [
    ...     Sample(group_index=g, get_reward_value=lambda args, r=r: r)
    ...     for g, r in [(0, 1.0), (1, 0.0), (0, 0.0)]
    ... ]
    >>> post_process_rewards(Sample(gspo_estimator="mean"), samples)
    ([1.0, 0.0, 0.0], [0.5, 0.0, -0.5])
    """
    rollouts = _rollouts(samples)
    groups = [group for group, _ in rollouts]
    rewards = [_reward(args, members[0]) for _, members in rollouts]
    estimator = getattr(args, "gspo_estimator", "percentile")
    options = getattr(args, "gspo_estimator_options", None) or {}
    found = advantage(rewards, groups, estimator, **options).tolist()
    counts = [len(members) for _, members in rollouts]
    return _repeated(rewards, counts), _repeated(found, counts)


def keep_if_signal(args: Any, samples: Sequence[Any]) -> bool:
    """Whether the rewards of a group differ: ``max > min``, without a tolerance.

    Parameters
    ----------
    args : Namespace
        slime's.
    samples : sequence of Sample, or of lists of Samples
        One group; a list is the Samples of one rollout.

    Returns
    -------
    bool
    """
    members = [sample[0] if isinstance(sample, list) else sample for sample in samples]
    rewards = [_reward(args, sample) for sample in members]
    return bool(informative(rewards, np.zeros(len(rewards), dtype=np.int64))[0])


def has_signal(args: Any, samples: Sequence[Any], **_: Any) -> Any:
    """Tell slime's dynamic sampling to keep a group whose rewards differ.

    Parameters
    ----------
    args, samples
        As `keep_if_signal`.

    Returns
    -------
    DynamicFilterOutput
        slime's own, so that it can count what was dropped and why.
    """
    from slime.rollout.filter_hub.base_types import (
        DynamicFilterOutput,
    )

    keep = keep_if_signal(args, samples)
    return DynamicFilterOutput(keep=keep, reason=None if keep else "no_signal")


def _rollouts(samples: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Return the group and the Samples of each rollout."""
    found: list[tuple[Any, list[Any]]] = []
    for group, sample in _grouped(samples):
        rollout = getattr(sample, "rollout_id", None)
        last_group, last = found[-1] if found else (None, [None])
        if rollout is not None and (group, rollout) == (
            last_group,
            getattr(last[0], "rollout_id", None),
        ):
            last.append(sample)
        else:
            found.append((group, [sample]))
    return found


def _grouped(samples: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    for place, sample in enumerate(samples):
        if isinstance(sample, list):
            yield from ((place, member) for member in sample)
        elif getattr(sample, "group_index", None) is None:
            raise ValueError(
                f"the sample at index {place} has no group_index, so its group is not known; "
                "set it where the sample is made"
            )
        else:
            yield sample.group_index, sample


def _reward(args: Any, sample: Any) -> float:
    reward = sample.get_reward_value(args)
    return float("nan") if reward is None else float(reward)


def _repeated(values: Iterable[float], counts: Iterable[int]) -> list[float]:
    return [value for value, n in zip(values, counts, strict=True) for _ in range(n)]
