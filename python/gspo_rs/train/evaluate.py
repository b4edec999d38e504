"""Evaluation: the policy compared with the starting policy on the same prompts."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.samplers import Sampler
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.collect import sample
from gspo_rs.train.rollout.policy_sampler import derived_seed
from gspo_rs.train.rollout.reward_log import means_of
from gspo_rs.train.step.group_metrics import mean_of_known
from gspo_rs.train.trainer_state import TrainerState


@dataclass(frozen=True)
class Baseline:
    """Prompts that every comparison uses, and the starting policy's rewards on them.

    Attributes
    ----------
    prompts : Prompts
        The first `eval_size` of the held-out ones, or of the training prompts.
    pool : ndarray of float64, shape (n_prompts, num_generations)
        Rewards of the starting policy's completions; NaN where unscorable.
    """

    prompts: Prompts
    pool: NDArray[np.float64]


def rewards_of(
    policy: Policy,
    prompts: Prompts,
    functions: Mapping[str, RewardFunction],
    config: Config,
    *,
    draw: int,
    report: Report = silent,
    sampler: Sampler | None = None,
    state: TrainerState | None = None,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Sample completions of the prompts and score them; random generators are left unchanged.

    Parameters
    ----------
    policy : Policy
        With the weights that sample.
    prompts : Prompts
        One group each.
    functions : mapping of str to callable
        With TRL's signature, by name.
    config : Config
        Decides group size, lengths, sampling and the weights of the rewards.
    draw : int
        Part of the seed: another draw gives other completions of the same policy.
    report : Report
        Gets how many completions are done.
    sampler : Sampler, optional
        Draws, with these weights; by default the policy itself.
    state : TrainerState, optional
        For reward functions.

    Returns
    -------
    rewards : ndarray of float64, shape (n_prompts, n)
        With ``n`` of the largest group. Weighted sum if there are several. NaN if unscorable,
        beyond a smaller group, and if the prompt was dropped as too long.
    logged : dict of str to float
        Means of the metrics that reward functions have logged, as ``eval/<name>``.
    """
    seed = derived_seed(config.seed, "evaluate", draw)
    with _undisturbed(seed, policy.device):
        batch = sample(
            policy,
            prompts,
            functions,
            config,
            seed=seed,
            report=_evaluating(report),
            sampler=sampler,
            state=state,
        )
    found = batch.rollouts
    once, groups = found.sequences.firsts, found.sequences.groups
    rewards = np.full((len(prompts), groups.sizes.max(initial=config.num_generations)), np.nan)
    places = np.arange(len(once)) - groups.offsets[groups.codes]
    rewards[np.asarray(found.group_ids, np.int64)[groups.codes], places] = found.reward[once]
    return rewards, means_of(batch.logged, "eval/")


def _evaluating(report: Report) -> Report:
    """Say of the sampling that it is for a comparison."""

    def renamed(what: str, done: int = 0, total: int = 0) -> None:
        report("evaluating" if what == "sampling" else what, done, total)

    return renamed


def compare(rewards: NDArray[np.float64], pool: NDArray[np.float64]) -> dict[str, float]:
    """Compare completions with those of the starting policy on the same prompts.

    Parameters
    ----------
    rewards : ndarray of float64, shape (n_prompts, n)
        Of the policy; NaN is left out.
    pool : ndarray of float64, shape (n_prompts, n_pool)
        Of the starting policy; NaN is left out.

    Returns
    -------
    dict of str to float
        ``eval/reward`` and ``eval/start_reward``, the means, and ``eval/percentile``: the mean
        over completions of the share of the pool they beat, a tie counting half. 0.5 where the
        two policies are alike.

    Examples
    --------
    >>> compare(np.array([[0.5, 1.0]]), np.array([[0.0, 0.5]]))["eval/percentile"]
    0.875
    """
    pairs = zip(rewards, pool, strict=True)
    shares = [share for row, rivals in pairs for share in _beaten(row, rivals)]
    return {
        "eval/reward": mean_of_known(rewards),
        "eval/start_reward": mean_of_known(pool),
        "eval/percentile": mean_of_known(np.array(shares)),
    }


def _beaten(row: NDArray[np.float64], rivals: NDArray[np.float64]) -> NDArray[np.float64]:
    row, rivals = row[~np.isnan(row)], np.sort(rivals[~np.isnan(rivals)])
    if not len(rivals):
        return np.empty(0)
    below, not_above = (np.searchsorted(rivals, row, side) for side in ("left", "right"))
    return (below + not_above) / 2 / len(rivals)


@contextmanager
def _undisturbed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators, which a reward function may use, and restore them after."""
    before: Any = random.getstate(), np.random.get_state()
    # By default it would save those of all GPUs, and so occupy memory on each.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
