"""Options of a scoring run, checked before anything is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from gspo_rs.data.schema import as_keys
from gspo_rs.files.filters import Rule, parse
from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.estimators import estimator_named
from gspo_rs.groups.synonyms import listed

__all__ = ["COLUMNS", "LEAST", "Layout", "Options", "options_of"]

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

    `reading` is what a huge row group takes of it, beside the buffers. `rollouts` is the column
    that says which rows are of one rollout. `nested` is None, or of rows with lists "rows", each of
    which is a group, or "keys"; `exploded` are the lists.
    """

    by: tuple[str, ...]
    reward: str
    estimator: str
    estimator_options: Mapping[str, Any]
    layout: Layout
    keep: str
    threshold: float | None
    rules: tuple[Rule, ...]
    memory_limit: int
    reading: int = 0
    rollouts: str | None = None
    nested: str | None = None
    exploded: tuple[str, ...] = ()

    @property
    def budget(self) -> int:
        """Bytes that ids and scores may take."""
        return self.memory_limit - BUFFERS - self.reading

    def recorded(self) -> dict[str, Any]:
        """Return what decides the output, as JSON keeps it."""
        given = {name: _plain(value) for name, value in self.estimator_options.items()}
        return {
            "by": list(self.by),
            "reward": self.reward,
            "estimator": self.estimator,
            "estimator_options": given,
            "layout": self.layout,
            "keep": self.keep,
            # Left out where it is the usual one, as in manifests from before there was another.
            **({} if self.threshold is None else {"threshold": self.threshold}),
            **({} if self.rollouts is None else {"rollouts": self.rollouts}),
            **({"nested": self.nested, "exploded": list(self.exploded)} if self.nested else {}),
        }


def options_of(
    *,
    by: str | Sequence[str],
    reward: str,
    estimator: str,
    estimator_options: Mapping[str, Any],
    layout: str,
    keep: str,
    threshold: float | None,
    memory_limit: str | int,
    rollouts: str | None = None,
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
    found = estimator_named(estimator)
    if found.several:
        raise ValueError(f"{estimator} needs several rewards a row; score reads one column")
    if "lengths" in found.needs:
        remedy = "use gspo_rs.advantage for it"
        raise ValueError(f"{estimator} needs the lengths of the completions; {remedy}")
    given = dict(estimator_options)
    counts = "threshold" in found.options and threshold is not None
    if counts:
        given["threshold"] = threshold
    # Estimators check their options when they are called.
    advantage([0.0, 1.0], [0, 0], estimator, **given)
    if counts and "pass-rate" not in keep:
        threshold = None
    return Options(
        keys,
        reward,
        estimator,
        given,
        "wide" if layout == "wide" else "narrow",
        keep,
        threshold,
        parse(keep, threshold),
        _bytes(memory_limit),
        rollouts=rollouts,
    )


def _bytes(limit: str | int) -> int:
    """Return a number of bytes from ``2GiB``, ``2GB``, ``2g``, ``1.5 GiB`` or a number.

    A unit is a power of 1024, however it is written.

    Examples
    --------
    >>> _bytes("256MiB") == _bytes("256 mb") == _bytes("256M") == _bytes("0.25g") == 256 << 20
    True
    """
    spelled = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGT])(?:I?B)?|B)?\s*"
    match = re.fullmatch(spelled, str(limit), re.IGNORECASE | re.ASCII)
    if match is None or isinstance(limit, bool):
        raise ValueError(f"memory_limit is {limit!r}; write it as '2GiB' or a number of bytes")
    found = int(float(match[1]) * UNITS[(match[2] or "").upper()])
    if found < LEAST:
        raise ValueError(f"memory_limit is {limit}; scoring needs at least {LEAST >> 20}MiB")
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return json.loads(json.dumps(np.asarray(value).tolist()))
