"""Command lines of the release before, answered with the new one to type; for this release."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["FLAGS", "TARGETS", "renewed"]

VERBS = {"lists": "nest", "rows": "explode", "select": "filter"}
# What a verb that needs a target may write where none was given.
TARGETS = {
    "best": "best.parquet",
    "explode": "rows.parquet",
    "filter": "kept.parquet",
    "grade": "graded",
    "nest": "groups.parquet",
    "pairs": "pairs.parquet",
    "sample": "sampled",
    "score": "scored",
    "verl": "train.parquet",
}
# Options without a value; all others of these verbs take the next word.
FLAGS = {
    *("--allow-empty", "--chat", "--dry-run", "--json", "--list", "--overwrite"),
    *("--quiet", "--resume", "--no-resume", "--verbose", "-v"),
}
HELP = {"--help", "-h", "--version"}


def renewed(words: Sequence[str]) -> str | None:
    """Return what to type instead, in one line, if the words of a command are an old spelling.

    A target by position is one only if it is not there, or may be replaced: the last file of a
    glob is none, and never comes after `-o`.

    Examples
    --------
    >>> print(renewed(["pairs", "in.parquet", "out.parquet", "--by", "id"]).partition("now: ")[2])
    ... # doctest: +SKIP
    gspo-rs pairs in.parquet -o out.parquet --by id
    """
    if not words:
        return None
    verb = VERBS.get(words[0], words[0])
    why = [] if verb == words[0] else [f"`{words[0]}` is `{verb}`"]
    rest = list(words[1:])
    if verb == "report":
        rest = [_model_column(word) for word in rest]
        why += ["`--source` is `--model-column`"] if rest != list(words[1:]) else []
    if verb in TARGETS and not HELP & set(rest):
        rest, moved = _with_target(verb, rest)
        why += moved
    if not why:
        return None
    if words[0] == "select" and not HELP & set(rest):
        rest += ["--layout", "narrow"]
    # Here, because every command comes by, and few need an answer.
    import shlex

    from gspo_rs.cli.typed import program

    return f"error: {'; '.join(why)}; type now: {shlex.join([*program(), verb, *rest])}"


def _model_column(word: str) -> str:
    head, equals, value = word.partition("=")
    return f"--model-column{equals}{value}" if head == "--source" else word


def _with_target(verb: str, rest: list[str]) -> tuple[list[str], list[str]]:
    """Put `-o` where it belongs, and say why."""
    places, end = _positions(rest)
    if any(word.startswith(("-o", "--output")) for word in rest[:end]) or not places:
        return rest, []
    last = places[-1]
    replaced = len(places) == 2 and "--overwrite" in rest
    if len(places) == 1 or not _may_be_target(verb, rest[last], replaced=replaced):
        why = f"`{verb}` needs -o and what to write"
        return [*rest[:end], "-o", TARGETS[verb], *rest[end:]], [why]
    why = "the target comes after -o"
    if last < end:
        return [*rest[:last], "-o", *rest[last:]], [why]
    target = f"--output={rest.pop(last)}"
    return [*rest[:end], target, *rest[end:]], [why]


def _positions(rest: list[str]) -> tuple[list[int], int]:
    """Return where the words are that no option takes, and where `--` ends the options."""
    places, place = [], 0
    while place < len(rest) and rest[place] != "--":
        word = rest[place]
        if word == "-" or not word.startswith("-"):
            places.append(place)
        elif "=" not in word and word not in FLAGS:
            place += 1
        place += 1
    end = min(place, len(rest))
    return [*places, *range(end + 1, len(rest))], end


def _may_be_target(verb: str, word: str, *, replaced: bool) -> bool:
    if os.path.exists(word):  # noqa: PTH110 - pathlib would take longer to load than to ask
        folder = os.path.isdir(word)  # noqa: PTH112
        return folder if verb == "score" else replaced
    return True
