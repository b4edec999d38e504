"""The batches of rollouts of a run: sampled online, or read from scored completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gspo_rs.data.group_index import GroupIndex
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Sampler
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset, Stream
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.collect import RolloutBatch, offline, online
from gspo_rs.train.rollout.dynamic import filled
from gspo_rs.train.rollout.stream import streamed
from gspo_rs.train.trainer_state import TrainerState

__all__ = ["batches_of", "batches_with_signal"]


def batches_of(
    policy: Policy,
    config: Config,
    data: Dataset,
    *,
    start: int,
    sampler: Sampler | None,
    rewards: Mapping[str, RewardFunction],
    state: Callable[[], TrainerState],
    report: Report = silent,
) -> Iterator[RolloutBatch]:
    """Return the batches of a run, endlessly.

    Parameters
    ----------
    policy, config, data, rewards, state, report
        Of the run.
    start : int
        Batches to leave out, those of before.
    sampler : Sampler or None
        Online, refreshed before a batch is asked for.
    """
    source = data.source
    if isinstance(source, GroupIndex):
        return offline(policy, config, source, start=start, rollouts=data.rollouts)
    if isinstance(source, Stream):
        return streamed(policy, config, source.batches, start=start)
    more: dict[str, Any] = {"report": report, "sampler": sampler, "state": state}
    return online(policy, source, rewards, config, start=start, **more)


def batches_with_signal(
    rounds: Iterator[RolloutBatch],
    policy: Policy,
    config: Config,
    data: Dataset,
    *,
    over: Rollouts | None,
) -> Iterator[RolloutBatch]:
    """Fill batches with groups that have a signal, if `dynamic_sampling` asks for that.

    Those that are read from files have been chosen before.
    """
    if not config.dynamic_sampling or isinstance(data.source, GroupIndex):
        return rounds
    return filled(rounds, policy, config, over=over)
