"""Uniform numbers by place, so that what is drawn for a row does not depend on the rows beside it.

Letters: ``B`` rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["uniforms"]

_PER_BLOCK = 4
"""Numbers that the generator makes of one value of its counter."""


def uniforms(
    seed: int, rows: Sequence[tuple[int, int]], start: int, stop: int
) -> NDArray[np.float64]:
    """Return the uniform numbers of some rows at some positions.

    Parameters
    ----------
    seed : int
        Of all of them; of a larger one than 64 bits the lowest are taken.
    rows : sequence of (int, int), length B
        The number of the prompt and that of the generation, neither negative.
    start, stop : int
        Positions from and to, not included.

    Returns
    -------
    ndarray of float64, shape (B, stop - start)
        In [0, 1). Each is a function of seed, prompt, generation and position alone: the bits of
        Philox [1]_ with seed and prompt as key, and generation and position as counter.

    References
    ----------
    .. [1] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw (2011). Parallel random numbers: as
       easy as 1, 2, 3. SC '11. Philox4x64-10.

    Examples
    --------
    >>> both = uniforms(0, [(7, 0), (7, 1)], 0, 8)
    >>> np.array_equal(uniforms(0, [(7, 1)], 5, 8)[0], both[1, 5:])
    True
    """
    first = start // _PER_BLOCK
    bits = np.empty((len(rows), stop - first * _PER_BLOCK), dtype=np.uint64)
    generator = np.random.Philox(0)
    state = generator.state  # with an empty buffer; to set it takes a tenth of making a generator
    for row, (prompt, generation) in zip(bits, rows, strict=True):
        state["state"] = {
            "counter": np.array([first, generation, 0, 0], dtype=np.uint64),
            "key": np.array([seed % 2**64, prompt], dtype=np.uint64),
        }
        generator.state = state
        row[:] = generator.random_raw(len(row))
    # As NumPy makes a float64 of 64 bits; its distributions may change, the bits may not.
    kept = bits[:, start % _PER_BLOCK :] >> np.uint64(11)
    return np.ldexp(kept.astype(np.float64), -53)
