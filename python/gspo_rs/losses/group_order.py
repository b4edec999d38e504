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
from gspo_rs.losses.layout import LOG_PROB_FLOOR, Layout


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
    """

    rewards: NDArray[np.float64]
    groups: Groups
    index: Tensor
    filled: Tensor
    start: Tensor

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
        tensors = (torch.from_numpy(x).to(scores.device) for x in (index, filled, start))
        return cls(values, cut, *tensors)

    @property
    def sizes(self) -> Tensor:
        """Scored members of each group, (P,)."""
        return self.filled.sum(dim=1)

    @property
    def n_pairs(self) -> Tensor:
        """Pairs of members of each group, ties included, (P,)."""
        return self.sizes * (self.sizes - 1) // 2

    @property
    def above(self) -> Tensor:
        """Members with a lower level below them, (P, N)."""
        return self.filled & (self.start > 0)

    @property
    def level(self) -> Tensor:
        """The level of each member `above`, numbered through all groups."""
        places = torch.arange(self.start.shape[1], device=self.start.device)
        return (self.start == places)[self.above].cumsum(dim=0) - 1

    @property
    def n_levels(self) -> int:
        """Levels with a lower one in their group, in all groups."""
        return int(self.level.max()) + 1 if len(self.level) else 0

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
        best = self.start.gather(1, self.sizes.unsqueeze(1) - 1)  # (P, 1)
        h = self.rows(scores)
        margin = h.gather(1, best)[:, 0] - h[:, :1].sum(dim=1)
        return margin[best[:, 0] > 0]

    def finish(
        self, loss: Tensor, scores: Tensor, n_groups: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Divide the sum over groups by their number, and measure how well they are ordered."""
        if n_groups is not None and n_groups < 1:
            raise ValueError(f"n_groups={n_groups} should be at least 1")
        with torch.no_grad():
            margins = self.margins(scores.double())[self.beats]
            wins = (margins > 0).double() + (margins == 0).double() / 2
            metrics = {"pairs/accuracy": wins.mean(), "pairs/margin": margins.mean()}
        dtype = scores.dtype if scores.dtype == torch.float64 else torch.float32
        return (loss / (n_groups or max(len(self.index), 1))).to(dtype), metrics
