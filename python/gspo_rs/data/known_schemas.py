"""Columns as other tools of the field write them, and what to take of them where nobody says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

import polars as pl

from gspo_rs.data.column_names import type_in
from gspo_rs.data.source import EXPECTED, NUMBER, Source, locate

__all__ = ["OPTIONS", "SCHEMAS", "Columns", "KnownSchema", "columns_of", "with_known_columns"]

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("gspo_rs")

# The names of the column that says which prompt a row is of, beside the prompt itself.
IDS = ("prompt_id", "group_id", "prompt_uid", "group")
NOT_ASKED = "-"
# What a function finds by itself, refusing two of them.
USUAL = ("prompt", "completion", "response", "reward")
OPTIONS: Mapping[str, str] = {
    "by": "--by",
    "reward": "--reward",
    "prompt": "--prompt",
    "completion": "--completion",
    "model": "--model-column",
}


@dataclass(frozen=True)
class KnownSchema:
    """What a tool calls its columns.

    Attributes
    ----------
    name : str
        What is read, such as "a verl rollout dump".
    has : tuple of str
        The columns that tell it.
    by, prompt, completion, reward, model : tuple of str
        The columns of each part: of `by` all that are there, of the others the first. Where a row
        has lists it is a group, whatever `by` says.
    """

    name: str
    has: tuple[str, ...]
    by: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    completion: tuple[str, ...] = ()
    reward: tuple[str, ...] = ()
    model: tuple[str, ...] = ()


# In this order: of two that are by one tool, the first that fits is taken.
SCHEMAS = (
    KnownSchema(
        "TRL's log of completions",
        ("step", "prompt", "completion", "advantage"),
        # The policy changes from step to step.
        by=("step", "prompt"),
        prompt=("prompt",),
        completion=("completion",),
        reward=("reward",),
    ),
    KnownSchema(
        "TRL's prompts and completions",
        ("prompt", "completion", "reward"),
        by=("prompt",),
        prompt=("prompt",),
        completion=("completion",),
        reward=("reward",),
    ),
    KnownSchema(
        "a verl rollout dump",
        ("input", "output", "score"),
        by=("step", "input"),
        prompt=("input",),
        completion=("output",),
        reward=("score",),
    ),
    KnownSchema(
        "verl's data of reinforcement learning",
        ("data_source", "prompt", "reward_model"),
        by=("prompt",),
        prompt=("prompt",),
        completion=("completion", "response", "responses"),
        reward=("reward", "score", "scores"),
    ),
    KnownSchema(
        "samples of OpenRLHF",
        ("input", "output", "reward"),
        by=("input",),
        prompt=("input",),
        completion=("output",),
        reward=("reward",),
    ),
    KnownSchema(
        "rollouts of slime",
        ("group_index", "prompt", "response", "reward"),
        by=("group_index",),
        prompt=("prompt",),
        completion=("response",),
        reward=("reward",),
    ),
    KnownSchema(
        "prompts with their completions",
        ("prompt", "completions", "rewards"),
        by=("prompt",),
        prompt=("prompt",),
        completion=("completions",),
        reward=("rewards",),
    ),
    KnownSchema(
        "generations of distilabel",
        ("instruction", "generations", "ratings"),
        by=("instruction",),
        prompt=("instruction",),
        completion=("generations",),
        reward=("ratings",),
        model=("generation_models", "model_names"),
    ),
)
# Tools that have two schemas, one of which is in the other.
ONE_TOOL = {schema.name: "TRL" for schema in SCHEMAS if schema.name.startswith("TRL's")}


@dataclass(frozen=True)
class Columns:
    """The columns of the parts, as they are given or known; None for one that is neither.

    Attributes
    ----------
    by : tuple of str or None
        None where each row is a group, with lists of completions and rewards.
    reward : str
    prompt, completion, model : str or None
    said : str or None
        What was taken that nobody gave, such as "read as a verl rollout dump: by step and input,
        reward score".
    """

    by: tuple[str, ...] | None
    reward: str
    prompt: str | None = None
    completion: str | None = None
    model: str | None = None
    said: str | None = None


def columns_of(
    source: Source, by: str | Sequence[str] | None, reward: str | None, **others: str | None
) -> Columns:
    """Return the columns to read: those that are given, and of known schemas the others.

    Parameters
    ----------
    source : Source
    by : str or sequence of str, or None
        The columns that name the group of a row.
    reward : str or None
    **others : str or None
        ``prompt``, ``completion`` and ``model``, as far as they are wanted.

    Returns
    -------
    Columns
        What was taken of a schema is logged as well.

    Raises
    ------
    ValueError
        If nothing says what `by` is (lists the columns), or several schemas say different things
        of what is not given, or the reward has several fields (lists the candidates).

    Examples
    --------
    >>> from gspo_rs.data.source import locate
    >>> rows = {"input": ["2+2="], "output": ["4"], "score": [1.0], "step": [3]}
    >>> columns_of(locate(pl.DataFrame(rows)), None, None).said
    'read as a verl rollout dump: by step and input, reward score'
    """
    schema = source.check([])
    found = _matching(schema)
    parts = {"reward": reward, **others}
    taken = {
        part: given if given is not None else _agreed(source, part, found, schema)
        for part, given in parts.items()
    }
    score = taken["reward"] or "reward"
    if reward is None and found:
        score = taken["reward"] = _number_of(source, score, schema)
    keys = _keys(source, by, score, found, schema)
    new = {
        part: name
        for part, name in taken.items()
        if parts[part] is None and name is not None and name != part
    }
    said = None
    if found and (new or (by is None and keys is not None)):
        said = _said(found, None if by is not None else keys, score, new)
        _log.info("%s", said)
    prompt, completion, model = (taken.get(part) for part in ("prompt", "completion", "model"))
    return Columns(keys, score, prompt, completion, model, said)


def with_known_columns(function: F) -> F:
    """Let a function of a source do without columns that are known where they are not given.

    Its arguments `by`, `reward`, `prompt`, `completion` and `model_column`, as far as it has them,
    are those of `columns_of`; a completion that has a usual name it finds by itself.

    Examples
    --------
    >>> @with_known_columns
    ... def shown(source, *, by=None, reward="reward"):
    ...     return by, reward
    >>> shown(pl.DataFrame({"input": ["2+2="], "output": ["4"], "score": [1.0]}))
    (('input',), 'score')
    """
    arguments = {"by": "by", "reward": "reward", "prompt": "prompt", "completion": "completion"}
    arguments |= {"model": "model_column"}
    asked = signature(function).parameters
    has = {part: name for part, name in arguments.items() if name in asked}

    @wraps(function)
    def filled(source: Any, *rest: Any, **options: Any) -> Any:
        given = {part: options.get(name) for part, name in has.items()}
        if None not in given.values():
            return function(source, *rest, **options)
        located = locate(source)
        # A part that the function has no argument for is not asked for.
        by, reward = (given.pop(part, NOT_ASKED) for part in ("by", "reward"))
        # Of none the function itself says what is wrong.
        first = next(iter(reward), None) if isinstance(reward, tuple | list) else reward
        found = columns_of(located, by, first, **given)
        for part, name in has.items():
            value = getattr(found, part)
            itself = asked[name].default is None and value in USUAL
            if options.get(name) is None and value is not None and not itself:
                options[name] = value
        return function(located, *rest, **options)

    return cast("F", filled)


def _matching(schema: pl.Schema) -> list[KnownSchema]:
    """Return the schemas whose columns are all there; of one tool, the first."""
    found: dict[str, KnownSchema] = {}
    for known in SCHEMAS:
        if all(name in schema for name in known.has):
            found.setdefault(ONE_TOOL.get(known.name, known.name), known)
    return list(found.values())


def _agreed(
    source: Source, part: str, found: Sequence[KnownSchema], schema: pl.Schema
) -> str | None:
    """Return the column that the schemas have for a part."""
    names = {
        known.name: next((name for name in getattr(known, part) if name in schema), None)
        for known in found
    }
    if part == "reward":
        names |= {
            known.name: _reward_function(source, schema)
            for known in found
            if known is SCHEMAS[0] and names[known.name] is None
        }
    return _one(source, part, {name: (column,) for name, column in names.items() if column})


def _reward_function(source: Source, schema: pl.Schema) -> str:
    """Return the column of the only reward function in a log of TRL, which names each by itself."""
    named = ("step", "advantage", "rank", "percentile", "group_mean", "group_std")
    floats = [name for name, kind in schema.items() if kind.is_float() and name not in named]
    if len(floats) == 1:
        return floats[0]
    which = "no column of a reward function" if not floats else f"the rewards {_listed(floats)}"
    raise ValueError(f"{source.name} has {which}; name one with --reward (reward=…)")


def _one(source: Source, part: str, given: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return what all schemas say, refusing two that differ."""
    differing = dict(zip(given.values(), given, strict=True))
    if len(differing) > 1:
        listed = " or ".join(f"{' and '.join(n)} ({name})" for n, name in differing.items())
        raise ValueError(
            f"{source.name} could be read in several ways, with {part} {listed}; name it with "
            f"{OPTIONS[part]} ({part}=…)"
        )
    return next((names[0] for names in differing), None)


