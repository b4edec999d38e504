"""What ready rewards there are."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from importlib import import_module

__all__ = ["Ready", "listed"]

LIBRARY = "gspo_rs.rewards.library"
GIVEN = ("prompts", "completions")
_EXTRA = re.compile(r"Needs ``gspo_rs\[(\w+)\]``")


@dataclass(frozen=True)
class Ready:
    """A ready reward.

    Attributes
    ----------
    name : str
    spec : str
        What ``--reward`` takes.
    columns : tuple of str
        The columns that it needs beside prompts and completions.
    meaning : str
        What it gives.
    extra : str or None
        The extra of this package that has its library.
    killable : bool
        Whether it is called only in workers.
    """

    name: str
    spec: str
    columns: tuple[str, ...]
    meaning: str
    extra: str | None
    killable: bool


def listed() -> list[Ready]:
    """Return the ready rewards, by name.

    Examples
    --------
    >>> next(one for one in listed() if one.name == "numeric_match").columns
    ('answer',)
    """
    library = import_module(LIBRARY)
    names = [name for name in library.__all__ if inspect.isfunction(getattr(library, name))]
    return [_described(name) for name in sorted(names) if name != "listed"]


def _described(name: str) -> Ready:
    function = getattr(import_module(LIBRARY), name)
    text = inspect.getdoc(function) or ""
    needed = [
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD and one.name not in GIVEN
    ]
    extra = _EXTRA.search(text)
    return Ready(
        name=name,
        spec=f"{LIBRARY}:{name}",
        columns=tuple(needed),
        meaning=text.split("\n\n")[0].replace("\n", " "),
        extra=extra and extra[1],
        killable="refuse_outside_worker" in function.__code__.co_names,
    )
