"""Which columns the report reads, and why it goes without the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gspo_rs.source import EXPECTED, KEY, NUMBER, TEXT, Source

__all__ = ["Names", "choose"]

# Names by which a column is known for its part when none is given. Two of one line in the same
# source are ambiguous, and neither is taken.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "completion": ("completion", "response"),
    "model": ("source", "model"),
}
TYPES: Mapping[str, str] = {"prompt": TEXT, "completion": TEXT, "model": KEY}
OPTIONS: Mapping[str, str] = {"prompt": "prompt", "completion": "completion", "model": "source"}


@dataclass(frozen=True)
class Names:
    """The columns of the parts; those that are None have their reason in `missing`."""

    by: tuple[str, ...]
    reward: str
    prompt: str | None = None
    completion: str | None = None
    model: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


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
    >>> from gspo_rs.source import locate
    >>> frame = pl.LazyFrame({"id": [1], "reward": [0.5], "response": ["four"]})
    >>> given = {"prompt": None, "completion": None, "model": None}
    >>> names = choose(locate(frame), by="id", reward="reward", given=given)
    >>> names.completion, names.missing["prompt"]
    ('response', 'no column is called prompt; name one with --prompt')
    """
    keys = (by,) if isinstance(by, str) else tuple(by)
    if not keys:
        raise ValueError("`by` names no column; a group needs at least one")
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
