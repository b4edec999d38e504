"""Batches of rollouts, sampled by the policy or read from scored completions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gspo_rs import data
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.data.source import SourceLike
from gspo_rs.rewards.functions import RewardFunction, score
from gspo_rs.rollouts.rollouts import Rollouts, summed
from gspo_rs.samplers import transformers
from gspo_rs.samplers.special_tokens import Ends, end_tokens
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.agreement import check_sampler
from gspo_rs.train.rollout.chat import as_answers, as_texts, is_chat, rendered
from gspo_rs.train.rollout.tokenize import tokenise

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
    """

    rollouts: Rollouts
    too_long: NDArray[np.bool_]
    seconds: dict[str, float]
    dropped: int = 0


def sample(
    policy: Policy,
    prompts: Prompts,
    rewards: Mapping[str, RewardFunction],
    config: Config,
    *,
    seed: int,
    report: Report = silent,
) -> RolloutBatch:
    """Sample completions of some prompts and score them.

    Parameters
    ----------
    policy : Policy
        Samples.
    prompts : Prompts
        One group each; the reward functions get their other columns.
    rewards : mapping of str to callable
        With TRL's signature, by name.
    config : Config
        Tells group size, lengths, sampling and the weights of the rewards.
    seed : int
        The completions follow from it.
    report : Report
        Gets how many completions are done.

    Returns
    -------
    RolloutBatch
        Groups in the order of the prompts, without those that were too long and dropped.
    """
    began = time.perf_counter()
    with policy.computing():
        rollouts = transformers.generate(
            policy.model,
            policy.tokenizer,
            rendered(policy.tokenizer, prompts.texts),
            num_generations=config.num_generations,
            max_completion_length=config.max_completion_length,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            max_prompt_length=config.max_prompt_length,
            on_long_prompt=config.on_long,
            seed=seed,
            progress=partial(report, "sampling"),
        )
    generated = time.perf_counter()
    report("scoring")
    assert rollouts.group_ids is not None
    asked = prompts.select(np.repeat(rollouts.group_ids, config.num_generations).tolist())
    chat = is_chat(prompts.texts)
    texts = asked.texts, as_answers(rollouts.completions) if chat else rollouts.completions
    scores = {
        name: score(reward, *texts, asked.columns, name=name) for name, reward in rewards.items()
    }
    seconds = {
        "time/generate": generated - began,
        "time/score": time.perf_counter() - generated,
    }
    nothing = np.zeros(rollouts.n_rollouts, dtype=bool)
    scored = replace(rollouts, **summed(scores, config.reward_weights))
    return RolloutBatch(scored, nothing, seconds, len(prompts) - rollouts.n_groups)


def online(
    policy: Policy,
    prompts: Prompts,
    rewards: Mapping[str, RewardFunction],
    config: Config,
    *,
    start: int,
    report: Report = silent,
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

    Yields
    ------
    RolloutBatch
        Of ``prompts_per_step * steps_per_generation`` prompts. Batch k is a function of the
        weights, the seed and k alone.

    Raises
    ------
    PolicyError
        If the log-probabilities of the first batch are not those of the training pass.
    """
    size, batch = config.prompts_per_step * config.steps_per_generation, start
    while True:
        rows = _visited(len(prompts.texts), range(batch * size, (batch + 1) * size), config)
        seed = derived_seed(config.seed, "sample", batch)
        found = sample(policy, prompts.select(rows), rewards, config, seed=seed, report=report)
        if batch == start:
            check_sampler(policy, found.rollouts, config)
        yield found
        batch += 1


def offline(
    policy: Policy,
    config: Config,
    index: data.GroupIndex,
    *,
    start: int,
    rollouts: SourceLike | None = None,
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

    Yields
    ------
    RolloutBatch
        Of ``prompts_per_step * steps_per_generation`` groups; the last of an epoch has the rest.
    """
    source = config.rollouts if rollouts is None else rollouts
    assert source is not None
    ends = Ends.of(policy.tokenizer, end_tokens(policy.model, policy.tokenizer))
    _log_ends(config, ends)
    size = config.prompts_per_step * config.steps_per_generation
    epoch, skipped = divmod(start, -(-index.n_groups // size))
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
            batch_groups=size,
            shuffle=config.shuffle_dataset,
            seed=derived_seed(config.seed, "shuffle", epoch),
            start=skipped * size,
            spill_directory=config.spill_directory,
            census=index,
        ):
            texts = as_texts(read, policy.tokenizer)
            tokens, too_long = tokenise(texts, policy.tokenizer, policy.context, config, ends=ends)
            yield RolloutBatch(tokens, too_long, {"time/read": time.perf_counter() - began})
            began = time.perf_counter()
        epoch, skipped = epoch + 1, 0


def _log_ends(config: Config, ends: Ends) -> None:
    """Log what is assumed about how completions ended."""
    if config.completion_tokens_column is not None:
        return
    known = config.old_logprobs_column or config.truncated_column
    _log.info("a completion that was not cut off ends with %s", ends.named())
    if ends.tokens and not known:
        _log.warning(
            "no column marks truncated completions, so each of fewer than %d tokens is trained to"
            " end; set truncated_column or completion_tokens_column if some were truncated",
            config.max_completion_length,
        )


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """Derive a separate seed for each purpose and position of a run.

    Parameters
    ----------
    seed : int
        Of the run.
    purpose : str
        What is drawn.
    index : int
        Which draw.

    Returns
    -------
    int
        In ``[0, 2**62)``.

    Examples
    --------
    >>> derived_seed(0, "sample", 1) == derived_seed(0, "sample", 2)
    False
    """
    words = np.random.SeedSequence([seed, index, *purpose.encode()]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(2))


def _visited(n: int, places: range, config: Config) -> list[int]:
    """Return the prompts at `places` of an endless pass, each epoch in its own order."""
    if n == 0:
        raise ConfigError(f"prompts = {config.prompts!r}: contains no prompt")
    epochs = range(places.start // n, -(-places.stop // n))
    orders = {
        epoch: np.random.default_rng(derived_seed(config.seed, "shuffle", epoch)).permutation(n)
        if config.shuffle_dataset
        else np.arange(n)
        for epoch in epochs
    }
    return [int(orders[place // n][place % n]) for place in places]
