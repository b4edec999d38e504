"""Files with one row per prompt, scored as one row per completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from gspo_rs.data.nested_source import NestedSource, by_member, is_nested
from gspo_rs.data.source import Source
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.scoring.options import Options

__all__ = ["refuse_unfit", "split_inputs", "split_sources"]


def split_inputs(
    inputs: list[Input], asked: Options, by: Sequence[str] | None
) -> tuple[list[Input], Options]:
    """Return files whose rewards are lists as rows of completions; any others as they are.

    Parameters
    ----------
    inputs : list of Input
    asked : Options
        With the reward.
    by : sequence of str or None
        The keys; None where each row is a group, numbered over all files.

    Raises
    ------
    ValueError
        As `gspo_rs.data.nested_source.by_member`; also if a column is a list of members in one
        file and not in another.
    TypeError
        If the rewards are lists in some files only.
    """
    lists = [is_nested(one.source, asked.reward) for one in inputs]
    if not any(lists):
        return inputs, asked
    if not all(lists):
        nested, flat = (inputs[lists.index(kind)].source.name for kind in (True, False))
        raise TypeError(
            f"column {asked.reward!r} is a list for each row in {nested}, but none in {flat}; "
            "score them one after the other"
        )
    given = [one.source for one in inputs]
    sources = split_sources(
        given,
        every=asked.layout == "wide",
        by=by,
        reward=asked.reward,
        beside=[asked.rollouts],
    )
    keys = tuple(by) if by is not None else (str(sources[0].group),)
    found = [replace(one, source=source) for one, source in zip(inputs, sources, strict=True)]
    nested_as = "rows" if by is None else "keys"
    return found, replace(asked, by=keys, nested=nested_as, exploded=sources[0].exploded)


def split_sources(
    sources: Sequence[Source],
    *,
    every: bool,
    by: Sequence[str] | None,
    reward: str,
    beside: Sequence[str | None] = (),
) -> list[NestedSource]:
    """Return rows of completions of each file, the rows above them numbered over all files."""
    found: list[NestedSource] = []
    first = 0
    for one in sources:
        source, _ = by_member(one, by, [reward], beside=beside, every=every, first=first)
        assert isinstance(source, NestedSource)
        first += len(source.sizes)
        found.append(source)
        for what in ("group", "exploded"):
            here, there = getattr(found[0], what), getattr(source, what)
            if here != there:
                raise ValueError(
                    f"{found[0].name} and {source.name} have other columns of lists or of groups "
                    f"({here!r} and {there!r}); score them one after the other"
                )
    return found


def refuse_unfit(given: Input, frame: pl.DataFrame, first: int, options: Options) -> None:
    """Raise for a null key or an infinite reward, naming row and member.

    `frame` has keys and reward of the rows of completions from `first` on.
    """

    def place(wrong: pl.Series) -> str:
        return f"{given.source.place(first + int(wrong.arg_max() or 0))} of {given.source.name}"

    for number, name in enumerate(options.by):
        null = frame[f"key{number}"].is_null()
        if null.any():
            raise ValueError(f"key column {name!r} is null at {place(null)}; a row needs a group")
    if frame["reward"].dtype.is_float():
        infinite = frame["reward"].is_infinite().fill_null(value=False)
        if infinite.any():
            raise ValueError(f"the reward {options.reward!r} is infinite at {place(infinite)}")
