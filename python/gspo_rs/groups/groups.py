"""Grouping of rollouts: from ids to groups."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import _core
from gspo_rs.groups.checks import as_integers, is_tensor, library_of, plain

# Integers of Polars that are words.
WORDS = {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}


class Groups:
    """Rollouts grouped by exact equality of their ids.

    Groups are numbered by first appearance, may have any sizes, and their rows may lie
    anywhere. Grouping costs O(n) time; rows that follow one another with the same id are
    found without hashing.

    Parameters
    ----------
    ids : array_like, Polars Series or DataFrame, or any Arrow array or table, of n rows
        One id per rollout: integers of any width, strings, bytes, dictionaries
        (categoricals), dates or times. The columns of a DataFrame or struct together make
        one id. Floats are refused: their equality is not exact.
    null_ids : {"error", "drop"}
        Whether a null id is an error, or its row belongs to no group.

    Raises
    ------
    TypeError
        If ids cannot be compared exactly, or a list mixes types.
    ValueError
        If an id is null (the message names the row), or ids are not one-dimensional.

    Examples
    --------
    >>> groups = Groups(["a", "b", "a", "a"])
    >>> groups.n_groups, groups.sizes
    (2, array([3, 1]))
    >>> groups.order
    array([0, 2, 3, 1])
    """

    _core: _core.Groups
    _source: Any = None

    def __init__(self, ids: Any, null_ids: Literal["error", "drop"] = "error") -> None:
        if null_ids not in ("error", "drop"):
            raise ValueError(f'null_ids is {null_ids!r}; use "error" or "drop"')
        self._core = _cut(ids, drop_null=null_ids == "drop")
        self._source = ids

    @classmethod
    def from_offsets(cls, offsets: ArrayLike) -> Groups:
        """Create groups from offsets of rows that are already grouped.

        Parameters
        ----------
        offsets : array_like of int, shape (n_groups + 1,)
            Group ``g`` is rows ``offsets[g]:offsets[g + 1]``. Rises strictly from 0.

        Returns
        -------
        Groups

        Raises
        ------
        ValueError
            If `offsets` do not rise strictly from 0.
        TypeError
            If they are not integers.

        Examples
        --------
        >>> Groups.from_offsets([0, 3, 5]).sizes
        array([3, 2])
        """
        return cls._of_core(_core.Groups.from_offsets(as_integers("offsets", offsets)))

    @classmethod
    def _of_core(cls, core: Any) -> Groups:
        """Create groups of rows without ids."""
        groups = cls.__new__(cls)
        groups._core = core
        return groups

    @property
    def n_rollouts(self) -> int:
        """Number of rows given, dropped ones included."""
        return self._core.n_rollouts

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return self._core.n_groups

    @property
    def clustered(self) -> bool:
        """Whether the rows came group after group, none dropped."""
        return self._core.clustered

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Group ``g`` is ``order[offsets[g]:offsets[g + 1]]``; shape (n_groups + 1,)."""
        return _frozen(self._core.offsets())

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Rows group after group, rising inside a group; shape (n,) less dropped rows."""
        return _frozen(self._core.order())

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Group of each row, -1 for a dropped one; shape (n,)."""
        return _frozen(self._core.codes())

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Members of each group; shape (n_groups,)."""
        return _frozen(np.diff(self.offsets))

    @cached_property
    def ids(self) -> Any:
        """The id of each group, in the type the ids came in; group numbers for offsets.

        Ids that came as a one-shot Arrow stream are gone: keep the table to get them.
        """
        if self._source is None:
            return np.arange(self.n_groups)
        starts = self.offsets[:-1]
        firsts = starts if self.clustered else self.order[starts]
        if is_tensor(self._source):
            return self._source[firsts.tolist()]
        if isinstance(self._source, list | tuple):
            return [self._source[row] for row in firsts.tolist()]
        return self._source.take(firsts) if _takes(self._source) else self._source[firsts]

    def __len__(self) -> int:
        return self.n_groups

    def __repr__(self) -> str:
        return f"Groups(n_rollouts={self.n_rollouts}, n_groups={self.n_groups})"


def as_groups(groups: Any) -> Groups:
    """Return `groups`, or the groups of raw ids."""
    return groups if isinstance(groups, Groups) else Groups(groups)


def _takes(source: Any) -> bool:
    return hasattr(source, "take") and not isinstance(source, np.ndarray)


def _frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.flags.writeable = False
    return array


def _cut(ids: Any, *, drop_null: bool) -> _core.Groups:
    ids = plain(ids)
    if type(ids) is list:
        return _from_list(ids, drop_null=drop_null)
    if type(ids) is np.ndarray and ids.ndim == 1:
        return _cut_array(ids, drop_null=drop_null)
    if library_of(ids) == "polars":
        if _has_all_words(ids):
            return _core.Groups.from_ints(_words(ids.to_numpy()))
        ids = _narrowed(ids)
    elif hasattr(ids, "_from_sequence"):  # an array of pandas, whose nulls a Series tells
        import pandas as pd  # type: ignore[import-untyped]

        ids = pd.Series(ids)
    # Its name loads a module, and no masked array is made without that.
    if "numpy.ma" in sys.modules and isinstance(ids, np.ma.MaskedArray):
        if ids.ndim == 1 and np.ma.getmaskarray(ids).any():
            # Any number of the same id stands for it; None for one that is masked.
            _, codes = np.unique(ids.data, return_inverse=True)
            ids = np.ma.MaskedArray(codes, np.ma.getmaskarray(ids)).tolist()
        else:
            ids = ids.data
    if hasattr(ids, "__arrow_c_stream__") or hasattr(ids, "__arrow_c_array__"):
        try:
            return _core.Groups.from_arrow(ids, drop_null)
        except (OverflowError, UnicodeEncodeError):  # of objects in pandas
            return _from_list(ids.tolist(), drop_null=drop_null)
    if not isinstance(ids, np.ndarray):
        # A list is read as it is: NumPy would turn ["1", 1] into equal ids without a word.
        is_list = isinstance(ids, Sequence) and not isinstance(ids, str | bytes)
        ids = list(ids) if is_list else np.asarray(ids)
        if is_list:
            return _from_list(ids, drop_null=drop_null)
    if ids.ndim != 1:
        other = f"; they are {str(ids)!r}, which may be an option, given by name" * (not ids.ndim)
        raise ValueError(f"ids have shape {ids.shape}; pass one id per row, shape (n,){other}")
    return _cut_array(ids, drop_null=drop_null)


def _has_all_words(column: Any) -> bool:
    """Tell whether a Series of Polars is one of integers of up to 64 bits, none of them null."""
    return str(getattr(column, "dtype", "")) in WORDS and not column.null_count()


def _cut_array(ids: NDArray[Any], *, drop_null: bool) -> _core.Groups:
    kind = ids.dtype.kind
    if kind in "iub":
        return _core.Groups.from_ints(_words(ids))
    if kind in "SU":
        fixed = np.ascontiguousarray(ids)
        return _core.Groups.from_fixed(fixed.view(np.uint8).reshape(len(ids), ids.dtype.itemsize))
    if kind in "mM":
        if not np.isnat(ids).any():
            return _core.Groups.from_ints(_words(ids.view(np.int64)))
        return _core.Groups.from_list(
            [None if i is None else int(i) for i in _or_none(ids)], drop_null
        )
    if kind in "OT":
        return _from_list(ids.tolist(), drop_null=drop_null)
    raise TypeError(
        f"group ids of type {ids.dtype} cannot be compared exactly; "
        "cast them to integers or strings"
    )


def _from_list(ids: list[Any], *, drop_null: bool) -> _core.Groups:
    """Cut a list; integers beyond 64 bits and halves of characters as bytes that tell them."""
    try:
        return _core.Groups.from_list(ids, drop_null)
    except TypeError:
        words = [None if type(i).__name__ == "NAType" else i for i in ids]  # that of pandas
        if sum(i is None for i in words) == sum(i is None for i in ids):
            raise
        return _from_list(words, drop_null=drop_null)
    except OverflowError:
        words = [i if i is None or isinstance(i, bool) else _word(i) for i in ids]
    except UnicodeEncodeError:
        words = [i.encode("utf-8", "surrogatepass") if isinstance(i, str) else i for i in ids]
    return _core.Groups.from_list(words, drop_null)


def _word(i: Any) -> Any:
    """Return an integer in decimal digits, as bytes, which no other id of the list is equal to."""
    return str(int(i)).encode() if isinstance(i, int | np.integer) else i


def _narrowed(ids: Any) -> Any:
    """Return columns of Polars in types that Arrow has, and that are grouped soonest.

    Integers of 128 bits become text; categories, which a column has once each, their numbers.
    """
    columns = ids.dtypes if hasattr(type(ids), "columns") else ()
    if any(_as_narrow(found) for found in columns):
        return ids.with_columns(_narrowed(column) for column in ids.iter_columns())
    if (narrow := _as_narrow(getattr(ids, "dtype", None))) is not None:
        return narrow(ids)
    return ids


def _as_narrow(dtype: Any) -> Callable[[Any], Any] | None:
    name = str(dtype).partition("(")[0]
    if name in ("Int128", "UInt128"):
        import polars as pl

        return lambda ids: ids.cast(pl.String)
    return (lambda ids: ids.to_physical()) if name in ("Categorical", "Enum") else None


def _or_none(times: NDArray[Any]) -> list[np.int64 | None]:
    words = times.view(np.int64)
    return [None if missing else word for word, missing in zip(words, np.isnat(times), strict=True)]


def _words(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return integers as 64-bit words in one stretch; unsigned ones wrap, and stay distinct."""
    if ids.dtype == np.uint64:
        return np.ascontiguousarray(ids).view(np.int64)
    return np.ascontiguousarray(ids, dtype=np.int64)
