"""Batches of rollouts, sampled by the policy or read from scored completions."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gspo_rs import data
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.data.source import SourceLike
from gspo_rs.rewards.functions import RewardFunction, scores
from gspo_rs.rewards.pooled import take_counts
from gspo_rs.rollouts.arrays import arrays_of, rollouts_of
from gspo_rs.rollouts.rollouts import Rollouts, joined, summed
from gspo_rs.samplers import Sampler
from gspo_rs.samplers.special_tokens import Ends
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.agreement import check_sampler
from gspo_rs.train.rollout.chat import (
    as_texts,
    ends_of,
    is_chat,
    warn_of_open_turns,
)
from gspo_rs.train.rollout.graded_ahead import asked_of, at_once, sampled_while_graded
from gspo_rs.train.rollout.policy_sampler import derived_seed
from gspo_rs.train.rollout.reward_log import merged, pooled
from gspo_rs.train.rollout.samplers import counted, reporting, sampling_of
from gspo_rs.train.rollout.tokenize import beyond_limits, check_tokens, tokenise
from gspo_rs.train.trainer_state import TrainerState
from gspo_rs.train.world import World

_log = logging.getLogger("gspo_rs")


@dataclass(frozen=True)
class RolloutBatch:
    """One batch of scored rollouts.

    Attributes
    ----------
    rollouts : Rollouts
        With tokens and rewards.
    too_long : ndarray of bool, shape (n,)
        Rows that the model cannot take.
    seconds : dict of str to float
        ``time/generate`` and ``time/score``, or ``time/read``.
    dropped : int
        Prompts that were too long to sample for.
    rounds : int
        How often the sampler or the file was asked for them.
    over : Rollouts or None
        Groups that this batch has no place for and the next begins with.
    sampling : dict of str to float
        Metrics of `dynamic_sampling`.
    logged : dict of str to list of float
        Metrics that reward functions have logged, the value of each call.
    left_out : list of int
        Visits to prompts that are over without being trained on, as `online` numbers them.
    """

    rollouts: Rollouts
    too_long: NDArray[np.bool_]
    seconds: dict[str, float]
    dropped: int = 0
    rounds: int = 1
    over: Rollouts | None = None
    sampling: dict[str, float] = field(default_factory=dict)
    logged: dict[str, list[float]] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)


def sample(
    policy: Policy,
    prompts: Prompts,
    rewards: Mapping[str, RewardFunction],
    config: Config,
    *,
    seed: int,
    numbers: Sequence[int] | None = None,
    report: Report = silent,
    sampler: Sampler | None = None,
    state: TrainerState | None = None,
) -> RolloutBatch:
    """Sample completions of some prompts and score them.

    Parameters
    ----------
    policy : Policy
        With the weights that sample.
    prompts : Prompts
        One group each; the reward functions get their other columns.
    rewards : mapping of str to callable
        With TRL's signature, by name. None where the rollout function gives the rewards.
    config : Config
        Tells group size, lengths, sampling and the weights of the rewards.
    seed : int
        The completions follow from it.
    numbers : sequence of int, optional
        What stands for each prompt in the draws; by default its row.
    report : Report
        Gets how many completions are done.
    sampler : Sampler, optional
        Draws, with these weights; by default the policy itself.
    state : TrainerState, optional
        For reward functions.

    Returns
    -------
    RolloutBatch
        Groups in the order of the prompts, without those that were too long and dropped. Several
        processes sample and score a share each, and all get the whole.
    """
    began = time.perf_counter()
    share = policy.world.share(len(prompts))
    prompts = prompts.select(list(share))
    numbers = list(share if numbers is None else [numbers[place] for place in share])
    asked = reporting(sampler or sampling_of(policy, config), report)
    size = at_once(asked, rewards, config, policy.world, len(prompts))
    if size < len(prompts):
        rollouts = sampled_while_graded(
            asked,
            prompts,
            numbers,
            rewards,
            size=size,
            each=config.num_generations,
            seed=seed,
            report=report,
            state=state,
        )
    else:
        rollouts = asked.sample(prompts, places=np.array(numbers, np.int64), seed=seed)
    generated = time.perf_counter()
    report("scoring")
    scored, logged = _scored(rollouts, prompts, rewards, config, state)
    logged |= counted(asked)
    check_tokens(scored, len(policy.tokenizer))
    seconds = {
        "time/generate": generated - began,
        "time/score": time.perf_counter() - generated,
    }
    dropped = len(prompts) - rollouts.n_groups
    if policy.world.size > 1:
        scored, dropped, logged = of_all(scored, dropped, logged, policy.world, share.start)
    too_long = beyond_limits(scored, {"the model's context": policy.context}, config)
    return RolloutBatch(scored, too_long, seconds, dropped, logged=logged)


def of_all(
    rollouts: Rollouts, dropped: int, logged: dict[str, list[float]], world: World, start: int
) -> tuple[Rollouts, int, dict[str, list[float]]]:
    """Return what all processes have, each of its share of the prompts, in their order.

    Parameters
    ----------
    rollouts, dropped, logged
        Of this process, as of a `RolloutBatch`.
    world : World
        All of its processes have to ask.
    start : int
        What is added to the names of this process's groups, which are numbers.
    """
    assert rollouts.group_ids is not None
    own = {**arrays_of(rollouts), "group_ids": start + np.asarray(rollouts.group_ids, np.int64)}
    own["rest"] = np.frombuffer(json.dumps([dropped, logged]).encode(), dtype=np.uint8)
    ranks = world.gathered({name: torch.from_numpy(array.copy()) for name, array in own.items()})
    found = [{name: value.numpy() for name, value in rank.items()} for rank in ranks]
    parts = [replace(rollouts_of(one), group_ids=one["group_ids"].tolist()) for one in found]
    parts = [part for part in parts if part.n_groups] or parts[:1]
    rest = [json.loads(one["rest"].tobytes()) for one in found]
    return joined(parts), sum(one for one, _ in rest), pooled([values for _, values in rest])


def _scored(
    rollouts: Rollouts,
    prompts: Prompts,
    rewards: Mapping[str, RewardFunction],
    config: Config,
    state: TrainerState | None,
) -> tuple[Rollouts, dict[str, list[float]]]:
    """Return rollouts with the rewards of the functions, or their own if there are none.

    The second are the metrics that the functions have logged, and how their calls ended.
    """
    if not rewards:
        return rollouts, {}
    asked = asked_of(rollouts, prompts, state)
    texts = asked.prompts, asked.completions
    found = scores(rewards, *texts, asked.columns, offered=asked.offered)
    logged = merged(found.logged, rollouts.extra or ())
    extra = {**(rollouts.extra or {}), **logged.extra} or None
    summary = summed(found.rewards, config.reward_weights)
    metrics = {**logged.metrics, **take_counts(rewards.values())}
    return replace(rollouts, **summary, extra=extra), metrics


def online(
    policy: Policy,
    prompts: Prompts,
    rewards: Mapping[str, RewardFunction],
    config: Config,
    *,
    start: int,
    report: Report = silent,
    sampler: Sampler | None = None,
    state: Callable[[], TrainerState] | None = None,
) -> Iterator[RolloutBatch]:
    """Sample batches endlessly, in a new order of the prompts every epoch.

    Parameters
    ----------
    policy : Policy
        Samples with the weights it has when the batch is asked for.
    prompts : Prompts
        The data set.
    rewards : mapping of str to callable
        With TRL's signature, by name.
    config : Config
        Tells sizes, sampling, weights and seed.
    start : int
        Batches to leave out, those of before.
    report : Report
        Gets how many completions are done.
    sampler : Sampler, optional
        Draws; by default the policy itself.
    state : callable, optional
        Returns the state of the run when a batch is asked for, for reward functions.

    Yields
    ------
    RolloutBatch
        Of ``prompts_per_step * steps_per_generation`` prompts. Batch k is a function of the
        weights, the seed and k alone; a completion of the weights, the seed, the epoch, the row of
        its prompt and its place in the group. `group_ids` are ``epoch * n + row``.

    Raises
    ------
    PolicyError
        If the log-probabilities of the first batch are not those of the training pass.
    """
    size, batch = config.prompts_per_step * config.steps_per_generation, start
    seed, n = derived_seed(config.seed, "sample", 0), len(prompts.texts)
    if is_chat(prompts.texts):
        warn_of_open_turns(policy, config)
    while True:
        rows, numbers = visited(n, range(batch * size, (batch + 1) * size), config)
        found = sample(
            policy,
            prompts.select(rows),
            rewards,
            config,
            seed=seed,
            numbers=numbers,
            report=report,
            sampler=sampler,
            state=None if state is None else state(),
        )
        if batch == start:
            check_sampler(policy, found.rollouts, config)
        rows = list(found.rollouts.group_ids or ())
        visits = replace(found.rollouts, group_ids=[numbers[row] for row in rows])
        left_out = [number for row, number in enumerate(numbers) if row not in rows]
        yield replace(found, rollouts=visits, left_out=left_out)
        batch += 1


def offline(
    policy: Policy,
    config: Config,
    index: data.GroupIndex,
    *,
    start: int,
    rollouts: SourceLike | None = None,
    log_ends: bool = True,
) -> Iterator[RolloutBatch]:
    """Read batches of scored completions endlessly, epoch after epoch.

    Parameters
    ----------
    policy : Policy
        Tells tokenizer and context.
    config : Config
        Names the files and columns.
    index : GroupIndex
        Of the data set.
    start : int
        Batches to leave out, those of before.
    rollouts : SourceLike, optional
        The data set, where it is in memory; by default what the configuration names.
    log_ends : bool
        Whether to log what is assumed about how completions ended.

    Yields
    ------
    RolloutBatch
        Of ``prompts_per_step * steps_per_generation`` groups; the last of an epoch has the rest.
        With `dynamic_sampling` of those with a signal.
    """
    source = config.rollouts if rollouts is None else rollouts
    assert source is not None
    ends: Ends | None = None
    size = config.prompts_per_step * config.steps_per_generation
    taught = int(index.informative.sum()) if config.dynamic_sampling else index.n_groups
    thrown = {"dynamic_sampling/thrown_frac": 1 - taught / index.n_groups}
    sampling = thrown if config.dynamic_sampling else {}
    epoch, skipped = divmod(start, -(-taught // size))
    while True:
        began = time.perf_counter()
        for read in data.rollouts(
            source,
            by=config.by,
            prompt=config.prompt,
            completion=config.completion,
            reward=config.reward_column,
            reward_weights=config.reward_weights,
            old_logprobs=config.old_logprobs_column,
            prompt_tokens=config.prompt_tokens_column,
            completion_tokens=config.completion_tokens_column,
            completion_mask=config.completion_mask_column,
            truncated=config.truncated_column,
            reference_rewards=config.reference_rewards_column,
            rollout_ids=config.rollout_ids_column,
            batch_groups=size,
            shuffle=config.shuffle_dataset,
            seed=derived_seed(config.seed, "shuffle", epoch),
            start=skipped * size,
            spill_directory=config.spill_directory,
            informative=bool(config.dynamic_sampling),
            census=index,
        ):
            ends = ends or _ends(policy, config, read, log=log_ends)
            texts = as_texts(read, policy.tokenizer, config.chat_template_kwargs)
            tokens, too_long = tokenise(texts, policy.tokenizer, policy.context, config, ends=ends)
            seconds = {"time/read": time.perf_counter() - began}
            yield RolloutBatch(tokens, too_long, seconds, sampling=sampling)
            began = time.perf_counter()
        epoch, skipped = epoch + 1, 0


def _ends(policy: Policy, config: Config, read: Rollouts, *, log: bool) -> Ends:
    """Return how completions ended, and `log` what is assumed about it."""
    ends = ends_of(policy, config, chat=is_chat(read.prompts) or is_chat(read.completions))
    if config.completion_tokens_column is not None or not log:
        return ends
    known = config.old_logprobs_column or config.truncated_column
    _log.info("a completion that was not cut off ends with %s", ends.named())
    if ends.tokens and not known:
        _log.warning(
            "no column marks truncated completions, so each of fewer than %d tokens is trained to"
            " end; set truncated_column or completion_tokens_column if some were truncated",
            config.max_completion_length,
        )
    return ends


def visited(n: int, places: Sequence[int], config: Config) -> tuple[list[int], list[int]]:
    """Return the prompts at `places` of an endless pass, each epoch in its own order.

    Parameters
    ----------
    n : int
        Prompts of an epoch.
    places : sequence of int
        From 0.
    config : Config
        Tells the seed, and whether the order changes.

    Returns
    -------
    rows : list of int
        Of the prompts.
    numbers : list of int
        ``epoch * n + row``: a prompt that is met again in another epoch has another number.
    """
    if n == 0:
        raise ConfigError(f"prompts = {config.prompts!r}: contains no prompt")
    epochs = sorted({place // n for place in places})
    orders = {
        epoch: np.random.default_rng(derived_seed(config.seed, "shuffle", epoch)).permutation(n)
        if config.shuffle_dataset
        else np.arange(n)
        for epoch in epochs
    }
    rows = [int(orders[place // n][place % n]) for place in places]
    return rows, [place // n * n + row for place, row in zip(places, rows, strict=True)]
