"""Completions that are graded by workers while the next ones are sampled."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.rewards.pooled import PooledFunction
from gspo_rs.rollouts.rollouts import Rollouts, joined
from gspo_rs.samplers import Sampler
from gspo_rs.train.config.config import Config
from gspo_rs.train.progress import Report
from gspo_rs.train.rollout.chat import as_answers, is_chat
from gspo_rs.train.rollout.engine import Transformers
from gspo_rs.train.rollout.samplers import EngineSampler, reporting
from gspo_rs.train.trainer_state import TrainerState
from gspo_rs.train.world import World

__all__ = ["Asked", "asked_of", "at_once", "sampled_while_graded"]


@dataclass(frozen=True)
class Asked:
    """What reward functions are asked with, by TRL's names."""

    prompts: Any
    completions: Any
    columns: Mapping[str, Any]
    offered: Mapping[str, Any]


def asked_of(rollouts: Rollouts, prompts: Prompts, state: TrainerState | None) -> Asked:
    """Return what reward functions are asked with for rollouts of some prompts."""
    assert rollouts.group_ids is not None
    rows = np.repeat(np.asarray(rollouts.group_ids, np.int64), np.diff(rollouts.offsets))
    asked = prompts.select(rows.tolist())
    said = rollouts.completions
    texts = as_answers(said) if is_chat(prompts.texts) and not is_chat(said) else said
    tokens = rollouts.completion_tokens
    assert tokens is not None
    ids = [tokens.row(row).tolist() for row in range(len(tokens))]
    offered = {"completion_ids": ids} | ({} if state is None else {"trainer_state": state})
    return Asked(asked.texts, texts, asked.columns, offered)


def at_once(
    sampler: Sampler, rewards: Mapping[str, RewardFunction], config: Config, world: World, n: int
) -> int:
    """Return of how many of n prompts to sample at a time, so that workers grade the others.

    All, unless completions come in several batches (`generation_batch`) and workers grade them:
    then the whole groups of one, so that no bit of what is sampled differs. All, too, of several
    processes, whose shares take different numbers of batches; of runs that sample ahead, which
    grade beside the training; and where prompts may be dropped, which are in no batch.
    """
    mine = isinstance(sampler, EngineSampler) and isinstance(sampler.engine, Transformers)
    plain = mine and getattr(sampler, "function", None) is None and config.on_long == "error"
    pooled = rewards and all(isinstance(one, PooledFunction) for one in rewards.values())
    if not (plain and pooled and config.generation_batch) or config.max_staleness:
        return n
    return n if world.size > 1 else max(config.generation_batch // config.num_generations, 1)


def sampled_while_graded(
    sampler: Sampler,
    prompts: Prompts,
    numbers: list[int],
    rewards: Mapping[str, RewardFunction],
    *,
    size: int,
    each: int,
    seed: int,
    report: Report,
    state: TrainerState | None,
) -> Rollouts:
    """Sample `each` completions of `size` prompts at a time; workers grade what is there meanwhile.

    The rewards are those that the functions give when they are called with all rollouts.
    """
    pooled = [one for one in rewards.values() if isinstance(one, PooledFunction)]
    for function in pooled:  # in the order of functions and rows, as when they are called
        function.draw(each * len(prompts))
    n, parts = len(prompts), []
    begun: list[Future[None]] = []
    with ThreadPoolExecutor(1, "gspo_rs graders") as thread:
        try:
            for first in range(0, n, size):
                places = range(first, min(first + size, n))
                some = prompts.select(list(places))
                one = reporting(sampler, _further(report, first * each, n, places))
                asked = np.array([numbers[place] for place in places], np.int64)
                part = one.sample(some, places=asked, seed=seed)
                ids = np.asarray(part.group_ids, np.int64) + first
                parts.append(replace(part, group_ids=ids.tolist()))
                given = asked_of(part, some, state)
                begun += [thread.submit(_graded, function, given) for function in pooled]
            for end in begun:
                end.result()
        except BaseException:  # what a function hangs on is not waited for
            for end in begun:
                end.cancel()
            pooled[0].workers.interrupt()
            raise
    return joined(parts)


def _graded(function: PooledFunction, asked: Asked) -> None:
    given = {"prompts": asked.prompts, "completions": asked.completions, **asked.columns}
    function.grade_ahead(given, **asked.offered)


def _further(report: Report, before: int, n: int, places: range) -> Report:
    """Return what reports of a part of the prompts as of all of them."""

    def further(what: str, done: int = 0, total: int = 0) -> None:
        """Report with what is done already, where it is counted."""
        report(what, done + before if total else done, total // len(places) * n)

    return further
