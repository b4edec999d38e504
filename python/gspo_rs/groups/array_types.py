"""Rewards of other libraries: tensors, and columns of pandas and Polars; results come back so.

What follows the rows keeps their labels, what describes groups gets their ids. No library is
imported here: who has given us its array has imported it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, wraps
from typing import Any, ParamSpec, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from gspo_rs import _core
from gspo_rs.groups.checks import (
    USUAL,
    as_rewards,
    is_short,
    is_tensor,
    library_of,
    of_tensor,
    plain,
)
from gspo_rs.groups.groups import Groups, as_groups
from gspo_rs.groups.shapes import Shape, flattened, grouped

__all__ = [
    "as_numbers",
    "as_rows",
    "list_per_row",
    "per_group",
    "per_row",
    "record_per_group",
    "row_numbers",
]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])


class Tensor(Protocol):
    """A tensor of PyTorch, for type checkers that may not have it."""

    def detach(self) -> Any: ...


class Column(Protocol):
    """A Series of pandas or Polars, for type checkers that may not have them."""

    def to_frame(self) -> Any: ...


T = TypeVar("T", bound=Tensor)
A = TypeVar("A", bound=Tensor | Column)


class Kernel(Protocol[P, R]):
    """What is decorated: a function of rewards and their groups."""

    def __call__(self, rewards: Any, *args: P.args, **options: P.kwargs) -> R: ...


class Arrays(Protocol[P, R]):
    """A function whose result is of the library of the rewards."""

    @overload
    def __call__(
        self, rewards: NDArray[Any] | Sequence[Any], *args: P.args, **options: P.kwargs
    ) -> R: ...
    @overload
    def __call__(self, rewards: A, *args: P.args, **options: P.kwargs) -> A: ...
    @overload
    def __call__(self, rewards: Any, *args: P.args, **options: P.kwargs) -> R: ...


class Numbers(Protocol[P, R]):
    """A function whose result is a tensor for a tensor, and else of NumPy."""

    @overload
    def __call__(self, rewards: T, *args: P.args, **options: P.kwargs) -> T: ...
    @overload
    def __call__(self, rewards: Any, *args: P.args, **options: P.kwargs) -> R: ...


def per_row(kernel: Kernel[P, R]) -> Arrays[P, R]:
    """Let a function of rewards and groups, with an array per row, take and return any array."""
    taken: Arrays[P, R] = _any_array(kernel, _of_rows)
    return taken


def per_group(kernel: Kernel[P, R]) -> Arrays[P, R]:
    """Let a function of rewards and groups, with an array per group, take and return any array."""
    taken: Arrays[P, R] = _any_array(kernel, _of_groups)
    return taken


def row_numbers(kernel: Kernel[P, R]) -> Numbers[P, R]:
    """Let a function of rewards and groups, with numbers of rows as results, take any array."""
    taken: Numbers[P, R] = _any_array(kernel, lambda found, rewards, *_: as_numbers(found, rewards))
    return taken


def list_per_row(kernel: F) -> F:
    """Do what `per_row` does for a function with a list of arrays."""
    taken: F = _any_array(kernel, lambda found, *of: [_of_rows(one, *of) for one in found])
    return taken


def record_per_group(kernel: F) -> F:
    """Do what `per_group` does for a function with a dataclass: `groups`, and arrays."""
    taken: F = _any_array(kernel, _of_record)
    return taken


def as_rows(found: NDArray[Any], like: Any, shape: Shape | None = None) -> Any:
    """Return one value per row in the kind of `like`, which holds what came for these rows.

    Parameters
    ----------
    found : ndarray, shape (n,)
    like : Any
        A tensor, Series or DataFrame; anything else gets NumPy.
    shape : (int, int), optional
        That of the rewards, if each row was a group.

    Examples
    --------
    >>> import pandas as pd
    >>> as_rows(np.array([0.5, 1.0]), pd.Series([3, 4], index=["x", "y"], name="reward"))
    x    0.5
    y    1.0
    Name: reward, dtype: float64
    """
    found = found if shape is None else found.reshape(shape)
    library = library_of(like)
    if library == "torch":
        return _tensor(found, like)
    made: Any = sys.modules.get(library)
    name = getattr(like, "name", None)
    if library == "pandas":
        if shape is not None:
            return made.DataFrame(found, index=like.index, columns=like.columns)
        return made.Series(found, index=like.index, name=name)
    if library == "polars":
        if shape is not None:
            return made.DataFrame(found, schema=like.columns, orient="row")
        return made.Series(name, found)
    return found


def as_numbers(found: NDArray[Any], like: Any) -> Any:
    """Return numbers of rows, of whatever shape: a tensor where `like` is one, else NumPy."""
    return _tensor(found, like) if is_tensor(like) else found


# What a result belongs to: rewards, their groups, and (P, G) if each row was a group.
def _of_rows(found: NDArray[Any], rewards: Any, _: Groups, shape: Shape | None) -> Any:
    return as_rows(found, rewards, shape)


def _of_groups(found: NDArray[Any], like: Any, groups: Groups, shape: Shape | None) -> Any:
    """Return one value per group, or one row of them, in the kind of the rewards."""
    library = library_of(like)
    if library == "torch":
        return _tensor(found, like)
    made: Any = sys.modules.get(library)
    name = getattr(like, "name", None)
    if library == "pandas":
        index = _labels(made, groups.ids) if shape is None else like.index
        if found.ndim == 2:
            return made.DataFrame(found, index=index)
        return made.Series(found, index=index, name=name)
    return made.Series(name, found) if library == "polars" else found


def _of_record(found: Any, *of: Any) -> Any:
    arrays = {name: value for name, value in vars(found).items() if name != "groups"}
    return replace(found, **{name: _of_groups(value, *of) for name, value in arrays.items()})


def _any_array(kernel: Any, back: Callable[..., Any]) -> Any:
    @wraps(kernel)
    def called(
        rewards: Any, groups: Any = None, *args: Any, group_size: Any = None, **options: Any
    ) -> Any:
        if groups is not None and group_size is None and type(rewards) in USUAL:
            return kernel(_wide(rewards), as_groups(groups), *args, **options)
        library = library_of(rewards)
        if library == "pandas":
            _refuse_other_labels(rewards, groups)
        flat, cut, shape = grouped(_values(rewards, library), groups, group_size)
        if library != "torch":
            flat = _wide(flat)
        if shape is not None and options:
            for name in ("lengths", "rollouts"):
                if options.get(name) is not None:
                    options[name] = flattened(options[name], name, shape)
        found = kernel(flat, cut, *args, **options)
        if not library and shape is None:
            return found
        return back(found, rewards, cut, shape)

    return called


def _wide(values: Any) -> Any:
    """Return float32 as float64: only of a tensor is float32 wanted back."""
    return values.astype(np.float64) if is_short(values) else values


def _values(rewards: Any, library: str) -> Any:
    """Return rewards as NumPy array, or as they are if they are of no library known here."""
    if library == "torch":
        return of_tensor(rewards)
    if not library:
        return plain(rewards)
    if not _has_columns(type(rewards)):  # type: ignore[arg-type] # as in `library_of`
        return as_rewards(rewards)
    columns = [as_rewards(rewards[name]) for name in rewards.columns]
    return np.stack(columns, axis=1) if columns else np.zeros((len(rewards), 0))


@lru_cache(maxsize=16)
def _has_columns(kind: Any) -> bool:
    """Tell a frame from a Series, which looks long for what it does not have."""
    return hasattr(kind, "columns")


def _tensor(found: NDArray[Any], like: Any) -> Any:
    """Return a tensor on the device of `like`; floats in its type, or PyTorch's usual one."""
    torch = sys.modules["torch"]
    if found.dtype.kind == "f":
        dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
        if dtype is not (torch.float32 if found.dtype.char == "f" else torch.float64):
            return _placed(_rounded(found, dtype), like)
    # The array is ours alone: the tensor takes it over, unless it is not to be written to.
    return _placed(torch.from_numpy(found) if found.flags.writeable else torch.tensor(found), like)


