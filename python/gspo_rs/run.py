"""Run: the state of a training run, from its first batch of rollouts to its last step."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gspo_rs import checkpoint, data, evaluate, rounds, step
from gspo_rs import policy as policies
from gspo_rs.advantages import OF_SEVERAL
from gspo_rs.census import Census
from gspo_rs.config import Config, ConfigError
from gspo_rs.display import Display
from gspo_rs.harvest import Harvest, offline, online
from gspo_rs.lesson import Lesson
from gspo_rs.metrics import MetricsFile, describe
from gspo_rs.minibatch import Minibatch
from gspo_rs.optimizer import learning_rate, make_optimizer
from gspo_rs.policy import Policy
from gspo_rs.prompts import Prompts
from gspo_rs.rewards import RewardFunction, named
from gspo_rs.rules import unweighable

_log = logging.getLogger("gspo_rs")
_PATIENCE = 3


@dataclass
class Run:
    """The state of a run: everything that changes while it lasts."""

    config: Config
    policy: Policy
    optimizer: torch.optim.Optimizer
    rewards: Mapping[str, RewardFunction]
    data: Prompts | Census
    total: int
    frozen: Policy | None
    yardstick: evaluate.Yardstick | None
    step: int = 0
    batches: int = 0
    failures: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    file: MetricsFile = field(init=False)
    display: Display = field(init=False)

    @classmethod
    def begin(
        cls,
        config: Config,
        reward: RewardFunction | Sequence[RewardFunction] | None,
        found: checkpoint.Checkpoint | None,
    ) -> "Run":
        """Load everything, from a checkpoint if there is one."""
        rewards = _rewards(config, reward) if config.online else {}
        source = _data(config)
        n_groups = len(source) if isinstance(source, Prompts) else source.n_groups
        policy = policies.load(config, None if found is None else found.model)
        optimizer = make_optimizer(policy, config)
        run = cls(
            config=config,
            policy=policy,
            optimizer=optimizer,
            rewards=rewards,
            data=source,
            total=_total(config, n_groups),
            frozen=policies.freeze(config) if rounds.needs_start(config) else None,
            yardstick=None,
        )
        if found is not None:
            run._restore(found)
        return run

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        names = list(self.policy.trainable())
        checkpoint.restore_optimizer(self.optimizer, names, found.tensors)
        checkpoint.restore_random(found)
        self.step, self.batches = found.step, found.batches
        if "eval/pool" in found.tensors:
            prompts = _eval_prompts(self.config, self.data)
            pool = found.tensors["eval/pool"].numpy()
            self.yardstick = evaluate.Yardstick(prompts, pool)

    def go(self, folder: Path) -> None:
        """Train until the last step."""
        saved, every = self.step, self.config.save_steps
        source = self._source()
        while self.step < self.total:
            self._learn(next(source))
            self.batches += 1
            if every and self.step // every > saved // every:
                self._save(folder)
                saved = self.step

    def _source(self) -> Iterator[Harvest]:
        if isinstance(self.data, Census):
            return offline(self.policy, self.config, self.data, start=self.batches)
        return online(self.policy, self.data, self.rewards, self.config, start=self.batches)

    def _learn(self, batch: Harvest) -> None:
        """Take the optimizer steps of one batch of rollouts."""
        began = time.perf_counter()
        cuts = rounds.minibatches(batch, self.config)
        lessons = rounds.lessons(cuts, self.policy, self.config, self.frozen)
        if not cuts:
            raise ConfigError("every prompt of a batch was too long; see max_prompt_length")
        inner = len(lessons) * self.config.num_iterations
        seconds = {**batch.seconds, "time/prepare": time.perf_counter() - began}
        shares = {name: value / inner for name, value in seconds.items()}
        for _ in range(self.config.num_iterations):
            for minibatch, lesson in zip(cuts, lessons, strict=True):
                if self.step < self.total:
                    self._step(minibatch, lesson, shares)

    def _step(self, minibatch: Minibatch, lesson: Lesson, shares: dict[str, float]) -> None:
        """Take one optimizer step and log it."""
        began = time.perf_counter()
        metrics = describe(minibatch)
        number = self.step + 1
        if len(minibatch.trained):
            rate = learning_rate(self.config, number, self.total)
            metrics |= step.take(self.policy, self.optimizer, lesson, self.config, rate=rate)
        else:
            _log.warning("step %d: no group has a signal; the weights stay as they are", number)
        self.step = number
        metrics |= shares
        metrics["time/step"] = time.perf_counter() - began + sum(shares.values())
        metrics["speed/tokens_per_s"] = metrics["tokens"] / metrics["time/step"]
        every = self.config.eval_steps
        if number == self.total or (every and number % every == 0):
            metrics |= self._compare()
        self._record(metrics)
        self._watch(metrics)

    def _watch(self, metrics: dict[str, float]) -> None:
        """Count the steps skipped in a row, and stop at the third."""
        if not metrics.get("skipped"):
            self.failures = 0
            return
        self.failures += 1
        _log.warning(
            "step %d skipped: loss %g, gradient norm %g",
            self.step,
            metrics["loss"],
            metrics["grad_norm"],
        )
        if self.failures == _PATIENCE:
            raise step.TrainingDivergedError(
                f"loss or gradient were not finite in steps {self.step - _PATIENCE + 1} to"
                f" {self.step}; lower learning_rate ({self.config.learning_rate}) or look at the"
                " rewards and the data"
            )

    def compare_start(self) -> None:
        """Sample the starting policy's pool, which the comparisons measure against."""
        if not self.config.online or self.config.eval_size == 0:
            return
        prompts = _eval_prompts(self.config, self.data)
        pool = evaluate.rewards_of(self.policy, prompts, self.rewards, self.config, draw=0)
        self.yardstick = evaluate.Yardstick(prompts, pool)
        self._record(evaluate.compare(pool, pool))

    def _compare(self) -> dict[str, float]:
        if self.yardstick is None:
            return {}
        began = time.perf_counter()
        prompts, pool = self.yardstick.prompts, self.yardstick.pool
        rewards = evaluate.rewards_of(self.policy, prompts, self.rewards, self.config, draw=1)
        return {**evaluate.compare(rewards, pool), "time/eval": time.perf_counter() - began}

    def _record(self, metrics: dict[str, float]) -> None:
        self.latest = self.file.write(self.step, metrics)
        self.display.show(self.latest)

    def _save(self, folder: Path) -> None:
        tensors: dict[str, Tensor] = checkpoint.optimizer_tensors(
            self.optimizer, list(self.policy.trainable())
        )
        if self.yardstick is not None:
            tensors["eval/pool"] = torch.from_numpy(self.yardstick.pool)
        checkpoint.write(
            folder,
            self.policy.save,
            tensors,
            step=self.step,
            batches=self.batches,
            config=self.config,
        )


