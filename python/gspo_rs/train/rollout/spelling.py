"""How many ways the tokens of a vocabulary can spell a text."""

from collections.abc import Collection

import numpy as np


def spellings(text: str, most: int, vocabulary: Collection[str]) -> list[int]:
    """Count the ways to spell a text with pieces of a vocabulary.

    Parameters
    ----------
    text : str
        As the pieces write it.
    most : int
        Most pieces that count.
    vocabulary : collection of str
        The pieces.

    Returns
    -------
    list of int, length most + 1
        Ways by their number of pieces: 0, 1, or 2 for more than one.

    Examples
    --------
    >>> spellings("aba", 3, {"a", "b", "ab", "ba"})
    [0, 0, 2, 1]
    """
    longest = max(map(len, vocabulary), default=0)
    ways = np.zeros((len(text) + 1, most + 1), dtype=np.int8)
    ways[0, 0] = 1
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - longest), end):
            if text[start:end] in vocabulary:
                ways[end, 1:] += ways[start, :-1]
                np.minimum(ways[end], 2, out=ways[end])
    counted: list[int] = ways[-1].tolist()
    return counted