def _keys(
    source: Source,
    by: str | Sequence[str] | None,
    reward: str,
    found: Sequence[KnownSchema],
    schema: pl.Schema,
) -> tuple[str, ...] | None:
    if by is not None:
        return (by,) if isinstance(by, str) else tuple(by)
    if isinstance(_innermost(schema, reward), pl.List | pl.Array):
        return None
    given = {known.name: tuple(name for name in known.by if name in schema) for known in found}
    _one(source, "by", given)
    keys = next(iter(given.values()), ())
    others = [name for name in IDS if name in schema]
    if keys and not others:
        return keys
    if not schema:  # of files of 0 bytes
        raise ValueError(f"{source.name} has no rows")
    if keys:
        problem = f"{_listed([*keys, *others])} could name the group of a row"
    else:
        problem = "nothing says which rows are of one prompt"
    raise ValueError(
        f"{source.name}: {problem}; name the columns with --by (by=…){_lists_of_rewards(schema)}. "
        f"It has {_listed(schema)}"
    )


def _lists_of_rewards(schema: pl.Schema) -> str:
    """Say how rows with a list of rewards each, one per completion, are read."""
    is_number: Callable[[pl.DataType], bool] = EXPECTED[NUMBER]
    lists = [
        name
        for name, kind in schema.items()
        if isinstance(kind, pl.List | pl.Array)
        and isinstance(kind.inner, pl.DataType)
        and is_number(kind.inner)
    ]
    which = " or ".join(f"--reward {name}" for name in lists)
    return f", or the rewards where each row has a list of them: {which}" if lists else ""


