"""Rollouts as named arrays, to be kept in a file or sent to another process, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.rollouts.rollouts import Ragged, Rollouts

__all__ = ["arrays_of", "flat", "rollouts_of", "taken"]

_LISTS = (
    "prompt_tokens",
    "completion_tokens",
    "completion_mask",
    "sampler_logprobs",
    "old_logprobs",
    "reference_rewards",
    "policy_versions",
)


def arrays_of(rollouts: Rollouts) -> dict[str, NDArray[Any]]:
    """Return all of rollouts but the names of groups and rows.

    Parameters
    ----------
    rollouts : Rollouts
        Its texts or messages become the bytes of JSON.

    Returns
    -------
    dict of str to ndarray

    Examples
    --------
    >>> some = Rollouts(
    ...     offsets=np.array([0, 1]), prompts=["2+2="], completions=["4"], reward=np.array([1.0])
    ... )
    >>> sorted(arrays_of(some)), rollouts_of(arrays_of(some)).completions
    (['offsets', 'reward', 'texts'], ['4'])
    """
    texts = json.dumps([rollouts.prompts, rollouts.completions, rollouts.extra]).encode()
    found: dict[str, NDArray[Any]] = {
        "texts": np.frombuffer(texts, dtype=np.uint8),
        "offsets": rollouts.offsets,
        "reward": rollouts.reward,
    }
    for name in ("truncated", "rollout_ids"):
        if (column := getattr(rollouts, name)) is not None:
            found[name] = column
    for name, column in (rollouts.rewards or {}).items():
        found[f"rewards/{name}"] = column
    for name in _LISTS:
        found |= flat(name, getattr(rollouts, name))
    return found


def rollouts_of(found: Mapping[str, NDArray[Any]]) -> Rollouts:
    """Rebuild the rollouts of `arrays_of`.

    Parameters
    ----------
    found : mapping of str to ndarray
        Others than its names are left alone.

    Returns
    -------
    Rollouts
        Without names of groups and rows.
    """
    prompts, completions, *extra = json.loads(found["texts"].tobytes())
    single = [name for name in found if name.startswith("rewards/")]
    return Rollouts(
        offsets=found["offsets"],
        prompts=prompts,
        completions=completions,
        reward=found["reward"],
        truncated=found.get("truncated"),
        rollout_ids=found.get("rollout_ids"),
        rewards={name[8:]: found[name] for name in single} or None,
        extra=extra[0] if extra else None,
        **taken(_LISTS, "", found),
    )


def flat(name: str, rows: Ragged | None) -> dict[str, NDArray[Any]]:
    """Return ragged rows as two arrays; none as nothing."""
    return {} if rows is None else {f"{name}/values": rows.values, f"{name}/lengths": rows.lengths}


def taken(names: Sequence[str], before: str, found: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Rebuild the ragged rows that are there, of names that have `before` before them."""
    return {
        name: Ragged(found[f"{before}{name}/values"], found[f"{before}{name}/lengths"])
        for name in names
        if f"{before}{name}/values" in found
    }
