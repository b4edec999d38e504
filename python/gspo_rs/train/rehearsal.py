"""A rehearsal of a run: everything is read and checked, one batch is made, nothing is written."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gspo_rs.data.source import SourceLike
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.samplers import Sampler
from gspo_rs.train.batches import batches_of
from gspo_rs.train.checkpoint import Checkpoint
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.fit import fitted, free_bytes
from gspo_rs.train.inputs import Inputs, separate
from gspo_rs.train.long_prompts import without_long
from gspo_rs.train.loop import checked, opened
from gspo_rs.train.memory import Memory, cache_bytes, largest_pass, measured, samples_here
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.pass_memory import tensor_bytes
from gspo_rs.train.plan_text import lines
from gspo_rs.train.random_state import seed_generators
from gspo_rs.train.reward_functions import close_rewards, reward_functions
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.function import RolloutFunction
from gspo_rs.train.rollout.samplers import sampler_of
from gspo_rs.train.step.minibatch import Minibatch
from gspo_rs.train.step.training_batch import batches
from gspo_rs.train.trainer_state import state_of
from gspo_rs.train.watch import refuse_no_room

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, repr=False)
class Plan:
    """What a run would do, as far as one batch of rollouts tells.

    Attributes
    ----------
    config : Config
        With its preset and absolute paths.
    steps : int
        Optimizer steps in all.
    done : int
        Of these, those before a resume.
    groups : int
        Prompts, or groups of scored completions.
    parameters, trained : int
        Numbers in the model, and those that are trained.
    device : str
        Where it is trained.
    rewards : ndarray of float64
        Of the batch; NaN where unscorable.
    lengths : ndarray of int64
        Sampled tokens of its completions.
    informative : int
        Its groups with a signal, of `sampled`.
    sampled : int
        Its groups.
    dropped : dict of str to int
        Its rows and prompts that are left out, by the reason.
    seconds : float
        How long the batch took.
    pass_tokens : int
        Tokens of the largest micro-batch, padding included.
    memory : Memory
        An estimate for the device.
    available : int or None
        Bytes of a GPU that are free before the run.
    """

    config: Config
    steps: int
    done: int
    groups: int
    parameters: int
    trained: int
    device: str
    rewards: np.ndarray[Any, np.dtype[np.float64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    informative: int
    sampled: int
    dropped: dict[str, int]
    seconds: float
    pass_tokens: int
    memory: Memory
    available: int | None

    def __repr__(self) -> str:
        """Return all of it as lines of text."""
        return "\n".join(lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Return its numbers; of rewards and lengths the means."""
        parts = dataclasses.asdict(self.memory)
        scored = self.rewards[np.isfinite(self.rewards)]
        means = {"reward": scored, "length": self.lengths}
        single = [field.name for field in dataclasses.fields(self)]
        for name in ("config", "memory", "rewards", "lengths"):
            single.remove(name)
        return {
            "output": self.config.output_dir,
            **{name: getattr(self, name) for name in single},
            **{name: float(of.mean()) if len(of) else None for name, of in means.items()},
            "memory": {**parts, "total": self.memory.total},
        }


def plan(
    config: Config | None = None,
    *,
    reward: RewardFunction | Sequence[RewardFunction] | str | Sequence[str] | None = None,
    rollout: RolloutFunction | str | None = None,
    sampler: Sampler | str | None = None,
    prompts: SourceLike | None = None,
    rollouts: SourceLike | None = None,
    eval_prompts: SourceLike | None = None,
    model: Any = None,
    tokenizer: Any = None,
    resume: bool = False,
    **fields: Any,
) -> Plan:
    """Rehearse a run: read the data, load the model, make one batch; train and write nothing.

    Parameters
    ----------
    config, reward, rollout, sampler, prompts, rollouts, eval_prompts, model, tokenizer, resume, \
fields
        As for `gspo_rs.train.train`. A model in memory stays as it is.

    Returns
    -------
    Plan
        Steps, rewards and lengths of one batch of rollouts, and an estimate of the memory.

    Raises
    ------
    ConfigError, CheckpointError, PolicyError, RewardError, LengthError, ValueError
        What `train` would raise before its first step.
    """
    data = {"prompts": prompts, "rollouts": rollouts, "eval_prompts": eval_prompts}
    things = {**data, "reward": reward, "rollout": rollout, "sampler": sampler}
    things |= {"model": model, "tokenizer": tokenizer}
    config, inputs = separate(config, things, fields)
    if inputs.streams:
        raise ConfigError(
            "rollouts is an iterator, of which a rehearsal would take the first batch; train with"
            " max_steps = 1 in another output_dir instead"
        )
    config = checked(config, inputs)
    config, dataset, found = opened(config, inputs, resume=resume)
    if inputs.model is not None:
        inputs = dataclasses.replace(inputs, model=copy.deepcopy(inputs.model))
    return _rehearsed(config, inputs, dataset, found)


