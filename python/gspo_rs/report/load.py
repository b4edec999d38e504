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
from gspo_rs.data.source import ANYTHING, EXPECTED, KEY, NUMBER, SAID, Source
from gspo_rs.files.messages import is_messages
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.report.conversation import as_one_text, said

__all__ = ["Labels", "Names", "ReportRows", "choose", "read", "windows"]

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
TYPES: Mapping[str, str] = {"prompt": SAID, "completion": SAID, "model": KEY}
SPOKEN = ("prompt", "completion")
OPTIONS: Mapping[str, str] = {
    "prompt": "prompt",
    "completion": "completion",
    "model": "model-column",
}


@dataclass(frozen=True)
class Names:
    """The columns of the parts; those that are None have their reason in `missing`.

    `chat` are the parts that hold messages, `per` the columns whose values get a table.
    """

    by: tuple[str, ...]
    reward: str
    prompt: str | None = None
    completion: str | None = None
    model: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    per: tuple[str, ...] = ()
    chat: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Labels:
    """The value of a column in each row, as an index into `names`, which are all distinct."""

    codes: Integers
    names: tuple[str, ...]


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
        Characters of the completion, of messages what they say; NaN where it is null.
    text : ndarray of int64 or None
        The same number for the same completion, -1 where it is null.
    empty : ndarray of bool or None
        Whether the completion says nothing but spaces.
    model : ndarray of int64 or None
        Index into `models`.
    models : tuple of str
        By first appearance, named by `gspo_rs.data.labels.labelled`.
    per : mapping
        From each column of `Names.per` to its values.
    """

    groups: Groups
    reward: Floats
    length: Floats | None
    text: Integers | None
    empty: NDArray[np.bool_] | None
    model: Integers | None
    models: tuple[str, ...]
    per: Mapping[str, Labels] = field(default_factory=dict)


def choose(
    source: Source,
    *,
    by: str | Sequence[str],
    reward: str,
    given: Mapping[str, str | None],
    per: Sequence[str] = (),
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
    per : sequence of str
        Columns whose values get a table.

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
    asked = [
        (name, ANYTHING if part in SPOKEN else TYPES[part])
        for part, name in given.items()
        if name is not None
    ]
    labels = [(name, KEY) for name in per]
    source.check([*((key, KEY) for key in keys), (reward, NUMBER), *asked, *labels])
    found: dict[str, str | None] = {}
    missing: dict[str, str] = {}
    for part, name in given.items():
        found[part] = name
        if name is None:
            fitting = _fitting(part, source, exclude=(*keys, reward))
            found[part] = fitting[0] if len(fitting) == 1 else None
            if found[part] is None:
                missing[part] = _reason(part, fitting, keys)
    spoken_in = {part: name for part in SPOKEN if (name := found[part]) is not None}
    chat = frozenset(part for part, name in spoken_in.items() if is_messages(source, name))
    parts = (found["prompt"], found["completion"], found["model"])
    return Names(keys, reward, *parts, missing, tuple(per), chat)


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
    columns = [*([] if names.model is None else [names.model]), *names.per]
    found = [labelled(source.key(name)).cast(pl.Categorical) for name in columns]
    narrow = read_keys(source, names.by, names.reward, found)
    length, text, empty = None, None, None
    if names.completion is not None:
        length, text, empty = _texts(source, names, len(narrow.rewards))
    labels = [_labels(column) for column in narrow.beside]
    model = None if names.model is None else labels[0]
    return ReportRows(
        groups=narrow.groups,
        reward=narrow.rewards,
        length=length,
        text=text,
        empty=empty,
        model=None if model is None else model.codes,
        models=() if model is None else model.names,
        per=dict(zip(names.per, labels[len(columns) - len(names.per) :], strict=True)),
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


def _labels(column: pl.Series) -> Labels:
    found = Groups(column)
    return Labels(found.codes, tuple(found.ids.cast(pl.String).to_list()))


def _fitting(part: str, source: Source, *, exclude: Sequence[str]) -> list[str]:
    """Return the columns with a known name for `part` and its type."""
    schema = source.check([])
    known = [name for name in KNOWN[part] if name in schema and name not in exclude]
    return [name for name in known if _fits(part, source, name)]


def _fits(part: str, source: Source, name: str) -> bool:
    kind = source.type_of(name)
    if part in SPOKEN and not kind.is_nested():
        kind = source.as_text(name)
    return EXPECTED[TYPES[part]](kind)


def _reason(part: str, fitting: Sequence[str], keys: Sequence[str]) -> str:
    advice = f"name one with --{OPTIONS[part]}"
    if fitting:
        return f"{' and '.join(fitting)} could both be meant; {advice}"
    if taken := [name for name in KNOWN[part] if name in keys]:
        return f"{taken[0]} is part of the group's id; {advice}"
    return f"no column is called {' or '.join(KNOWN[part])}; {advice}"


def _texts(source: Source, names: Names, n_rows: int) -> tuple[Floats, Integers, NDArray[np.bool_]]:
    """Return the length of each completion, a number that equal ones share, and if it is empty."""
    chat, name = "completion" in names.chat, names.completion
    assert name is not None
    column = source.column(name)
    column = (column if chat else column.cast(pl.String)).alias("text")
    lengths, digests, nulls, empty = [], [], [], []
    for frame in windows(source, [column], n_rows, "reading completions"):
        texts = frame["text"]
        whole = texts
        if chat:
            turns = [said(one) for one in source.objects(texts)]
            texts = pl.Series([as_one_text(one) for one in turns], dtype=pl.String)
            whole = pl.Series([None if t is None else repr(t) for t in turns], dtype=pl.String)
        lengths.append(texts.str.len_chars().cast(pl.Float64).fill_null(np.nan).to_numpy())
        digests.append(_digests(whole))
        nulls.append(texts.is_null().to_numpy())
        empty.append((texts.str.strip_chars() == "").fill_null(value=False).to_numpy())
    halves = pl.DataFrame(np.concatenate(digests), schema=["low", "high"])
    codes = Groups(halves).codes.copy()
    codes[np.concatenate(nulls)] = -1
    return np.concatenate(lengths), codes, np.concatenate(empty)


def _digests(texts: pl.Series) -> NDArray[np.uint64]:
    """Return the digests of texts as pairs of words; shape (n, 2). A null is like an empty text."""
    raw = texts.cast(pl.Binary).fill_null(b"")
    joined = b"".join(blake2b(text, digest_size=16).digest() for text in raw)
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)
