"""The groups of one optimizer step, their advantages, and the rows to train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.batch_estimators import preferring
from gspo_rs.groups.estimators import ESTIMATORS
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.quantile_rewards import quantile_rewards
from gspo_rs.groups.statistics import informative
from gspo_rs.rollouts.rollouts import Ragged, Rollouts


@dataclass(frozen=True)
class Standing:
    """Where the rollouts of a batch stand, each in its group.

    Attributes
    ----------
    advantages : ndarray of float64, shape (n,)
        0 where the reward is unscorable, the row too long, or the group without signal.
    informative : ndarray of bool, shape (n_groups,)
        Whether what the estimator compares, the reward or any of several, differs between the rows
        of a group that can be trained on.
    penalty : ndarray of float64, shape (n,), or None
        What was added to the rewards before they were compared.
    """

    advantages: NDArray[np.float64]
    informative: NDArray[np.bool_]
    penalty: NDArray[np.float64] | None = None

    def part(self, groups: slice, rows: slice) -> "Standing":
        """Return that of some of the groups, whose rows are `rows`."""
        penalty = None if self.penalty is None else self.penalty[rows]
        return Standing(self.advantages[rows], self.informative[groups], penalty)


@dataclass(frozen=True)
class Minibatch:
    """Whole groups of tokenised rollouts with their advantages.

    Letters: ``n`` rollouts, ``m`` of them trained on.

    Attributes
    ----------
    rollouts : Rollouts
        All ``n``, with tokens.
    groups : Groups
        Which rows belong together.
    advantages : ndarray of float64, shape (n,)
        Of `Standing`.
    lengths : ndarray of int64, shape (n,)
        Sampled tokens of each completion.
    informative : ndarray of bool, shape (n_groups,)
        Of `Standing`.
    counted : ndarray of bool, shape (n,)
        What the reduction's denominator counts.
    trained : ndarray of int64, shape (m,)
        Rows that go through the model; a subset of the counted ones.
    dropped : mapping of str to int
        ``dropped_groups`` without signal that do not go through the model; rows
        ``dropped_unscorable``, ``dropped_long``, ``dropped_empty`` and ``dropped_truncated``.
    targets : ndarray of float64, shape (n,), or None
        Of `gspo_rs.losses.qrpo_loss`, where the loss is that one; NaN where unscorable or too long.
    penalty : ndarray of float64, shape (n,), or None
        Of `Standing`.
    """

    rollouts: Rollouts
    groups: Groups
    advantages: NDArray[np.float64]
    lengths: NDArray[np.int64]
    informative: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    trained: NDArray[np.int64]
    dropped: Mapping[str, int]
    targets: NDArray[np.float64] | None = None
    penalty: NDArray[np.float64] | None = None

    @property
    def compared(self) -> NDArray[np.float64]:
        """The rewards that were compared: as they are, or with the penalty."""
        reward = self.rollouts.reward
        return reward if self.penalty is None else reward + self.penalty

    @property
    def flat(self) -> int:
        """Number of groups with signal whose advantages are all 0 under the estimator."""
        codes, n_groups = self.groups.codes, self.groups.n_groups
        moved = np.bincount(codes, self.advantages != 0, minlength=n_groups) > 0
        return int((self.informative & ~moved).sum())

    @property
    def prompt_tokens(self) -> Ragged:
        """Prompt tokens of the rows trained on."""
        assert self.rollouts.prompt_tokens is not None
        return self.rollouts.prompt_tokens.rows(self.trained)

    @property
    def completion_tokens(self) -> Ragged:
        """Completion tokens of the rows trained on."""
        assert self.rollouts.completion_tokens is not None
        return self.rollouts.completion_tokens.rows(self.trained)

    @property
    def completion_mask(self) -> Ragged | None:
        """Which completion tokens of the rows trained on were sampled; None for all of them."""
        mask = self.rollouts.completion_mask
        return None if mask is None else mask.rows(self.trained)

    @property
    def rollout_codes(self) -> NDArray[np.int64] | None:
        """The rollout of each row trained on; None where each is one."""
        if self.rollouts.rollout_ids is None:
            return None
        return self.rollouts.sequences.codes[self.trained]

    def sampled(self, values: Ragged) -> Ragged:
        """Return the values of the sampled tokens of the rows trained on."""
        return values.rows(self.trained).where(self.completion_mask)


def standing_of(
    rollouts: Rollouts,
    estimator: str,
    options: Mapping[str, Any],
    *,
    too_long: NDArray[np.bool_] | None = None,
    penalty: NDArray[np.float64] | None = None,
    weights: Sequence[float] | None = None,
) -> Standing:
    """Compute the advantages of a batch of rollouts, and which of its groups have a signal.

    Parameters
    ----------
    rollouts : Rollouts
        Whole groups with rewards: all that was sampled or read at once, since some estimators
        look beyond one group.
    estimator : str
        Of `gspo_rs.advantage`.
    options : mapping
        Options of the estimator.
    too_long : ndarray of bool, shape (n,), optional
        Rows that cannot go through the model. They are left out of their groups as if they were
        not there, since the advantages of what is trained on should still sum to zero.
    penalty : ndarray of float64, shape (n,), optional
        What is added to the rewards before they are compared; not for an estimator that takes
        several.
    weights : sequence of float, optional
        Of the single rewards, for an estimator that takes several; 1 by default.

    Returns
    -------
    Standing

    Examples
    --------
    >>> texts = {"prompts": ["p"] * 2, "completions": ["a", "b"]}
    >>> rollouts = Rollouts(offsets=np.array([0, 2]), reward=np.array([1.0, 0.0]), **texts)
    >>> standing_of(rollouts, "mean", {})
    Standing(advantages=array([ 0.5, -0.5]), informative=array([ True]), penalty=None)
    """
    sequences = rollouts.sequences
    groups, firsts = sequences.groups, sequences.firsts
    fits = np.ones(rollouts.n_rollouts, dtype=bool) if too_long is None else ~too_long
    # A rollout counts while one of its sequences fits.
    left = np.bincount(sequences.codes, fits, minlength=len(firsts)) > 0

    def once(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(left, rewards[firsts], np.nan)

    if ESTIMATORS[estimator].several:
        # Where the sum ties the rewards that it is of may differ, and so teach something.
        columns = list(map(once, (rollouts.rewards or {"reward": rollouts.reward}).values()))
        signal = preferring(columns, groups, weights)
        several = np.stack(columns, axis=1)
        found = advantage(several, groups, estimator, weights=weights, **options)
    else:
        reward = once(rollouts.reward if penalty is None else rollouts.reward + penalty)
        signal = informative(reward, groups)
        found = advantage(reward, groups, estimator, **options)
    return Standing(np.where(fits, sequences.spread(found), 0.0), signal, penalty)


def prepare(
    rollouts: Rollouts,
    standing: Standing,
    *,
    too_long: NDArray[np.bool_] | None = None,
    masked: NDArray[np.bool_] | None = None,
    renormalise: bool = False,
    without_signal: bool = False,
    qrpo_beta: float | None = None,
) -> Minibatch:
    """Select the rows of some groups to train on.

    Parameters
    ----------
    rollouts : Rollouts
        Whole groups with tokens and rewards.
    standing : Standing
        Theirs.
    too_long : ndarray of bool, shape (n,), optional
        Rows that cannot go through the model.
    masked : ndarray of bool, shape (n,), optional
        Rows that are to be left out of the loss, though not of the statistics.
    renormalise : bool
        Whether groups without signal and what is masked leave the step, the reduction's denominator
        included.
    without_signal : bool
        Whether groups without signal that stay in the step go through the model: needed where
        the objective has a term that is not 0 for them.
    qrpo_beta : float, optional
        The beta of QRPO, whose targets are computed then.

    Returns
    -------
    Minibatch
        Which may have nothing to train on.

    Notes
    -----
    A group without signal has advantage 0 throughout, so leaving it out of the forward pass
    changes no gradient of the policy loss; keeping it in the denominator makes that exact. It is
    not exact for a penalty towards the starting policy: see `teaches_all` of the objective.
    """
    groups = Groups.from_offsets(rollouts.offsets)
    lengths = rollouts.sampled_lengths
    scored = ~np.isnan(rollouts.reward)
    fits = np.ones(len(lengths), dtype=bool) if too_long is None else ~too_long
    signal = standing.informative
    usable = scored & fits & (lengths > 0)
    taught = usable if masked is None else usable & ~masked
    with_signal = taught & signal[groups.codes]
    counted = with_signal if renormalise else usable
    trained = counted & taught if without_signal else with_signal
    left_out = ~signal if renormalise or not without_signal else np.zeros_like(signal)
    return Minibatch(
        rollouts=rollouts,
        groups=groups,
        advantages=standing.advantages,
        lengths=lengths,
        informative=signal,
        counted=counted,
        trained=np.flatnonzero(trained),
        dropped={
            "dropped_groups": int(left_out.sum()),
            "dropped_unscorable": int((~scored).sum()),
            "dropped_long": int((~fits).sum()),
            "dropped_empty": int((scored & fits & (lengths == 0)).sum()),
            "dropped_truncated": int((usable & ~taught).sum()),
        },
        targets=None if qrpo_beta is None else _targets(rollouts, fits, qrpo_beta),
        penalty=standing.penalty,
    )


def _targets(rollouts: Rollouts, fits: NDArray[np.bool_], beta: float) -> NDArray[np.float64]:
    """Return the targets of QRPO, among the references of each row or the rest of its group."""
    given, sequences = rollouts.reference_rewards, rollouts.sequences
    reward = np.where(fits, rollouts.reward, np.nan)[sequences.firsts]
    pool = None if given is None else [given.row(row) for row in sequences.firsts]
    quantiles, log_partition = quantile_rewards(reward, sequences.groups, beta=beta, pool=pool)
    return sequences.spread(quantiles - beta * log_partition)
