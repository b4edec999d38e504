"""Rollout functions of the user, which sample in place of one completion for each prompt.

The signature is ``f(sampler, prompts, **columns) -> Rollouts``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import load, name_of
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train.config.config import Config
from gspo_rs.train.rollout.logged_completions import is_column
from gspo_rs.train.rollout.policy_sampler import PolicySampler

__all__ = ["RolloutError", "RolloutFunction", "checked", "play", "rollout_function"]

RolloutFunction = Callable[..., Rollouts]
# What training needs of what a function returns, besides what all `Rollouts` have.
_NEEDED = ("prompt_tokens", "completion_tokens", "sampler_logprobs")
_GIVEN = ("sampler", "prompts")


class RolloutError(ValueError):
    """A rollout function did not return rollouts of the prompts that it was given."""


def rollout_function(config: Config, given: RolloutFunction | None) -> RolloutFunction | None:
    """Return the rollout function: the one `given`, or the one that the configuration names.

    Raises
    ------
    RewardError
        If the one named cannot be loaded; says why.
    """
    if given is not None or config.rollout is None:
        return given
    return load(config.rollout, what="rollout function")


def play(function: RolloutFunction, sampler: PolicySampler, prompts: Prompts) -> Rollouts:
    """Call a rollout function once on all prompts and check what it returns.

    Parameters
    ----------
    function : callable
        ``f(sampler, prompts, **columns)``.
    sampler : PolicySampler
        What it samples with.
    prompts : Prompts
        It gets their texts or messages, each once, and their other columns by name.

    Returns
    -------
    Rollouts
        With tokens and `sampler_logprobs`; `group_ids` are rows of `prompts`, in their order.

    Raises
    ------
    RolloutError
        If a column has the name of an argument, or the function returns something else, rollouts
        without tokens or log-probabilities, or of other prompts than it was given, or a column of
        `extra` with a name that logged completions have. Names the function, the field and the row.
    """
    name = f"rollout function {name_of(function)}"
    for column in prompts.columns:
        if column in _GIVEN:
            raise RolloutError(
                f"column {column!r} of the prompts cannot go to a {name}, which is given"
                f" {' and '.join(map(repr, _GIVEN))} of its own; rename the column, or drop it"
            )
    found: Any = function(sampler=sampler, prompts=prompts.texts, **prompts.columns)
    return checked(found, len(prompts), name)


def checked(found: Any, n_prompts: int, name: str) -> Rollouts:
    """Return what code of the user's has sampled for some prompts, in their order.

    Parameters
    ----------
    found : Any
        What it returned.
    n_prompts : int
        How many prompts it was given.
    name : str
        Its kind and name, for errors.

    Raises
    ------
    RolloutError
        If these are no rollouts with tokens and log-probabilities of these prompts.
    """
    if not isinstance(found, Rollouts):
        kind = type(found).__name__
        raise RolloutError(f"{name} answered a {kind}, not gspo_rs.rollouts.Rollouts")
    for field in _NEEDED:
        if getattr(found, field) is None:
            raise RolloutError(
                f"{name} answered rollouts without {field}; give what sampler.generate returned"
            )
    for column in filter(is_column, found.extra or {}):
        raise RolloutError(
            f"{name} answered extra[{column!r}], a name that columns of logged completions have;"
            " give it another"
        )
    _refuse_not_finite(found, name)
    return _in_order(found, n_prompts, name)


def _refuse_not_finite(found: Rollouts, name: str) -> None:
    assert found.sampler_logprobs is not None
    sampled = found.sampler_logprobs.where(found.completion_mask)
    wrong = ~np.isfinite(sampled.values)
    if wrong.any():
        row = int(np.searchsorted(sampled.offsets, wrong.argmax(), "right")) - 1
        raise RolloutError(
            f"{name} answered sampler_logprobs that are not finite for a sampled token of"
            f" {found.place(row)}; mask what was not sampled with completion_mask"
        )


def _in_order(found: Rollouts, n_prompts: int, name: str) -> Rollouts:
    """Return the groups in the order of the prompts that they are of."""
    if found.group_ids is None:
        if found.n_groups != n_prompts:
            raise RolloutError(
                f"{name} answered {found.n_groups} groups for {n_prompts} prompts; give one for"
                " each, or group_ids with the number of the prompt that a group is of"
            )
        return replace(found, group_ids=list(range(n_prompts)))
    ids = list(found.group_ids)
    for group, key in enumerate(ids):
        if not isinstance(key, int | np.integer) or not 0 <= key < n_prompts:
            raise RolloutError(
                f"{name} answered group_ids[{group}] = {key!r}; give the number of the prompt that"
                f" the group is of, 0 to {n_prompts - 1}"
            )
        if key in ids[:group]:
            raise RolloutError(
                f"{name} answered two groups of prompt {key}, {ids.index(key)} and {group}; put all"
                " rollouts of a prompt into one"
            )
    return found.select(np.argsort(ids, kind="stable"))
