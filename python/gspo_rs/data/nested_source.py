"""One row per prompt with lists, read as one row per completion."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from gspo_rs.data.column_names import column, free_name
from gspo_rs.data.list_columns import (
    Path,
    lengths,
    list_paths,
    member_path,
    split,
    split_type,
)
from gspo_rs.data.messages import CONVERSATIONS, is_messages
from gspo_rs.data.schema import as_keys
from gspo_rs.data.source import ANYTHING, EXPECTED, NUMBER, Source

__all__ = ["COMPLETIONS", "NestedSource", "by_member", "is_nested", "split_rows"]

# The names that the column of the completions usually has.
COMPLETIONS = ("completion", "response")
# The members that are read at a time, about.
CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class NestedSource(Source):
    """Rows of groups, read as one row per member.

    Attributes
    ----------
    inner : Source
        The rows as they are.
    members : tuple of Path
        The lists that are split; all else is repeated.
    decided : tuple of Path
        Those of them that are known to hold as many values as there are rewards.
    sizes : ndarray of int64
        The members of each row.
    group : str or None
        The column that is added, with the number of the row; None if there is none.
    first : int
        The number of the first row in it.
    """

    inner: Source
    members: tuple[Path, ...]
    decided: tuple[Path, ...]
    sizes: NDArray[np.int64]
    group: str | None = None
    first: int = 0

    @property
    def exploded(self) -> tuple[str, ...]:
        """The names of the columns, or fields of them, that are known to be of members."""
        return tuple(".".join(path) for path in self.decided)

    def places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the row of the source and the member of each row; both from 0."""
        ends = np.cumsum(self.sizes)
        above = np.searchsorted(ends, rows, side="right")
        return above, rows - (ends - self.sizes)[above]

    def as_written(self, items: Iterable[str] = (), typed: Iterable[str] = ()) -> Source | None:
        """Return the rows of JSON Lines with what is nested as binary JSON."""
        lists = {path[0] for path in self.members if len(path) == 1}
        structs = {path[0] for path in self.members if len(path) > 1}
        inner = self.inner.as_written({*items, *lists} - set(typed), {*typed, *structs})
        return None if inner is None else _viewed(replace(self, inner=inner))

    def as_text(self, name: str) -> pl.DataType:
        """Return the type of a column; in lists there are no fields of CSV."""
        return self.type_of(name)

    def objects(self, column: pl.Series) -> list[Any]:
        """Return values that were read, those of nested JSON with the keys that they have."""
        return self.inner.objects(column)

    def alike(self, column: pl.Series) -> pl.Series:
        """Return values of a column that are equal where two of nested JSON say the same."""
        return self.inner.alike(column)

    def count(self) -> int:
        """Return the number of members."""
        return int(self.sizes.sum())

    def refuse_missing(self, found: int) -> None:
        """Pass: whoever reads the rows compares their number."""

    @property
    def first_window(self) -> int:
        """All rows: a later start would read those before again."""
        return sys.maxsize

    def frames(
        self, columns: Sequence[str], schema: pl.Schema, below: dict[str, list[Path]]
    ) -> Iterator[pl.DataFrame]:
        """Yield some columns, about `CHUNK` members at a time."""
        heads = [name for name in columns if name != self.group] or [self.members[0][0]]
        step = max(CHUNK * len(self.sizes) // max(self.count(), 1), 1)
        row = 0
        for frame in self.inner.batches([column(name) for name in heads], len(self.sizes)):
            for start in range(0, frame.height, step):
                part = frame[start : start + step]
                sizes = self.sizes[row : row + part.height]
                for name in heads:
                    self._refuse_lengths(part[name], (name,), below[name], row)
                rows = np.repeat(np.arange(part.height), sizes)
                found = {name: split(part[name], below[name], rows) for name in heads}
                if self.group is not None:
                    numbers = rows + (self.first + row)
                    found[self.group] = pl.Series(self.group, numbers, dtype=pl.Int64)
                yield pl.DataFrame([found[name].cast(schema[name]) for name in columns])
                row += part.height

    def _refuse_lengths(
        self, values: pl.Series, path: Path, below: Sequence[Path], row: int
    ) -> None:
        """Raise for the first list that has another number of values than its row has members."""
        if () not in below:
            for field in {one[0] for one in below}:
                deeper = [one[1:] for one in below if one[0] == field]
                inside = values.alias("values").struct.field(field)
                self._refuse_lengths(inside, (*path, field), deeper, row)
            return
        found = lengths(values)
        sizes = self.sizes[row : row + len(values)]
        wrong = found.ne_missing(pl.Series(sizes, dtype=found.dtype))
        if wrong.any():
            place = int(np.argmax(wrong.to_numpy()))
            count = found[place]
            has = "is null" if count is None else f"has {count} values"
            raise ValueError(
                f"row {row + place} of {self.name}: {'.'.join(path)!r} {has}, but the row has "
                f"{sizes[place]} rewards; a list of members needs one value for each"
            )


def is_nested(source: Source, reward: str) -> bool:
    """Tell whether the rewards are lists of numbers, so that a row is a group."""
    found = member_path(source.check([]), reward)
    return found is not None and found[1] != pl.Null and EXPECTED[NUMBER](found[1])


def by_member(
    source: Source,
    by: str | Sequence[str] | None,
    rewards: Sequence[str],
    *,
    prompt: str | None = None,
    completion: str | None = None,
    beside: Iterable[str | None] = (),
    once: Sequence[str] = (),
    every: bool = False,
    first: int = 0,
) -> tuple[Source, tuple[str, ...]]:
    """Return one row per completion and the names of the keys, whatever the layout of a source.

    Parameters
    ----------
    source : Source
        One row per completion, which stays as it is; or one per prompt, whose rewards are lists.
    by : str or sequence of str, or None
        The columns that name the group of a row. None where each row is a group: then a column is
        added that has the number of the row, ``group`` or a longer name that is free.
    rewards, prompt, completion, beside, once, every
        As `split_rows`.
    first : int
        The number of the first row.

    Returns
    -------
    source : Source
    keys : tuple of str

    Raises
    ------
    ValueError
        If `by` is None and a row is no group; and as `split_rows`.
    TypeError, OSError
        As `split_rows`.

    Examples
    --------
    >>> from gspo_rs.data.source import locate
    >>> rows = {"prompt": ["1+1=", "1+2="], "reward": [[0.0, 1.0], [1.0]]}
    >>> found, keys = by_member(locate(pl.DataFrame(rows)), None, ["reward"])
    >>> keys, found.frame.collect().rows()
    (('group',), [('1+1=', 0.0, 0), ('1+1=', 1.0, 0), ('1+2=', 1.0, 1)])
    """
    keys = None if by is None else as_keys(by)
    if not any(is_nested(source, name) for name in rewards):
        if keys is None:
            source.check([(name, NUMBER) for name in rewards])
            raise ValueError(
                f"name the column that says which rows of {source.name} are of one prompt, with "
                f"`by`: without it each row is a group, and {rewards[0]!r} would have to be a list"
            )
        return source, keys
    found = split_rows(
        source,
        rewards,
        prompt=prompt,
        completion=completion,
        beside=[*(keys or ()), *beside],
        once=once,
        every=every,
    )
    if keys is not None:
        return found, keys
    group = free_name(source.check([]), "group")
    return _viewed(replace(found, group=group, first=first)), (group,)


def split_rows(
    source: Source,
    rewards: Sequence[str],
    *,
    prompt: str | None = None,
    completion: str | None = None,
    beside: Iterable[str | None] = (),
    once: Sequence[str] = (),
    every: bool = False,
) -> NestedSource:
    """Return one row per completion of a source with one per prompt.

    Parameters
    ----------
    source : Source
    rewards : sequence of str
        Columns of the rewards, or fields of them; all are lists.
    prompt, completion : str, optional
        Columns of the texts; by default those with the usual names.
    beside : iterable of str or None
        Other columns that will be read.
    once : sequence of str
        Columns that are lists, but of the group as a whole.
    every : bool
        Whether all columns will be read.

    Returns
    -------
    NestedSource
        Split are the lists of the rewards and completions, and all others that have as many values
        in every row. A list of messages that is the prompt or a conversation stays whole, and so
        does a list that has another number of values in every row.

    Raises
    ------
    ValueError
        If the rewards of a row are null or empty, or a list has as many values as its row has
        rewards in some rows only. Names row and column.
    TypeError
        If some of the rewards are lists, but not all.
    OSError
        If the source can't be read.

    Notes
    -----
    The lengths of the rewards are held, 8 bytes a row. The other lists are read once more to learn
    their lengths, if they are `beside`, or `every` column is asked for. Those of which nothing is
    asked are taken for lists of members, and refused where they turn out to be none.
    """
    source.check([(name, ANYTHING) for name in once])
    other = next((name for name in rewards if not is_nested(source, name)), None)
    if other is not None:
        source.check([(other, ANYTHING)])
        raise TypeError(
            f"column {other!r} of {source.name} is no list of numbers, but another reward is; all "
            "rewards are lists, or none is"
        )
    schema = source.check([])
    paths = _known(schema, [*rewards, *([completion] if completion else COMPLETIONS)])
    single = {*once, *_conversations(schema, prompt)}
    paths = [path for number, path in enumerate(paths) if not number or path[0] not in single]
    asked = {name for name in (prompt, *beside) if name is not None}
    others = _undecided(schema, paths, single, asked)
    sizes = _sizes(source, rewards[0], paths[0])
    # Whoever asks for a field reads those beside it.
    read = [path for path in others if every or len(path) > 1 or _is_asked(path, asked)]
    whole = _whole(source, read, sizes, rewards[0])
    found = NestedSource(
        rows=source.rows,
        name=source.name,
        files=source.files,
        names=source.names,
        behind=source.behind,
        inner=source,
        members=tuple(path for path in (*paths, *others) if path not in whole),
        decided=tuple(path for path in (*paths, *read) if path not in whole),
        sizes=sizes,
    )
    return _viewed(found)


def _viewed(source: NestedSource) -> NestedSource:
    """Return the source with the rows as its `inner` one gives them now."""
    given = source.inner.check([])
    below = {name: [path[1:] for path in source.members if path[0] == name] for name in given}
    types = {name: split_type(kind, below[name]) for name, kind in given.items()}
    if source.group is not None:
        types[source.group] = pl.Int64()
    schema = pl.Schema(types)

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for frame in source.frames(list(schema) if columns is None else columns, schema, below):
            part = frame if left is None else frame.head(left)
            yield part if predicate is None else part.filter(predicate)
            if left is not None:
                left -= part.height
                if left <= 0:
                    return

    return replace(source, rows=register_io_source(rows, schema=schema, is_pure=True))


def _known(schema: pl.Schema, names: Sequence[str]) -> list[Path]:
    """Return the paths of lists that are of members for sure, the rewards first."""
    found = [member_path(schema, name) for name in names]
    return list(dict.fromkeys(path for path, _ in filter(None, found)))


def _conversations(schema: pl.Schema, prompt: str | None) -> set[str]:
    """Return the columns whose list of messages is the prompt, or a conversation."""
    names = ("prompt", prompt, *CONVERSATIONS)
    return {name for name in names if name is not None and is_messages(schema.get(name))}


def _undecided(
    schema: pl.Schema, known: Sequence[Path], single: set[str], asked: set[str]
) -> list[Path]:
    inside = {path[0] for path in known} | {name.partition(".")[0] for name in asked}
    return [
        path
        for path in list_paths(schema, inside)
        if path not in known and ".".join(path) not in single and path[0] not in single
    ]


def _is_asked(path: Path, asked: set[str]) -> bool:
    name = ".".join(path)
    return any(one == name or one.startswith(f"{name}.") for one in asked)


def _sizes(source: Source, reward: str, path: Path) -> NDArray[np.int64]:
    """Return the number of rewards of each row."""
    column = source.column(".".join(path))
    counts = column.map_batches(lengths, pl.UInt32, is_elementwise=True)
    found = source.collect([counts.alias("size")])["size"]
    wrong = (found == 0).fill_null(True)
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        state = "null" if found[row] is None else "an empty list"
        raise ValueError(
            f"row {row} of {source.name}: {reward!r} is {state}; a row needs one reward for each "
            "completion (null for one that could not be scored), and at least one"
        )
    return found.cast(pl.Int64).to_numpy()


def _whole(
    source: Source, paths: Sequence[Path], sizes: NDArray[np.int64], reward: str
) -> set[Path]:
    """Return which of the lists have another number of values than the rewards in every row."""
    if not paths:
        return set()
    counts = [
        source.column(".".join(path)).map_batches(lengths, pl.UInt32, is_elementwise=True)
        for path in paths
    ]
    wanted = [count.alias(str(number)) for number, count in enumerate(counts)]
    same, other = [-1] * len(paths), [-1] * len(paths)
    row = 0
    for frame in source.batches(wanted, len(sizes)):
        expected = pl.Series(sizes[row : row + frame.height], dtype=pl.UInt32)
        for number in range(len(paths)):
            differ = frame[str(number)].ne_missing(expected).to_numpy()
            if other[number] < 0 and differ.any():
                other[number] = row + int(differ.argmax())
            if same[number] < 0 and not differ.all():
                same[number] = row + int((~differ).argmax())
        row += frame.height
    for number, path in enumerate(paths):
        if min(same[number], other[number]) >= 0:
            name = ".".join(path)
            raise ValueError(
                f"{name!r} of {source.name} has as many values as {reward!r} in row "
                f"{same[number]}, but not in row {other[number]}; name it with `once` if it is of "
                "the prompt as a whole, or make it one value for each completion"
            )
    return {path for number, path in enumerate(paths) if other[number] >= 0}
