"""What takes from a reward: length and repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gspo_rs.groups.advantages import soft_overlong_penalty
from gspo_rs.rewards.library.texts import said

__all__ = ["overlong_penalty", "repetition_penalty"]


def overlong_penalty(
    completions: Sequence[Any], *, limit: int = 8000, cache: int = 2000, **_: Any
) -> list[float]:
    """0 up to `cache` characters before `limit`, from there falling to -1 at `limit` and beyond.

    Parameters
    ----------
    completions : sequence
        Texts or messages.
    limit, cache : int
        Characters; other numbers with ``functools.partial`` in a file of your own.

    Traps
    -----
    A completion that is wrong is not made better by being short: add it to what says that it is
    right. Characters are no tokens, of which one has about four in English and one or two in
    Chinese; in training, ``overlong_penalty = "soft"`` counts tokens.

    References
    ----------
    DAPO (arXiv:2503.14476), equation 13: `soft_overlong_penalty`, of characters.

    Examples
    --------
    >>> overlong_penalty(completions=["a" * 6000, "a" * 7000, "a" * 9000])
    [0.0, -0.5, -1.0]
    """
    if not 0 < cache <= limit:
        raise ValueError(f"cache is {cache} and limit {limit}; a cache is above 0 and in the limit")
    lengths = np.array([len(said(one)) for one in completions], dtype=np.int64)
    found: list[float] = soft_overlong_penalty(lengths, limit, cache).tolist()
    return found


def repetition_penalty(
    completions: Sequence[Any], *, ngram: int = 3, lowest: float = -1.0, **_: Any
) -> list[float]:
    """From 0 down to `lowest`: the share of runs of `ngram` words that came before.

    Parameters
    ----------
    completions : sequence
        Texts or messages.
    ngram : int
        Words of a run; what is between spaces is a word, in small letters.
    lowest : float
        The reward that a completion of one word, repeated without end, comes near.

    Traps
    -----
    Text without spaces, such as Chinese, is one word and never punished. Code and tables repeat
    themselves for good reasons.

    References
    ----------
    Yeo et al. 2025 (arXiv:2502.03373), appendix C.2, on words in place of tokens.

    Examples
    --------
    >>> repetition_penalty(completions=["so it is so it is so", "it is so"])
    [-0.4, 0.0]
    """
    if ngram < 1 or lowest > 0:
        raise ValueError(f"ngram is {ngram} and lowest {lowest}; one is at least 1, one at most 0")
    return [_repeated(said(one).lower().split(), ngram) * lowest + 0.0 for one in completions]


def _repeated(words: list[str], ngram: int) -> float:
    runs = [tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)]
    return (len(runs) - len(set(runs))) / len(runs) if runs else 0.0