def _rehearsed(config: Config, inputs: Inputs, data: Dataset, found: Checkpoint | None) -> Plan:
    rewards = reward_functions(config, inputs) if config.online else {}
    seed_generators(config.seed)
    available = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
    policy = policies.load(config, None if found is None else found.model, inputs)
    refuse_no_room(policy, config)
    data = without_long(data, policy, config)
    # Offline what it says is taken before the first step.
    second = config.online and prepare.needs_start(config) and policies.needs_copy(config, inputs)
    if (free := free_bytes(policy.device)) is not None and second:
        free -= tensor_bytes(policy.model.parameters())
    config = fitted(policy, config, data.source, free=free)
    sampler = sampler_of(config, inputs)
    try:
        batch = _next_batch(policy, config, data, found, rewards=rewards, sampler=sampler)
    finally:
        close_rewards(rewards)
        if sampler is not None:
            sampler.close()
    cuts = prepare.minibatches(batch, config)
    plain = prepare.plain_batches(cuts, config)
    largest = largest_pass(one for some in plain for one in batches(policy, some, config))
    cache = _cache(policy, batch, config)
    memory = measured(policy, config, reference=second, cache=cache, largest=largest)
    return Plan(
        config=config,
        steps=data.steps(config),
        done=0 if found is None else found.step,
        groups=data.n_groups,
        parameters=sum(part.numel() for part in policy.model.parameters()),
        trained=sum(part.numel() for part in policy.trainable().values()),
        device=str(policy.device),
        **_of_batch(batch, cuts, data.dropped),
        seconds=sum(batch.seconds.values()),
        pass_tokens=0 if largest is None else largest.input_ids.numel(),
        memory=memory,
        available=available if policy.device.type == "cuda" else None,
    )


def _next_batch(
    policy: Policy,
    config: Config,
    data: Dataset,
    found: Checkpoint | None,
    *,
    rewards: Mapping[str, RewardFunction],
    sampler: Sampler | None,
) -> RolloutBatch:
    """Sample or read the batch of rollouts with which the run would go on."""
    start, step = (0, 0) if found is None else (found.batches, found.step)
    state = state_of(config, data, step)
    if sampler is not None:
        sampler.refresh(policy, step)
    some = batches_of(
        policy,
        config,
        data,
        start=start,
        sampler=sampler,
        rewards=rewards,
        state=lambda: state,
    )
    return next(some)


def _of_batch(batch: RolloutBatch, cuts: list[Minibatch], long: int) -> dict[str, Any]:
    """Return what the rewards and lengths of a batch say; `long` prompts were left out before."""
    dropped: dict[str, int] = {"dropped_prompts": long + batch.dropped}
    for cut in cuts:
        for reason, count in cut.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return {
        "rewards": batch.rollouts.reward[batch.rollouts.sequences.firsts],
        "lengths": np.concatenate([cut.lengths for cut in cuts]) if cuts else np.zeros(0, np.int64),
        "informative": sum(int(cut.informative.sum()) for cut in cuts),
        "sampled": batch.rollouts.n_groups,
        "dropped": dropped,
    }


def _cache(policy: Policy, batch: RolloutBatch, config: Config) -> int:
    """Return the bytes of keys and values while a batch is sampled."""
    tokens = batch.rollouts.prompt_tokens
    if not samples_here(config) or tokens is None or not len(tokens.lengths):
        return 0
    length = int(tokens.lengths.max()) + config.max_completion_length
    n = batch.rollouts.n_rollouts
    return cache_bytes(policy, min(n, config.generation_batch or n), length)
