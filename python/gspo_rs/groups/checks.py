"""Argument checks: rewards that float64 represents exactly, one or several a row, and counts."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Sequence
from decimal import MAX_PREC, Context, Decimal
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# An argument or option without a default.
REQUIRED: Final[Any] = ...
# Two different decimals of so many digits are two different float64.
DIGITS = 15
# Whole numbers from here on are not all float64.
EXACT = 1 << 53
FLOAT64: Final = np.dtype(np.float64)
# What no library has to be asked about.
USUAL = (np.ndarray, list)
# Library → the classes of it that are known here.
KINDS = {"torch": ("Tensor",), "pandas": ("Series", "DataFrame"), "polars": ("Series", "DataFrame")}


def library_of(values: Any) -> str:
    """Return the library of `values`: ``"torch"``, ``"pandas"``, ``"polars"``, or ``""``.

    Of tensors, Series and DataFrames. None of these libraries is imported here: whoever has one
    of them has imported it.
    """
    return _library_of(type(values))  # type: ignore[arg-type] # a class can be hashed


@lru_cache(maxsize=128)
def _library_of(kind: type) -> str:
    for library, names in KINDS.items():
        module = sys.modules.get(library)
        if issubclass(kind, tuple(getattr(module, name, ()) for name in names)):
            return library
    return ""


def is_tensor(values: Any) -> bool:
    """Tell whether `values` are a tensor of PyTorch."""
    return library_of(values) == "torch"


def plain(values: Any) -> Any:
    """Return a tensor of any device, or what has nothing but DLPack, as a NumPy array.

    A tensor that requires a gradient is taken for its values. Types of 8 and 16 bits that NumPy
    lacks become float32, which holds them exactly. All else is returned as it is.
    """
    if type(values) in USUAL:
        return values
    library = library_of(values)
    if library == "torch":
        return of_tensor(values)
    if not library and hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        return np.from_dlpack(values)
    return values


def of_tensor(tensor: Any) -> NDArray[Any]:
    """Return a tensor as `plain` does."""
    if tensor.element_size() < 4 and tensor.is_floating_point():
        tensor = tensor.detach().float()
    return tensor.numpy(force=True)  # type: ignore[no-any-return]


def as_rewards(rewards: Any) -> Floats:
    """Return rewards as contiguous float64, what is missing as NaN, refusing what would be rounded.

    Integers from 2**53 on and decimals of more than 15 digits are refused, with their row: two of
    them that differ may be one float64.
    """
    rewards = plain(rewards)
    if type(rewards) is np.ndarray and rewards.dtype.char in "def" and rewards.ndim == 1:
        return np.ascontiguousarray(rewards, dtype=FLOAT64)
    if library_of(rewards) == "polars" and _has_all_floats(rewards):
        return np.ascontiguousarray(rewards.to_numpy(), dtype=FLOAT64)
    if hasattr(rewards, "alias"):
        # Methods of a Polars Series select it by its name, as if that were a pattern.
        rewards = rewards.alias("rewards")
    if hasattr(rewards, "to_list") and "Int128" in str(getattr(rewards, "dtype", "")):
        rewards = rewards.to_list()  # NumPy has no such integers
    missing = _missing(rewards)
    if missing is not None and missing.any():
        filled = np.full(len(missing), np.nan)
        rows = np.flatnonzero(~missing)
        filled[rows] = _exact(_given(rewards, rows), rows)
        return filled
    return _exact(rewards, None)


def as_floats(rewards: Any) -> Floats | NDArray[np.float32]:
    """Return what `as_rewards` does, or float32 as it is, in one piece."""
    if is_short(rewards) and rewards.ndim == 1:
        return np.ascontiguousarray(rewards)
    return as_rewards(rewards)


def is_short(values: Any) -> bool:
    """Tell whether `values` are an array of float32."""
    return type(values) is np.ndarray and values.dtype.char == "f"


def _has_all_floats(column: Any) -> bool:
    """Tell whether a Series of Polars is one of floats, none of them null."""
    floats = str(getattr(column, "dtype", "")) in ("Float64", "Float32")
    return floats and not column.null_count()


def refuse_infinite(rewards: Floats) -> None:
    """Raise for the first infinite reward, naming its row, as the core does."""
    infinite = np.isinf(rewards)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise ValueError(
            f"the reward at row {row} is {rewards[row]}; use NaN or null for a completion that "
            "cannot be scored"
        )


def as_several(rewards: ArrayLike) -> list[Floats]:
    """Return rewards of shape (n, k) as k columns of float64, NaN for None, none infinite."""
    found = np.asarray(plain(rewards))
    if found.ndim != 2 or not found.shape[1]:
        raise ValueError(
            f"rewards have shape {found.shape}; several rewards have shape (n, k) with groups or "
            "group_size, and (P, G, k) without"
        )
    # Views where they will do: whoever needs a column in one piece makes it when its turn comes.
    columns = list(found.T) if found.dtype == float else [as_rewards(c) for c in found.T]
    for column in columns:
        refuse_infinite(column)
    return columns


def as_weights(weights: ArrayLike | None, rewards: Sequence[Floats]) -> Floats:
    """Return one finite weight per reward, 1 for those not given."""
    k = len(rewards)
    found = np.ones(k) if weights is None else np.asarray(plain(weights), dtype=np.float64)
    if found.shape != (k,) or not np.isfinite(found).all():
        raise ValueError(f"weights are {weights!r}; pass {k} finite numbers, one per reward")
    return found


def as_integers(name: str, values: Any) -> NDArray[np.int64]:
    """Return `values` as contiguous int64 if they are integers of shape (n,)."""
    # Asked by name, a Series of Polars answers in a tenth of the time.
    polars = library_of(values) == "polars"
    found = values.to_numpy() if polars else np.asarray(plain(values))
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(f"{name} are {found.ndim}-D of {found.dtype}; they are 1-D integers")
    return np.ascontiguousarray(found, dtype=np.int64)


def as_count(name: str, value: Any, *, lowest: int) -> int:
    """Return `value` if it is an integer of at least `lowest`."""
    required(name, value)
    if type(value) is not int and (
        isinstance(value, bool) or not isinstance(value, numbers.Integral)
    ):
        raise TypeError(f"{name} is {value!r}; it is an integer")
    if value < lowest:
        limit = "not negative" if lowest == 0 else f"at least {lowest}"
        raise ValueError(f"{name} is {value}; it is {limit}")
    return int(value)


def required(name: str, value: Any) -> None:
    """Raise for an argument that has no default and was not given."""
    if value is REQUIRED:
        raise TypeError(f"{name} is missing; give it by name, as in {name}=...")


def _missing(rewards: Any) -> NDArray[np.bool_] | None:
    """Tell where a masked array, or a column of Polars, Arrow or pandas, has no value."""
    if isinstance(rewards, np.ma.MaskedArray):
        return np.ma.getmaskarray(rewards) if rewards.ndim == 1 else None
    for name in ("is_null", "isna"):
        if hasattr(rewards, name) and getattr(rewards, "ndim", 1) == 1:
            return np.asarray(getattr(rewards, name)(), dtype=np.bool_)
    return None


def _given(rewards: Any, rows: NDArray[np.int64]) -> Any:
    """Return the values of `rows` as they are: NumPy makes floats of integers beside nulls."""
    if isinstance(rewards, np.ma.MaskedArray):
        return rewards.data[rows]
    return rewards.iloc[rows] if hasattr(rewards, "iloc") else _taken(rewards, rows)


def _taken(rewards: Any, rows: NDArray[np.int64]) -> Any:
    return rewards.take(rows) if hasattr(rewards, "take") else rewards[rows]


def _exact(rewards: Any, rows: NDArray[np.int64] | None) -> Floats:
    """Return values none of which is missing; `rows` are their numbers, if not counted from 0."""
    given = np.asarray(rewards)
    found = given
    if found.dtype.kind == "O":
        found = np.asarray(_numbers(found, rows), dtype=np.float64)
    if found.dtype.kind not in "fiub" or found.dtype.itemsize > 8:
        raise TypeError(f"rewards of type {found.dtype} are not numbers that float64 can hold")
    if found.ndim != 1:
        raise ValueError(
            f"rewards have shape {found.shape}; pass one per rollout, shape (n,). Several per "
            "rollout, (n, k), are for advantage, with weights; a group per row, (P, G), goes "
            "without groups and group_size"
        )
    exact = np.ascontiguousarray(found, dtype=np.float64)
    if given.dtype.kind in "iu" and given.dtype.itemsize == 8:
        _refuse_rounding(given, exact, rows)
    elif given.dtype.kind == "f" and isinstance(rewards, list | tuple):
        # NumPy has made floats of the integers among them.
        for row in np.flatnonzero(np.abs(exact) >= EXACT).tolist():
            _number(rewards[row], row)
    return exact


def _numbers(found: NDArray[Any], rows: NDArray[np.int64] | None) -> list[float]:
    numbers = range(found.size) if rows is None else rows.tolist()
    return [_number(reward, row) for row, reward in zip(numbers, found.tolist(), strict=False)]


def is_missing(value: Any) -> bool:
    """Tell whether a value is None, or the one that pandas has for a missing one."""
    return value is None or type(value).__name__ == "NAType"


def is_rounded(value: Any) -> bool:
    """Tell whether an integer or decimal may be one float64 with another that differs from it."""
    if isinstance(value, Decimal):
        digits = value.normalize(Context(prec=MAX_PREC)).as_tuple().digits
        vanishes = bool(value) and not float(value)
        return value.is_finite() and (len(digits) > DIGITS or vanishes)
    return isinstance(value, int | np.integer) and abs(int(value)) >= EXACT


def _number(reward: Any, row: int) -> float:
    if is_missing(reward):
        return math.nan
    if is_rounded(reward):
        raise TypeError(_rounded(reward, row))
    if isinstance(reward, list | tuple | np.ndarray):
        raise TypeError(
            f"the reward at row {row} is {reward!r}; of a column of lists explode the values, with "
            "one id for each, or give an array of shape (P, G), each row a group"
        )
    if not isinstance(reward, float | int | np.floating | np.integer | Decimal):
        raise TypeError(f"the reward at row {row} is {reward!r}; use a number, None or NaN")
    return float(reward)


def _rounded(reward: Any, row: int) -> str:
    return f"the reward {reward} at row {row} would be rounded to float64"


def _refuse_rounding(found: NDArray[Any], exact: Floats, rows: NDArray[np.int64] | None) -> None:
    large = np.abs(exact) >= EXACT
    if large.any():
        place = int(np.argmax(large))
        raise TypeError(_rounded(found[place], place if rows is None else int(rows[place])))
