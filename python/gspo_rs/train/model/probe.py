"""Probe: whether a model's tokens attend to tokens they should not see, beyond rounding.

Letters: ``R`` rows and ``S`` columns of the model's input, ``D`` hidden size.

What reaches the head is compared, (R, S, D), as the step will compute it. Other tokens beside a
sequence move its rounding, most of all in a mixture of experts, whose products are cut by expert;
and rounding can tip a router over to another expert, once in a while. So rows are compared that
went through the model together, and a difference has to show between any two of several.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.logprobs.model_head import OutputHead, head_inputs

LENGTH = 320
"""Longest sequence tried: beyond the windows and the blocks of compressed tokens there are."""
CUTS = (1, 5, 31, 101, 201, 317)
"""Places after which tokens change: at the front, and on no border of a block."""
PACKED = 160
"""Longest sequence of a pack."""
TRIALS = 3
ROUNDING = 2e-6, 2e-2
"""Largest difference of rounding between rows of one pass, relative: float32, and less. There is
none on a CPU, whereas the weakest sight of a tiny model with fresh weights makes 1e-4."""
ROUNDING_APART = 5e-5, 1e-1
"""The same between passes of other shapes, which make 3e-6, and the weakest sight 7e-4."""


class Subject(Protocol):
    """The interface of `gspo_rs.train.model.policy.Policy` that the probe needs."""

    @property
    def model(self) -> Any: ...  # noqa: D102
    @property
    def tokenizer(self) -> Any: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def autocast(self) -> torch.dtype | None: ...  # noqa: D102
    @property
    def context(self) -> int | None: ...  # noqa: D102
    @property
    def sharded(self) -> object: ...  # noqa: D102
    def read(self, function: Callable[..., Any], *given: Any) -> Any: ...  # noqa: D102
    def computing(self) -> AbstractContextManager[Any]: ...  # noqa: D102


@torch.no_grad()
def sees_ahead(policy: Subject) -> bool:
    """Return whether a token's hidden state changes with the tokens that follow it.

    Parameters
    ----------
    policy : Policy
        Any layout.

    Returns
    -------
    bool
        True if at some place every change of what follows it shows before it.

    Raises
    ------
    ValueError
        If the model has no output head, or turns its output into logits in a way not known here.
    """
    words = _words(policy)
    size = min(policy.context or LENGTH, LENGTH)
    cuts = sorted({*(cut for cut in CUTS if cut < size - 1), max(size - 1, 1)})
    rows = _branches(len(words), size, [*cuts, cuts[-1]])
    found = _hidden(policy, words[rows])
    for place, cut in enumerate(cuts):
        # Row 0 and those that leave it at this place or later share all tokens before it. Where
        # a router tipped over in one of three, the other two still agree.
        branches = (0, place + 1), (0, place + 2), (place + 1, place + 2)
        pairs = [pair for pair in branches if (rows[pair[0]] != rows[pair[1]]).any()]
        apart = [_difference(found[one, :cut], found[other, :cut]) for one, other in pairs]
        if apart and min(apart) > ROUNDING[not _exact(policy)]:
            return True
    return False


@torch.no_grad()
def mixes_packed(policy: Subject) -> bool:
    """Return whether a sequence packed after another differs from the same sequence alone.

    Parameters
    ----------
    policy : Policy
        Any layout.

    Returns
    -------
    bool
        True if in every trial the sequence saw the other, or other positions than its own.

    Raises
    ------
    ValueError
        As in `sees_ahead`.
    """
    words, size = _words(policy), min(policy.context or PACKED, PACKED)
    first = max(size - 7, 1)  # on no border of a block
    draw = np.random.default_rng(0)
    places = np.concatenate([np.arange(first), np.arange(size)])[None]
    apart = []
    for _ in range(TRIALS):
        pack = draw.choice(words, (1, first + size))
        together = _hidden(policy, pack, places)[0, first:]
        apart.append(_difference(_hidden(policy, pack[:, first:])[0], together))
    return min(apart) > ROUNDING_APART[not _exact(policy)]


def _exact(policy: Subject) -> bool:
    """Return whether to probe in float32, where a weak influence shows.

    That of its weights, whatever it trains in; flash attention alone has no float32, and neither
    have weights that are cut over processes, which are gathered in the precision of the run.
    """
    if policy.sharded is not None and policy.autocast is not None:
        return False
    if next(policy.model.parameters()).dtype == torch.bfloat16:
        return False
    attention = str(getattr(policy.model.config, "_attn_implementation", ""))
    return policy.autocast is None or "flash" not in attention


def _words(policy: Subject) -> NDArray[np.int64]:
    """Return the tokens to draw from: no special ones, unless there are no others."""
    known = np.arange(policy.model.get_input_embeddings().num_embeddings)
    plain = np.setdiff1d(known, np.array(policy.tokenizer.all_special_ids, dtype=np.int64))
    return plain if len(plain) else known


def _hidden(
    policy: Subject, ids: NDArray[np.int64], places: NDArray[np.int64] | None = None
) -> Tensor:
    given = (None if x is None else torch.tensor(x, device=policy.device) for x in (ids, places))
    rows, position_ids = given
    assert rows is not None

    def hidden(model: Any) -> Tensor:
        return head_inputs(model, OutputHead.of(model), rows, None, position_ids)

    with contextlib.nullcontext() if _exact(policy) else policy.computing():
        found: Tensor = policy.read(hidden)
    return found


def _branches(n_words: int, size: int, cuts: list[int]) -> NDArray[np.int64]:
    """Draw a row, and for each cut a row that differs from there on in every token."""
    draw = np.random.default_rng(0)
    trunk, shift = draw.integers(0, n_words, size), draw.integers(0, n_words, size)
    rows = np.tile(trunk, (len(cuts) + 1, 1))
    for row, cut in enumerate(cuts, start=1):
        step = 1 + (shift[cut:] + row) % max(n_words - 1, 1)
        rows[row, cut:] = (trunk[cut:] + step) % n_words
    return rows


def _difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two hidden states (S, D) relative to their size."""
    one, other = one.double(), other.double()
    size = torch.linalg.vector_norm(one, dim=-1).clamp(min=1e-12)
    return float((torch.linalg.vector_norm(one - other, dim=-1) / size).max())
