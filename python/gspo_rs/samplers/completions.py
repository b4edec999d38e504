"""The completions of one call while they are drawn: their tokens so far, and which are over.

Letters: ``B`` rows of the call, ``b`` of them that are still decoded, ``T`` most tokens of one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.samplers.stop_strings import StopStrings

_LEAVING = 0.25
"""Share of the rows that has ended when they leave: to choose the others copies their cache."""


class Drawn(NamedTuple):
    """One completion: its tokens (length,) int64 and their log-probabilities (length,) float32.

    Its last token is an end token if it `ended`, and completes a stop string if it is `stopped`.
    Where it is known, `versions` (length,) int64 are those of the weights that drew each token.
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    ended: bool
    stopped: bool
    versions: NDArray[np.int64] | None = None


class Completions:
    """What has been drawn for each row of a call.

    Parameters
    ----------
    n_rows : int
        Their number ``B``.
    most : int
        Most tokens of one, ``T``.
    ends : sequence of int
        End tokens.
    stops : StopStrings, optional
        Which tells where a text has a stop string; has begun these rows.
    device : torch.device or str
        Where they are drawn.

    Attributes
    ----------
    rows : Tensor of int64, shape (b,), or None
        Those that are still decoded, in their order; None for all.
    over : int
        How many of all have ended, at a token or at a string.

    Examples
    --------
    >>> both = Completions(2, 3, ends=[0])
    >>> both.add(torch.tensor([7, 0]), torch.tensor([-1.0, -2.0]))
    >>> both.over, both.leave(), both.rows
    (1, tensor([0]), tensor([0]))
    >>> both.add(torch.tensor([0]), torch.tensor([-3.0]))
    >>> both.full, [row.tokens.tolist() for row in both.drawn()]
    (True, [[7, 0], [0]])
    """

    def __init__(
        self,
        n_rows: int,
        most: int,
        *,
        ends: Sequence[int],
        stops: StopStrings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rows: Tensor | None = None
        self.over = 0
        self._stops = stops
        self._ends = torch.tensor(list(ends), dtype=torch.int64, device=device)
        self._tokens = torch.zeros((n_rows, most), dtype=torch.int64, device=device)
        self._logprobs = torch.zeros((n_rows, most), device=device)
        self._lengths = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self._over = torch.zeros(n_rows, dtype=torch.bool, device=device)
        self._stopped = torch.zeros(n_rows, dtype=torch.bool, device=device)
        self._position = 0

    @property
    def most(self) -> int:
        """Most tokens of a completion, ``T``."""
        return self._tokens.shape[1]

    @property
    def full(self) -> bool:
        """Whether nothing is left to be drawn."""
        return self.over == len(self._tokens) or self._position == self.most

    def add(self, tokens: Tensor, logprobs: Tensor) -> None:
        """Add the next token of each row that is still decoded, (b,) each."""
        rows = slice(None) if self.rows is None else self.rows
        self._tokens[rows, self._position] = tokens
        self._logprobs[rows, self._position] = logprobs
        # What is drawn for a row that has ended, and not left, is not counted.
        self._lengths[rows] += ~self._over[rows]
        self._over[rows] |= torch.isin(tokens, self._ends)
        self._position += 1
        if self._stops is not None:
            going = (~self._over).nonzero()[:, 0].tolist()
            found = self._stops.completed(going, self._tokens[:, : self._position])
            self._over[found] = self._stopped[found] = True
        self.over = int(self._over.sum())

    def leave(self) -> Tensor | None:
        """Let the rows that are over leave, if there are enough.

        Returns
        -------
        Tensor of int64, shape (b,), or None
            The places of those that stay among the rows before; None if all do.
        """
        before = len(self._tokens) if self.rows is None else len(self.rows)
        going = len(self._tokens) - self.over
        if before - going < _LEAVING * before or going == before:
            return None
        stay = (~self._over if self.rows is None else ~self._over[self.rows]).nonzero()[:, 0]
        self.rows = stay if self.rows is None else self.rows[stay]
        return stay

    def drawn(self) -> list[Drawn]:
        """Return the completion of each row.

        Raises
        ------
        FloatingPointError
            If a log-probability is not finite.
        """
        ended = self._over & ~self._stopped
        parts = (self._tokens, self._logprobs, self._lengths, ended, self._stopped)
        drawn = []
        for tokens, logprobs, length, *how in zip(
            *(part.cpu().numpy() for part in parts), strict=True
        ):
            if not np.isfinite(logprobs[:length]).all():
                raise FloatingPointError(
                    "the model's logits are not finite: its weights are broken"
                )
            drawn.append(Drawn(tokens[:length], logprobs[:length], bool(how[0]), bool(how[1])))
        return drawn
