"""Batches of the groups that are sampled ahead of training, fresh enough for the policy."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.rollouts.rollouts import Ragged, Rollouts, joined
from gspo_rs.samplers import Sampler
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.in_flight import InFlight, gathered
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.agreement import check_sampler
from gspo_rs.train.rollout.ahead import Ahead, Taken
from gspo_rs.train.rollout.chat import is_chat, warn_of_open_turns
from gspo_rs.train.rollout.collect import RolloutBatch, of_all, sample, visited
from gspo_rs.train.rollout.copied_weights import CopiedWeights
from gspo_rs.train.rollout.dynamic import with_signal
from gspo_rs.train.rollout.engine import Transformers
from gspo_rs.train.rollout.policy_sampler import derived_seed
from gspo_rs.train.rollout.reward_log import pooled
from gspo_rs.train.rollout.samplers import EngineSampler
from gspo_rs.train.rollout.tokenize import beyond_limits
from gspo_rs.train.rollout.visits import restored
from gspo_rs.train.step.group_metrics import mean_of_known
from gspo_rs.train.trainer_state import TrainerState
from gspo_rs.train.world import ALONE

__all__ = ["FreshBatches"]

# Before the names of what this module sends along with logged metrics; no metric may begin so.
_OWN = "async/"
_log = logging.getLogger("gspo_rs")


@dataclass
class _Drawing:
    """What the threads do: completions of some visits, by the weights of the last refresh.

    Attributes
    ----------
    policy : Policy
        Of which the weights are, with all processes that train it.
    sampler : Sampler
        Draws; here for this process alone.
    """

    policy: Policy
    config: Config
    prompts: Prompts
    sampler: Sampler
    rewards: Mapping[str, RewardFunction]
    state: Callable[[], TrainerState]
    version: int = 0

    def refresh(self, step: int) -> None:
        """Give the sampler the weights after `step` optimizer steps."""
        self.sampler.refresh(self.policy, step)
        self.version = step

    def sample(self, places: list[int], report: Callable[..., None]) -> RolloutBatch:
        """Return the scored groups of some visits, each token with its version."""
        version = self.version
        rows, numbers = visited(len(self.prompts), places, self.config)
        found = sample(
            replace(self.policy, world=ALONE),
            self.prompts.select(rows),
            self.rewards,
            self.config,
            seed=derived_seed(self.config.seed, "sample", 0),
            numbers=numbers,
            report=report,
            sampler=self.sampler,
            state=self.state(),
        )
        tokens, known = found.rollouts.completion_tokens, found.rollouts.policy_versions
        assert tokens is not None
        steps = np.full(len(tokens.values), version, np.int64)
        if known is not None:  # a server that does not know of a token says -1
            steps = np.where(known.values < 0, steps, known.values)
        versions = Ragged(steps, tokens.lengths)
        return replace(found, rollouts=replace(found.rollouts, policy_versions=versions))


@dataclass
class FreshBatches:
    """Batches of groups that threads sample while the policy is in training; an iterator.

    Attributes
    ----------
    policy : Policy
        In training.
    config : Config
        Resolved; `max_staleness` is above 0.
    prompts : Prompts
        The data set.
    ahead : Ahead
        The threads.
    step : callable
        Returns the optimizer steps that the policy has taken.
    """

    policy: Policy
    config: Config
    prompts: Prompts
    ahead: Ahead
    step: Callable[[], int]
    _compared: bool = False
    _recorded: int = 0

    @classmethod
    def begin(
        cls,
        policy: Policy,
        config: Config,
        data: Dataset,
        *,
        sampler: Sampler,
        rewards: Mapping[str, RewardFunction],
        state: Callable[[], TrainerState],
        total: int,
        found: InFlight | None,
        within: bool,
    ) -> Self:
        """Start to sample, with what a checkpoint had in flight.

        Parameters
        ----------
        policy, config, data, sampler, rewards
            Of the run. Transformers gets a copy of the weights.
        state : callable
            Returns how far the run is.
        total : int
            Optimizer steps of the run.
        found : InFlight or None
            From the checkpoint.
        within : bool
            Whether it was written within a batch.
        """
        if isinstance(sampler, EngineSampler) and isinstance(sampler.engine, Transformers):
            sampler = replace(sampler, engine=CopiedWeights())
        prompts = data.source
        assert isinstance(prompts, Prompts)
        if is_chat(prompts.texts):
            warn_of_open_turns(policy, config)
        drawing = _Drawing(policy, config, prompts, sampler, rewards, state)
        size = config.prompts_per_step * config.steps_per_generation
        each = config.steps_per_generation * config.num_iterations
        states = [] if found is None else found.states()
        concurrent = bool(getattr(sampler, "concurrent", False))

        def step() -> int:
            return state().global_step

        ahead = Ahead(
            drawing.sample,
            drawing.refresh,
            restored(states, size, policy.world),
            max_staleness=config.max_staleness,
            correct=config.on_stale == "correct",
            max_bytes=config.max_ahead_bytes,
            # A server is asked three times, and then says itself what is wrong.
            timeout=config.sampler_timeout * (4 if concurrent else 1),
            left=lambda: -(-(total - step()) // each),
            patience=2 * len(prompts) + size,
            concurrent=concurrent,
            begun=states[0]["begun"] if states else (),
        )
        ahead.start(step(), {} if found is None else found.sampled(), within=within)
        return cls(policy, config, prompts, ahead, step)

    def __iter__(self) -> Iterator[RolloutBatch]:
        return self

    def __next__(self) -> RolloutBatch:
        """Wait for a batch; until `commit` its groups count as not yet trained on."""
        began, queue = time.perf_counter(), self.ahead.waiting()
        self.ahead.moved(self.step())
        refreshed = time.perf_counter()
        kept, thrown = self._take()
        seconds = {
            "time/refresh": refreshed - began,
            "time/wait": time.perf_counter() - refreshed,
        }
        return self._batch(kept, thrown, seconds, queue)

    def commit(self) -> None:
        """Say that the last batch is in training."""
        self.ahead.train(self._recorded)

    def apart(self) -> AbstractContextManager[None]:
        """Keep the threads from sampling: the main thread is to."""
        return self.ahead.paused()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is in flight, of all processes, for a checkpoint; all of them have to ask."""
        return gathered(*self.ahead.state(), self.policy.world).tensors()

    def close(self) -> bool:
        """End the threads; return whether they have."""
        return self.ahead.close()

    def _take(self) -> tuple[list[Taken], list[Taken]]:
        """Take this process's share of a batch, and what has no signal where that is asked for."""
        share, config = len(self.ahead.visits.share), self.config
        kept: list[Taken] = []
        thrown: list[Taken] = []
        while len(kept) < share:
            one = self.ahead.take()
            may = config.dynamic_sampling and len(thrown) < config.max_resample * share
            if may and not self._teaches(one.rollouts):
                self.ahead.drop(one.place)
                thrown.append(one)
            else:
                kept.append(one)
        if config.dynamic_sampling and len(thrown) >= config.max_resample * share:
            _log.warning(
                "%d groups had no signal, and what came then is taken as it is; see max_resample",
                len(thrown),
            )
        return sorted(kept, key=lambda one: one.place), thrown

    def _teaches(self, rollouts: Rollouts) -> bool:
        long = self._too_long(rollouts)
        return bool(with_signal(RolloutBatch(rollouts, long, {}), self.config).all())

    def _too_long(self, rollouts: Rollouts) -> NDArray[np.bool_]:
        return beyond_limits(rollouts, {"the model's context": self.policy.context}, self.config)

    def _batch(
        self, kept: list[Taken], thrown: list[Taken], seconds: dict[str, float], queue: int
    ) -> RolloutBatch:
        numbers = self._numbers([one.place for one in kept])
        rollouts = replace(joined([one.rollouts for one in kept]), group_ids=numbers)
        done, over = self.ahead.done(), self.ahead.visits.dropped
        self._recorded = len(over)
        own: dict[str, list[float]] = {
            "queue": [float(queue)],
            "age": [one.seconds for one in kept],
            "stale": [float(done.stale)],
            **{name: [done.seconds[name]] for name in ("generate", "score", "waiting")},
            "over": [float(number) for number in self._numbers(over[: self._recorded])],
            "thrown": [float(r) for one in thrown for r in one.rollouts.reward],
            "n_thrown": [float(len(thrown))],
        }
        logged = {**pooled(done.logged), **{_OWN + name: values for name, values in own.items()}}
        dropped = self._recorded - len(thrown)
        if self.policy.world.size > 1:
            rollouts, dropped, logged = of_all(rollouts, dropped, logged, self.policy.world, 0)
        found = {name: logged.pop(_OWN + name) for name in own}
        self._compare(rollouts)
        return RolloutBatch(
            rollouts,
            self._too_long(rollouts),
            seconds,
            dropped=max(dropped, 0),
            sampling=self._metrics(rollouts, found),
            logged=logged,
            left_out=[int(number) for number in found["over"]],
        )

    def _numbers(self, places: Sequence[int]) -> list[int]:
        return visited(len(self.prompts), places, self.config)[1]

    def _metrics(self, rollouts: Rollouts, found: Mapping[str, list[float]]) -> dict[str, float]:
        """Return how old the batch is, how long either side waited, and what was thrown away."""
        versions = rollouts.policy_versions
        assert versions is not None
        age = len(self.ahead.begun) - 1 - self.ahead.versions(versions.values)
        spans = [len(set(versions.row(row).tolist())) > 1 for row in range(len(versions))]
        metrics = {
            "async/staleness": mean_of_known(age),
            "async/staleness_max": float(age.max(initial=0)),
            "async/spanning_frac": mean_of_known(np.array(spans)),
            "async/queue": math.fsum(found["queue"]),
            "async/age": mean_of_known(np.array(found["age"])),
            "async/stale_groups": math.fsum(found["stale"]),
            "async/generate": mean_of_known(np.array(found["generate"])),
            "async/score": mean_of_known(np.array(found["score"])),
            "async/sampler_wait": mean_of_known(np.array(found["waiting"])),
        }
        if not self.config.dynamic_sampling:
            return metrics
        n_thrown, rewards = math.fsum(found["n_thrown"]), [*rollouts.reward, *found["thrown"]]
        taken = n_thrown + rollouts.n_groups
        return {
            **metrics,
            "dynamic_sampling/rounds": taken / rollouts.n_groups,
            "dynamic_sampling/thrown_frac": n_thrown / taken,
            "dynamic_sampling/reward": mean_of_known(np.array(rewards)),
        }

    def _compare(self, rollouts: Rollouts) -> None:
        """Check the sampler once against the training pass, by groups of the policy as it is."""
        if self._compared:
            return
        versions, step = rollouts.policy_versions, self.step()
        assert versions is not None
        old = np.repeat(np.arange(rollouts.n_rollouts), versions.lengths)[versions.values != step]
        fresh = np.ones(rollouts.n_groups, bool)
        fresh[np.searchsorted(rollouts.offsets, old, "right") - 1] = False
        if fresh.any():
            check_sampler(self.policy, rollouts.select(fresh), self.config)
            self._compared = True
