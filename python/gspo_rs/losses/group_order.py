"""Which members of each group a listwise loss compares, and their scores.

Letters: ``B`` sequences, ``P`` groups of at least two scored members, ``N`` the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.groups.checks import as_rewards
from gspo_rs.groups.groups import Groups, as_groups
from gspo_rs.losses.layout import LOG_PROB_FLOOR, Layout, to_device


def sequence_scores(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor | None,
    *,
    beta: float = 0.1,
    average: bool = False,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the score of each sequence: how much likelier the policy made it than the reference.

    Parameters
    ----------
    logprobs, ref_logprobs : Tensor, shape (B, T) or (n_tokens,)
        Log-probabilities of the sampled tokens under the policy and under the reference, in nats.
    mask, lengths
        The layout, as in `gspo_loss`.
    beta : float
        Factor of the log-ratio.
    average : bool
        Whether the log-ratio is the mean over the tokens instead of the sum.

    Returns
    -------
    Tensor of float64, shape (B,)
        ``beta sum_t (l_it - f_it)``, with gradient; 0 for a sequence without tokens. Summed in
        float64: in float32 the difference of two long sums can have the wrong sign.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> new, ref = torch.tensor([-1.0, -2.0, -1.0]), torch.tensor([-2.0, -2.0, -1.5])
    >>> sequence_scores(new, ref, None, lengths=torch.tensor([2, 1]))
    tensor([0.1000, 0.0500], dtype=torch.float64)
    """
    layout = Layout.of(logprobs, mask, lengths)
    log_ratio = layout.log_ratio(logprobs.double(), ref_logprobs.double())
    bounded = log_ratio.clamp(LOG_PROB_FLOOR, -LOG_PROB_FLOOR)
    return beta * (layout.mean(bounded) if average else layout.total(bounded))


@dataclass(frozen=True)
class Order:
    """The members of each group in ascending order of reward.

    Attributes
    ----------
    rewards : ndarray of float64, shape (B,)
        As given.
    groups : Groups
        Of all B sequences.
    index : Tensor of int64, shape (P, N)
        The sequence at each place; places after the last member hold 0.
    filled : Tensor of bool, shape (P, N)
        Whether a place has a member.
    start : Tensor of int64, shape (P, N)
        The first place of the members with the same reward.
    above : Tensor of int64
        Where the members with a lower level below them are among the P N places.
    level : Tensor of int64
        The level of each of those, numbered through all groups.
    n_levels : int
        How many those are.
    best : Tensor of int64
        Where the first of the best members is, in each group with more than one level.
    n_beats : int
        Pairs of unlike reward.
    """

    rewards: NDArray[np.float64]
    groups: Groups
    index: Tensor
    filled: Tensor
    start: Tensor
    above: Tensor
    level: Tensor
    n_levels: int
    best: Tensor
    n_beats: int

    @classmethod
    def of(cls, scores: Tensor, rewards: Any, groups: Any) -> Order:
        """Sort the scored members of each group by reward, then by row."""
        values = as_rewards(rewards.numpy(force=True) if isinstance(rewards, Tensor) else rewards)
        cut = as_groups(groups.numpy(force=True) if isinstance(groups, Tensor) else groups)
        if scores.dim() != 1 or not len(scores) == len(values) == cut.n_rollouts:
            raise ValueError(
                f"scores {tuple(scores.shape)}, {len(values)} rewards and {cut.n_rollouts} group "
                "ids should be one of each per sequence"
            )
        if np.isinf(values).any():
            raise ValueError(f"reward at row {int(np.isinf(values).argmax())} is infinite")
        scored = np.flatnonzero(~np.isnan(values) & (cut.codes >= 0))
        rows = scored[np.lexsort((values[scored], cut.codes[scored]))]
        sizes = np.bincount(cut.codes[rows], minlength=cut.n_groups)
        rows, sizes = rows[sizes[cut.codes[rows]] > 1], sizes[sizes > 1]
        filled = np.arange(sizes.max(initial=0)) < sizes[:, None]
        index = np.zeros(filled.shape, dtype=np.int64)
        index[filled] = rows
        # The first place of a row differs from the NaN before it, so every row starts a level.
        new = np.diff(values[index], axis=1, prepend=np.nan) != 0
        start = np.maximum.accumulate(np.where(new, np.arange(filled.shape[1]), 0), axis=1)
        # All that a mask would choose is counted here: a GPU would have to be waited for.
        places = np.arange(filled.shape[1])
        above = np.flatnonzero(filled & (start > 0))
        level = np.cumsum((start == places).ravel()[above]) - 1
        ends = np.take_along_axis(start, np.maximum(sizes - 1, 0)[:, None], axis=1)[:, 0]
        best = (np.arange(len(sizes)) * filled.shape[1] + ends)[ends > 0]
        arrays = {"index": index, "filled": filled, "start": start}
        arrays |= {"above": above, "level": level, "best": best}
        found = {
            name: to_device(torch.from_numpy(array), scores.device)
            for name, array in arrays.items()
        }
        n_levels, n_beats = int(level.max(initial=-1)) + 1, int(start[filled].sum())
        return cls(values, cut, **found, n_levels=n_levels, n_beats=n_beats)

    @property
    def sizes(self) -> Tensor:
        """Scored members of each group, (P,)."""
        return self.filled.sum(dim=1)

    @property
    def n_pairs(self) -> Tensor:
        """Pairs of members of each group, ties included, (P,)."""
        return self.sizes * (self.sizes - 1) // 2

    @property
    def beats(self) -> Tensor:
        """Whether the row's member has a higher reward than the column's, (P, N, N)."""
        higher = self.start.unsqueeze(2) > self.start.unsqueeze(1)
        return higher & self.filled.unsqueeze(2) & self.filled.unsqueeze(1)

    def rows(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Lay the values of the sequences out by group and rising reward, (P, N)."""
        return torch.where(self.filled, values[self.index], fill)

    def margins(self, scores: Tensor) -> Tensor:
        """Subtract the score of the column's member from that of the row's, (P, N, N)."""
        h = self.rows(scores)
        return h.unsqueeze(2) - h.unsqueeze(1)

    def extremes(self, scores: Tensor) -> Tensor:
        """Subtract the score of the worst member from that of the best, where they differ."""
        h = self.rows(scores)
        worst = self.best - self.best % max(h.shape[1], 1)  # the first place of the same group
        return h.flatten().index_select(0, self.best) - h.flatten().index_select(0, worst)

    def finish(
        self, loss: Tensor, scores: Tensor, n_groups: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Divide the sum over groups by their number, and measure how well they are ordered."""
        if n_groups is not None and n_groups < 1:
            raise ValueError(f"n_groups={n_groups} should be at least 1")
        with torch.no_grad():
            beats, margins = self.beats, self.margins(scores.double())
            wins = (margins > 0).double() + (margins == 0).double() / 2
            means = (torch.where(beats, x, 0.0).sum() / self.n_beats for x in (wins, margins))
            metrics = dict(zip(("pairs/accuracy", "pairs/margin"), means, strict=True))
        dtype = scores.dtype if scores.dtype == torch.float64 else torch.float32
        return (loss / (n_groups or max(len(self.index), 1))).to(dtype), metrics