def _rewards(
    config: Config, given: RewardFunction | Sequence[RewardFunction] | None
) -> dict[str, RewardFunction]:
    """Return the functions that score completions, those `given` or those that are named."""
    functions = config.reward if given is None else given
    if functions is None:
        raise ConfigError("reward is missing: name the function that scores completions")
    pairs = named(functions)
    if fault := unweighable("reward", [name for name, _ in pairs], config.reward_weights):
        raise ConfigError(fault)
    return dict(pairs)


def _data(config: Config) -> Prompts | Census:
    """Open the data: prompts, or what there is to learn from in scored completions."""
    if config.prompts is not None:
        return data.prompts(config.prompts, prompt=config.prompt)
    assert config.rollouts is not None
    census = data.take_census(
        config.rollouts,
        by=config.by,
        reward=config.reward_column,
        reward_weights=config.reward_weights,
        apart=config.advantage in OF_SEVERAL,
    )
    _log.info(
        "%d rollouts in %d groups; %d groups without signal, %d rewards missing",
        census.n_rollouts,
        census.n_groups,
        census.n_uninformative,
        census.n_unscorable,
    )
    return census


def _eval_prompts(config: Config, prompts: Prompts | Census) -> Prompts:
    if config.eval_prompts is not None:
        prompts = data.prompts(config.eval_prompts, prompt=config.prompt)
    assert isinstance(prompts, Prompts)
    return prompts.select(range(min(config.eval_size, len(prompts))))


def _total(config: Config, n_groups: int) -> int:
    if config.max_steps is not None:
        return config.max_steps
    size = config.prompts_per_step * config.steps_per_generation
    full, rest = divmod(n_groups, size)
    if config.online:
        steps = -(-n_groups * config.num_train_epochs // config.prompts_per_step)
    else:
        steps = full * config.steps_per_generation + -(-rest // config.prompts_per_step)
        steps *= config.num_train_epochs
    return steps * config.num_iterations