def _innermost(schema: pl.Schema, name: str) -> pl.DataType | None:
    """Return the type of a column, or of the first list on the way to a field of it."""
    kind = type_in(schema, name)
    if kind is not None or "." not in name:
        return kind
    return _innermost(schema, name.rpartition(".")[0])


def _number_of(source: Source, reward: str, schema: pl.Schema) -> str:
    """Return the reward itself, or the only number in it where it has fields."""
    kind = type_in(schema, reward)
    if not isinstance(kind, pl.Struct):
        return reward
    is_number: Callable[[pl.DataType], bool] = EXPECTED[NUMBER]
    fields = [
        f"{reward}.{one.name}"
        for one in kind.fields
        if isinstance(one.dtype, pl.DataType) and is_number(one.dtype)
    ]
    if len(fields) == 1:
        return fields[0]
    numbers = f"the numbers {_listed(fields)}" if fields else "no number"
    raise ValueError(
        f"column {reward!r} of {source.name} has {numbers}; name one with --reward (reward=…)"
    )


def _said(
    found: Sequence[KnownSchema],
    keys: tuple[str, ...] | None,
    reward: str,
    new: Mapping[str, str | None],
) -> str:
    names = " and ".join(known.name for known in found)
    parts = [f"by {' and '.join(keys)}"] if keys else []
    shown = {"reward": reward, **new} if keys else new
    parts += [f"{part} {name}" for part, name in shown.items() if name is not None]
    return f"read as {names}: {', '.join(parts)}"


def _listed(names: Sequence[str] | pl.Schema) -> str:
    return ", ".join(map(repr, names))