def _placed(made: Any, like: Any) -> Any:
    return made if like.is_cpu else made.to(like.device)


def _rounded(found: NDArray[Any], dtype: Any) -> Any:
    """Return a tensor of less than float64, refusing numbers out of its range."""
    torch = sys.modules["torch"]
    if dtype == torch.float32 and found.ndim == 1:  # soonest for the few rows of a step
        short, fits = _core.short(found)
        made = torch.from_numpy(short)
    else:
        made = torch.tensor(found).to(dtype)
        # A sum is not finite if a number is infinite, and hardly ever else.
        fits = math.isfinite(made.sum())
    if not fits and made.isinf().any():
        raise ValueError(
            f"the result {np.nanmax(np.abs(found)):g} leaves the range of {dtype}, that of the "
            "rewards; give rewards.float()"
        )
    return made


def _labels(pandas: Any, ids: Any) -> Any:
    """Return ids as an index of pandas; those of several columns as one of several levels."""
    names = getattr(ids, "column_names", getattr(ids, "columns", None))  # of Arrow, of frames
    if names is not None:
        columns = [_listed(ids[name]) for name in names]
        return pandas.MultiIndex.from_arrays(columns, names=list(names))
    return pandas.Index(_listed(ids), name=getattr(ids, "name", None))


def _listed(ids: Any) -> Any:
    if library_of(ids) == "pandas" or isinstance(ids, np.ndarray | list):
        return ids
    if library_of(ids) == "polars":
        return ids.to_list()
    return ids.to_pylist() if hasattr(ids, "to_pylist") else plain(ids).tolist()


def _refuse_other_labels(rewards: Any, groups: Any) -> None:
    """Raise if two of pandas have other labels: pandas would match them, we go by position."""
    if library_of(groups) != "pandas":
        return
    if len(rewards) == len(groups) and not rewards.index.equals(groups.index):
        raise ValueError(
            "the index of the groups is not that of the rewards, and rows go by position; give "
            "groups.loc[rewards.index], or groups.to_numpy() if their order is the same"
        )
