"""Keys and values that grow in place: a token is written behind those before it, which stay there.

Letters: ``B`` rows, ``H`` heads, ``D`` their width, ``n`` tokens held, ``q`` new ones.
"""

from functools import partial
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

__all__ = ["grow", "keeps_rows_apart"]


def keeps_rows_apart(cache: object) -> bool:
    """Return whether a cache holds keys and values alone, so that its rows can be chosen.

    Parameters
    ----------
    cache : object
        What generation of transformers gives a model to remember by; None where that is nothing.
    """
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and {type(one) for one in cache.layers} <= set(plain)


def grow(cache: DynamicCache, most: int, *, transposed: bool = False) -> None:
    """Let an empty cache that `keeps_rows_apart` grow in place.

    Parameters
    ----------
    cache : transformers.DynamicCache
        Its layers are replaced.
    most : int
        Tokens of a row in the end: no more memory is taken than these need.
    transposed : bool
        Whether the keys are laid out as ``(B, H, D, n)``, as `gspo_rs.samplers.single_query` reads
        them best. Their shape is that of the values.

    Examples
    --------
    >>> import torch
    >>> cache = DynamicCache()
    >>> grow(cache, most=8)
    >>> for _ in range(3):
    ...     keys, _ = cache.update(torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 4), 0)
    >>> keys.shape, cache.get_seq_length()
    (torch.Size([2, 1, 3, 4]), 3)
    """

    def growing(layer: Any) -> DynamicLayer:
        if type(layer) is DynamicSlidingWindowLayer:
            return _GrowingWindow(layer.sliding_window, most, transposed)
        return _GrowingLayer(most, transposed)

    cache.layers = [growing(layer) for layer in cache.layers]
    if cache.layer_class_to_replicate is not None:  # it makes its layers when they are first used
        cache.layer_class_to_replicate = partial(  # type: ignore[assignment]
            _GrowingLayer, most, transposed
        )


class _Memory:
    """Memory behind a tensor (B, H, n, D) of keys or of values, with room for more of them."""

    def __init__(self, most: int, *, transposed: bool = False) -> None:
        self._most = most
        self._transposed = transposed
        self._whole: Tensor | None = None
        self._used: Tensor | None = None
        self._end = 0

    def append(self, held: Tensor, new: Tensor) -> Tensor:
        """Return `held` (B, H, n, D) and `new` (B, H, q, D) behind it.

        `held` is moved only if it is not what was returned or kept last, or if no room is left.
        """
        if not held.numel():  # the prompt, which the next token will move
            self._whole, self._used, self._end = new, new, new.shape[2]
            return new
        n, q = held.shape[2], new.shape[2]
        if held is not self._used or self._whole is None or self._end + q > self._whole.shape[2]:
            room = max(min(2 * (n + q), self._most), n + q)
            self._whole = self._empty(held, room)
            self._whole[:, :, :n] = held
            self._end = n
        self._whole[:, :, self._end : self._end + q] = new
        self._end += q
        self._used = self._whole[:, :, self._end - n - q : self._end]
        return self._used

    def _empty(self, like: Tensor, room: int) -> Tensor:
        rows, heads, _, width = like.shape
        if self._transposed:
            return like.new_empty((rows, heads, width, room)).transpose(2, 3)
        return like.new_empty((rows, heads, room, width))

    def keep(self, n: int) -> Tensor:
        """Return the last `n` of what was returned last, or all of fewer."""
        assert self._used is not None
        if n < self._used.shape[2]:
            self._used = self._used[:, :, self._used.shape[2] - n :]
        return self._used


class _GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """What a layer of full attention keeps."""

    def __init__(self, most: int, transposed: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memories = _Memory(most, transposed=transposed), _Memory(most)

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Write (B, H, q, D) behind what is held; return all of it."""
        self.keys, self.values = _appended(self, self._memories, key_states, value_states)
        return self.keys, self.values


class _GrowingWindow(DynamicSlidingWindowLayer):  # type: ignore[no-untyped-call]
    """What a layer of a sliding window keeps: it is moved once for every window of tokens."""

    def __init__(self, sliding_window: int, most: int, transposed: bool) -> None:
        super().__init__(sliding_window)
        self._memories = _Memory(most, transposed=transposed), _Memory(most)

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Write (B, H, q, D) behind what is held; return all that these tokens see."""
        seen = _appended(self, self._memories, key_states, value_states)
        self.cumulative_length += key_states.shape[2]
        # A token sees itself and what a window leaves besides.
        self.keys, self.values = (memory.keep(self.sliding_window - 1) for memory in self._memories)
        return seen


def _appended(
    layer: DynamicLayer, memories: tuple[_Memory, _Memory], keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what a layer holds with (B, H, q, D) behind it."""
    if not layer.is_initialized:
        layer.lazy_initialization(keys, values)
    assert layer.keys is not None
    assert layer.values is not None
    return memories[0].append(layer.keys, keys), memories[1].append(layer.values, values)
