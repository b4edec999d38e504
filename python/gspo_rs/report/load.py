"""Loading of the report's columns, and which values of each row stay in memory.

That is the group, the reward, the model, the length, and whose text it shares.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.group_index import read_keys
from gspo_rs.data.labels import labelled
from gspo_rs.data.schema import as_keys
from gspo_rs.data.source import EXPECTED, KEY, NUMBER, TEXT, Source
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups

__all__ = ["Names", "ReportRows", "choose", "read", "windows"]

Integers = NDArray[np.int64]

logger = logging.getLogger("gspo_rs")

# Seconds without a word, and between two words.
QUIET = 2.0

# Names by which a column is known for its part when none is given. Two of one line in the same
# source are ambiguous, and neither is taken.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "completion": ("completion", "response"),
    "model": ("source", "model"),
}
TYPES: Mapping[str, str] = {"prompt": TEXT, "completion": TEXT, "model": KEY}
OPTIONS: Mapping[str, str] = {
    "prompt": "prompt",
    "completion": "completion",
    "model": "model-column",
}


@dataclass(frozen=True)
class Names:
    """The columns of the parts; those that are None have their reason in `missing`."""

    by: tuple[str, ...]
    reward: str
    prompt: str | None = None
    completion: str | None = None
    model: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportRows:
    """Columns of shape (n,), one value a row; those of a part that is not there are None.

    Attributes
    ----------
    groups : Groups
        Which rows belong together.
    reward : ndarray of float64
        NaN where a completion is unscorable.
    length : ndarray of float64 or None
        Characters of the completion, NaN where it is null.
    text : ndarray of int64 or None
        The same number for the same completion, -1 where it is null.
    model : ndarray of int64 or None
        Index into `models`.
    models : tuple of str
        By first appearance, named by `gspo_rs.data.labels.labelled`.
    """

    groups: Groups
    reward: Floats
    length: Floats | None
    text: Integers | None
    model: Integers | None
    models: tuple[str, ...]


def choose(
    source: Source, *, by: str | Sequence[str], reward: str, given: Mapping[str, str | None]
) -> Names:
    """Check the columns that are given, and find the others by their names.

    Parameters
    ----------
    source : Source
        Where the columns are.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards.
    given : mapping
        The columns of ``prompt``, ``completion`` and ``model``, or None to look for one.

    Returns
    -------
    Names

    Raises
    ------
    ValueError
        If a column that is given is missing, or `by` is empty.
    TypeError
        If a column that is given has the wrong type.

    Examples
    --------
    >>> import polars as pl
    >>> from gspo_rs.data.source import locate
    >>> frame = pl.LazyFrame({"id": [1], "reward": [0.5], "response": ["four"]})
    >>> given = {"prompt": None, "completion": None, "model": None}
    >>> names = choose(locate(frame), by="id", reward="reward", given=given)
    >>> names.completion, names.missing["prompt"]
    ('response', 'no column is called prompt; name one with --prompt')
    """
    keys = as_keys(by)
    asked = [(name, TYPES[part]) for part, name in given.items() if name is not None]
    source.check([*((key, KEY) for key in keys), (reward, NUMBER), *asked])
    found: dict[str, str | None] = {}
    missing: dict[str, str] = {}
    for part, name in given.items():
        found[part] = name
        if name is None:
            fitting = _fitting(part, source, exclude=(*keys, reward))
            found[part] = fitting[0] if len(fitting) == 1 else None
            if found[part] is None:
                missing[part] = _reason(part, fitting, keys)
    return Names(keys, reward, found["prompt"], found["completion"], found["model"], missing)


def read(source: Source, names: Names) -> ReportRows:
    """Read the narrow columns of a source, streaming its completions by.

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.data.group_index.index_groups`; ValueError as well if the source changes
        meanwhile.

    Notes
    -----
    Equal completions are detected by a 128-bit BLAKE2b digest [1]_: two
    different ones with the same digest can't be made on purpose, unlike those of a faster hash.

    References
    ----------
    .. [1] M.-J. Saarinen and J.-P. Aumasson (2015). The BLAKE2 cryptographic hash and message
       authentication code. RFC 7693.
    """
    labels = []
    if names.model is not None:
        labels.append(labelled(source.column(names.model)).cast(pl.Categorical))
    narrow = read_keys(source, names.by, names.reward, labels)
    length, text = None, None
    if names.completion is not None:
        length, text = _texts(source, names.completion, len(narrow.rewards))
    models = Groups(narrow.beside.to_series()) if labels else None
    return ReportRows(
        groups=narrow.groups,
        reward=narrow.rewards,
        length=length,
        text=text,
        model=None if models is None else models.codes,
        models=() if models is None else tuple(models.ids.cast(pl.String).to_list()),
    )


def windows(
    source: Source, columns: Sequence[pl.Expr], n_rows: int, doing: str
) -> Iterator[pl.DataFrame]:
    """Read `columns` of all rows, some at a time, and tell how far it is if that takes long.

    Raises
    ------
    ValueError
        If the source does not have `n_rows` rows any more.
    """
    start = logged = time.monotonic()
    row = 0
    for frame in source.batches(columns, n_rows):
        yield frame
        row += frame.height
        now = time.monotonic()
        if now - logged > QUIET and row < n_rows:
            logged = now
            speed = row / (now - start)
            left = (n_rows - row) / speed
            logger.info(
                "%s: %s of %s rows, %s rows/s, %.0f s left",
                *(doing, f"{row:,}", f"{n_rows:,}", f"{speed:,.0f}", left),
            )


def _fitting(part: str, source: Source, *, exclude: Sequence[str]) -> list[str]:
    """Return the columns with a known name for `part` and its type."""
    schema = source.check([])
    known = [name for name in KNOWN[part] if name in schema and name not in exclude]
    types = {name: source.as_text(name) if TYPES[part] == TEXT else schema[name] for name in known}
    return [name for name in known if EXPECTED[TYPES[part]](types[name])]


def _reason(part: str, fitting: Sequence[str], keys: Sequence[str]) -> str:
    advice = f"name one with --{OPTIONS[part]}"
    if fitting:
        return f"{' and '.join(fitting)} could both be meant; {advice}"
    if taken := [name for name in KNOWN[part] if name in keys]:
        return f"{taken[0]} is part of the group's id; {advice}"
    return f"no column is called {' or '.join(KNOWN[part])}; {advice}"


def _texts(source: Source, completion: str, n_rows: int) -> tuple[Floats, Integers]:
    """Return the length of each completion, and a number that equal ones share."""
    column = source.column(completion).cast(pl.String).alias("text")
    lengths, digests, nulls = [], [], []
    for frame in windows(source, [column], n_rows, "reading completions"):
        texts = frame["text"]
        lengths.append(texts.str.len_chars().cast(pl.Float64).fill_null(np.nan).to_numpy())
        digests.append(_digests(texts))
        nulls.append(texts.is_null().to_numpy())
    halves = pl.DataFrame(np.concatenate(digests), schema=["low", "high"])
    codes = Groups(halves).codes.copy()
    codes[np.concatenate(nulls)] = -1
    return np.concatenate(lengths), codes


def _digests(texts: pl.Series) -> NDArray[np.uint64]:
    """Return the digests of texts as pairs of words; shape (n, 2). A null is like an empty text."""
    raw = texts.cast(pl.Binary).fill_null(b"")
    joined = b"".join(blake2b(text, digest_size=16).digest() for text in raw)
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)
