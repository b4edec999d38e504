"""Options of a scoring run, checked before anything is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from gspo_rs.data.schema import as_keys, as_names
from gspo_rs.files.filters import Rule, parse
from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.estimators import estimator_named
from gspo_rs.groups.synonyms import listed

__all__ = ["COLUMNS", "LEAST", "Layout", "Options", "columns_of", "options_of"]

Layout: TypeAlias = Literal["wide", "narrow"]
"""Whether scores are written with all columns of the input, or alone."""

COLUMNS: Final = ("rank", "percentile", "advantage", "group_size", "group_mean", "group_std")

UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# What reading and writing take at a time, beside the ids and scores.
BUFFERS: Final = 128 << 20
LEAST: Final = BUFFERS + (16 << 20)


@dataclass(frozen=True)
class Options:
    """Everything that decides the bytes of an output, and the memory that may be used.

    `estimators` have their options, in the order of their columns. `reading` is what a huge row
    group takes of the memory, beside the buffers. `rollouts` is the column that says which rows are
    of one rollout. `nested` is None, or of rows with lists "rows", each of which is a group, or
    "keys"; `exploded` are the lists. `suffix` ends the names of the columns that are added, `drop`
    has those of the input that are left out.
    """

    by: tuple[str, ...]
    reward: str
    estimators: Mapping[str, Mapping[str, Any]]
    layout: Layout
    keep: str
    threshold: float | None
    rules: tuple[Rule, ...]
    memory_limit: int
    reading: int = 0
    rollouts: str | None = None
    nested: str | None = None
    exploded: tuple[str, ...] = ()
    suffix: str = ""
    drop: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are added."""
        return columns_of(tuple(self.estimators), self.suffix)

    @property
    def budget(self) -> int:
        """Bytes that ids and scores may take."""
        return self.memory_limit - BUFFERS - self.reading

    def recorded(self) -> dict[str, Any]:
        """Return what decides the output, as JSON keeps it."""
        given = {
            name: {option: _plain(value) for option, value in options.items()}
            for name, options in self.estimators.items()
        }
        # Written as in manifests from before there could be several.
        name = next(iter(given)) if len(given) == 1 else None
        return {
            "by": list(self.by),
            "reward": self.reward,
            "estimator": name or list(given),
            "estimator_options": given[name] if name else given,
            "layout": self.layout,
            "keep": self.keep,
            # Left out where it is the usual one, as in manifests from before there was another.
            **({} if self.threshold is None else {"threshold": self.threshold}),
            **({} if self.rollouts is None else {"rollouts": self.rollouts}),
            **({"nested": self.nested, "exploded": list(self.exploded)} if self.nested else {}),
            **({"suffix": self.suffix} if self.suffix else {}),
            **({"drop": list(self.drop)} if self.drop else {}),
        }


def options_of(
    *,
    by: str | Sequence[str],
    reward: str,
    estimator: str | Sequence[str] = "percentile",
    estimator_options: Mapping[str, Any] = MappingProxyType({}),
    layout: str = "wide",
    keep: str = "all",
    threshold: float | None = None,
    memory_limit: str | int = "2GiB",
    rollouts: str | None = None,
    suffix: str = "",
    drop: str | Sequence[str] = (),
) -> Options:
    """Check the options.

    Raises
    ------
    ValueError, TypeError
        For a wrong name or value; the message has the right ones.
    """
    keys = as_keys(by)
    if len(set(keys)) < len(keys):
        raise ValueError(f"`by` is {by!r}; it names at least one column, and none twice")
    if layout not in ("wide", "narrow"):
        raise ValueError(f"layout is {layout!r}; use one of {listed(layout, get_args(Layout))}")
    if rollouts is not None and keep != "all":
        raise ValueError(f"keep is {keep!r}, but rows of one rollout stay together; use 'all'")
    if layout == "narrow" and drop:
        raise ValueError(f"drop is {drop!r}; a narrow output has no columns that could be left out")
    estimators = _estimators(estimator, estimator_options, threshold)
    if "pass-rate" not in keep and any("threshold" in given for given in estimators.values()):
        threshold = None
    return Options(
        by=keys,
        reward=reward,
        estimators=estimators,
        layout="wide" if layout == "wide" else "narrow",
        keep=keep,
        threshold=threshold,
        rules=parse(keep, threshold),
        memory_limit=as_bytes(memory_limit),
        suffix=suffix,
        drop=as_names(drop, "drop") if drop else (),
        rollouts=rollouts,
    )


def columns_of(estimator: str | Sequence[str], suffix: str) -> tuple[str, ...]:
    """Name the columns that are added: one advantage, or one for each of several estimators.

    Examples
    --------
    >>> columns_of("percentile", "") == COLUMNS
    True
    >>> columns_of(["mean", "rloo"], "_b")[2:4]
    ('advantage_mean_b', 'advantage_rloo_b')
    """
    names = (estimator,) if isinstance(estimator, str) else tuple(estimator)
    several = len(names) > 1
    advantages = [f"advantage_{name}" if several else "advantage" for name in names]
    before, after = COLUMNS[:2], COLUMNS[3:]
    return tuple(name + suffix for name in (*before, *advantages, *after))


def _estimators(
    given: str | Sequence[str], options: Mapping[str, Any], threshold: float | None
) -> dict[str, dict[str, Any]]:
    """Return the estimators with their options; of several, each takes those that it has."""
    found: dict[str, dict[str, Any]] = {}
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"estimator is {given!r}; name each estimator once, and one at least")
    for name in names:
        known = estimator_named(name)
        if known.several:
            raise ValueError(f"{name} needs several rewards a row; score reads one column")
        if "lengths" in known.needs:
            remedy = "use gspo_rs.advantage for it"
            raise ValueError(f"{name} needs the lengths of the completions; {remedy}")
        alone = len(names) == 1
        taken = {key: value for key, value in options.items() if alone or key in known.options}
        if "threshold" in known.options and threshold is not None:
            taken["threshold"] = threshold
        # Estimators check their options when they are called.
        advantage([0.0, 1.0], [0, 0], name, **taken)
        found[name] = taken
    for option in options:
        if not any(option in taken for taken in found.values()):
            raise TypeError(f"none of {', '.join(names)} has an option {option!r}")
    return found


def as_bytes(limit: str | int, what: str = "memory_limit") -> int:
    """Return a number of bytes from ``2GiB``, ``2GB``, ``2g``, ``1.5 GiB`` or a number.

    A unit is a power of 1024, however it is written.

    Examples
    --------
    >>> as_bytes("256MiB") == as_bytes("256 mb") == as_bytes("256M") == as_bytes("0.25g")
    True
    """
    spelled = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGT])(?:I?B)?|B)?\s*"
    match = re.fullmatch(spelled, str(limit), re.IGNORECASE | re.ASCII)
    if match is None or isinstance(limit, bool):
        raise ValueError(f"{what} is {limit!r}; write it as '2GiB' or a number of bytes")
    found = int(float(match[1]) * UNITS[(match[2] or "").upper()])
    if found < LEAST:
        raise ValueError(f"{what} is {limit}; it must be at least {LEAST >> 20}MiB")
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return json.loads(json.dumps(np.asarray(value).tolist()))
