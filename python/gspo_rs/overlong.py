"""A reward for stopping in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gspo_rs.estimators import as_count
from gspo_rs.row_columns import Floats


def soft_overlong_penalty(lengths: ArrayLike, max_length: int = 20480, cache: int = 4096) -> Floats:
    """Return what DAPO adds to the rewards of completions that grow too long.

    Parameters
    ----------
    lengths : array_like of int, shape (n,)
        Tokens of each completion, a sampled end token included.
    max_length : int
        The length from which the penalty is -1.
    cache : int
        Over how many tokens before `max_length` it falls from 0 to -1.

    Returns
    -------
    ndarray of float64, shape (n,)
        In [-1, 0], to be added to the rewards before they are grouped.

    Raises
    ------
    TypeError
        If a length, `max_length` or `cache` is not an integer.
    ValueError
        If a length is negative, or not ``1 <= cache <= max_length``.

    References
    ----------
    .. [1] Q. Yu et al. (2025). DAPO: an open-source LLM reinforcement learning system at scale.
       arXiv 2503.14476.

    Examples
    --------
    >>> soft_overlong_penalty([70, 90, 200], max_length=100, cache=20)
    array([ 0. , -0.5, -1. ])
    """
    longest = as_count("max_length", max_length, lowest=1)
    if as_count("cache", cache, lowest=1) > longest:
        raise ValueError(f"cache is {cache}; it is at most max_length, {longest}")
    found = np.asarray(lengths)
    if found.dtype.kind not in "iu":
        raise TypeError(f"lengths are of type {found.dtype}; they are integers")
    if found.size and found.min() < 0:
        raise ValueError(f"the length at index {int(found.argmin())} is {found.min()}")
    over = np.minimum(np.maximum(found.astype(np.float64) - (longest - cache), 0.0), cache)
    return 0.0 - over / cache
