"""Where the batches of a run come from: its sampler, or scored completions that are read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Sampler
from gspo_rs.train import evaluate
from gspo_rs.train.batches import batches_of, batches_with_signal
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.in_flight import InFlight
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report
from gspo_rs.train.reward_functions import close_rewards
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.fresh import FreshBatches
from gspo_rs.train.trainer_state import TrainerState

__all__ = ["Sampling"]

_log = logging.getLogger("gspo_rs")


@dataclass
class Sampling:
    """Batches of rollouts in turns with training, or ahead of it; and completions to compare.

    Attributes
    ----------
    policy, config, data
        Of the run.
    rewards : mapping of str to callable
        Reward functions, by name; none offline.
    sampler : Sampler or None
        None offline.
    state : callable
        Returns how far the run is.
    in_flight : InFlight or None
        What a checkpoint had begun, until it goes on.
    """

    policy: Policy
    config: Config
    data: Dataset
    rewards: Mapping[str, RewardFunction]
    sampler: Sampler | None
    state: Callable[[], TrainerState]
    in_flight: InFlight | None = None
    _batches: Iterator[RolloutBatch] | None = None

    def start(
        self,
        begun: int,
        *,
        within: bool,
        over: Rollouts | None,
        total: int,
        report: Report,
    ) -> None:
        """Begin with the batch after the `begun` first ones, for a run of `total` steps.

        Parameters
        ----------
        begun : int
            Batches that have been drawn before.
        within : bool
            Whether the last of them is still in training.
        over : Rollouts or None
            Groups that are over from them.
        total : int
            Optimizer steps of the run.
        report : Report
            Gets how many completions are done.
        """
        run = self.policy, self.config, self.data
        if self.config.max_staleness:
            assert self.sampler is not None
            self._batches = FreshBatches.begin(
                *run,
                sampler=self.sampler,
                rewards=self.rewards,
                state=self.state,
                total=total,
                found=self.in_flight,
                within=within,
            )
            return
        rounds = batches_of(
            *run,
            start=begun,
            sampler=self.sampler,
            rewards=self.rewards,
            state=self.state,
            report=report,
        )
        self._batches = batches_with_signal(rounds, *run, over=over)

    def next(self) -> RolloutBatch:
        """Return the next batch, once it is there."""
        assert self._batches is not None
        if self._ahead is None:
            self._refresh()
        return next(self._batches)

    def commit(self) -> None:
        """Say that the last batch is in training: a checkpoint has it from now on."""
        if self._ahead is not None:
            self._ahead.commit()

    def trained(self) -> None:
        """Say that the last batch is trained on."""
        if self._ahead is not None:
            self._ahead.ahead.trained()

    def evaluated(
        self, prompts: Prompts, *, draw: int, report: Report
    ) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Return the rewards of the policy as it is, as `gspo_rs.train.evaluate.rewards_of` does.

        ``time/eval`` is among what it has logged.
        """
        began = time.perf_counter()
        with nullcontext() if self._ahead is None else self._ahead.apart():
            self._refresh()
            rewards, logged = evaluate.rewards_of(
                self.policy,
                prompts,
                self.rewards,
                self.config,
                draw=draw,
                report=report,
                sampler=self.sampler,
                state=self.state(),
            )
        return rewards, {"time/eval": time.perf_counter() - began, **logged}

    def tensors(self) -> dict[str, Tensor]:
        """Return what is in flight for a checkpoint; all processes have to ask."""
        if self._ahead is not None:
            return self._ahead.tensors()
        return {} if self.in_flight is None else self.in_flight.tensors()

    def close(self) -> None:
        """End the threads, the workers of the rewards and the sampler."""
        ended = self._ahead is None or self._ahead.close()
        close_rewards(self.rewards)
        if self.sampler is not None:
            self.sampler.close()
        if not ended and self._ahead is not None and not self._ahead.close():
            _log.warning("a thread of the sampler hangs; it ends with the process")

    @property
    def _ahead(self) -> FreshBatches | None:
        return self._batches if isinstance(self._batches, FreshBatches) else None

    def _refresh(self) -> None:
        if self.sampler is not None:
            self.sampler.refresh(self.policy, self.state().global_step)
