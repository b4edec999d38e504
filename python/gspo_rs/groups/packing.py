"""Micro-batches of whole sequences under a token budget."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import _core
from gspo_rs.groups.array_types import as_numbers
from gspo_rs.groups.checks import as_integers, plain


def pack(lengths: ArrayLike, max_tokens: int) -> list[NDArray[np.int64]]:
    """Pack sequences into few micro-batches of at most `max_tokens` tokens each.

    Parameters
    ----------
    lengths : array_like of int, shape (n,)
        Tokens of each sequence.
    max_tokens : int
        The budget of one micro-batch, in tokens.

    Returns
    -------
    list of ndarray of int64, or of tensors for a tensor
        Indices of the sequences of each micro-batch, rising; every sequence is in exactly
        one. The packing is the same for the same input.

    Raises
    ------
    ValueError
        If a sequence alone is over the budget, or a length is negative; the message names
        its index.
    TypeError
        If lengths are not integers.

    Notes
    -----
    Best fit, longest first: at most 11/9 of the optimal number of packs, plus 6/9 [1]_.

    References
    ----------
    .. [1] G. Dosa (2007). The tight bound of first fit decreasing bin-packing algorithm is
       FFD(I) <= 11/9 OPT(I) + 6/9. ESCAPE 2007, LNCS 4614, 1-11.

    Examples
    --------
    >>> pack([5, 3, 4, 2], max_tokens=7)
    [array([0, 3]), array([1, 2])]
    """
    given = plain(lengths)
    if np.size(given) == 0:
        return []
    packs = _core.pack(as_integers("lengths", given), int(max_tokens))
    return [as_numbers(pack, lengths) for pack in packs]
