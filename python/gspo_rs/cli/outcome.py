"""What a command says at its end: a summary for people, or for machines, and what comes next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gspo_rs.cli.terminal import printable

if TYPE_CHECKING:
    from gspo_rs.files.writer import WriteSummary

__all__ = ["Outcome", "counted", "grouping", "of_write", "read_by_lists", "show"]


@dataclass(frozen=True)
class Outcome:
    """The end of a command.

    Attributes
    ----------
    lines : sequence of str
        The summary.
    facts : mapping
        The same for `--json`.
    result : str
        What the command is for, such as a table; then the summary is on standard error.
    following : sequence of str
        The words of a command that may come next.
    code : int
        The exit code.
    """

    lines: Sequence[str]
    facts: Mapping[str, Any]
    result: str = ""
    following: Sequence[str] = ()
    code: int = 0

    @property
    def next(self) -> str:
        """The command that may come next, quoted for a shell."""
        return shlex.join(["gspo-rs", *self.following]) if self.following else ""


def grouping(by: Sequence[str] | None, reward: str | None) -> list[str]:
    """Return the options with which the next command finds the same groups and rewards.

    Examples
    --------
    >>> grouping(["id"], "score"), grouping(None, None)
    (['--by', 'id', '--reward', 'score'], [])
    """
    keys = [word for key in by or () for word in ("--by", key)]
    return [*keys, "--reward", reward] if reward not in (None, "reward") else keys


def counted(n: int, things: str) -> str:
    """Return a number of things, in the singular where it is one.

    Examples
    --------
    >>> counted(1, "files"), counted(1200, "rows")
    ('1 file', '1,200 rows')
    """
    return f"{n:,} {things.removesuffix('s') if n == 1 else things}"


def show(outcome: Outcome, seconds: float, *, quiet: bool, as_json: bool) -> None:
    """Print the end of a command.

    With `quiet` only the result; with `as_json` one object in place of both.
    """
    if as_json:
        import json  # as long to load as what `--help` takes of our own

        following = {"next": outcome.next} if outcome.following else {}
        facts = {**outcome.facts, "seconds": round(seconds, 3), **following}
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
        return
    sys.stdout.write(outcome.result)
    if quiet:
        return
    time = f"{seconds:.1f} s"
    lines = [*outcome.lines, f"{time}; next: {outcome.next}" if outcome.following else time]
    stream = sys.stderr if outcome.result else sys.stdout
    stream.write("".join(f"{printable(line)}\n" for line in lines))


def of_write(
    verb: str,
    written: WriteSummary,
    target: Path,
    *,
    following: Sequence[str],
    dry_run: bool = False,
) -> Outcome:
    """Summarise what was written and dropped; warn if rows have their group's lowest reward."""
    if written.lowest:
        sys.stderr.write(_worst(written))
    groups = "" if written.groups is None else f" of {counted(written.groups, 'groups')}"
    place = f"would be in {target}; nothing was written" if dry_run else f"in {target}"
    lines = [f"{counted(written.rows, 'rows')}{groups} {place}"]
    lines += [
        f"{counted(rows, 'rows')} dropped by {rule}" for rule, rows in written.dropped.items()
    ]
    if written.same_text:
        texts = "chosen and rejected are the same text"
        lines.append(f"{counted(written.same_text, 'pairs')} left out: {texts}")
    facts: dict[str, Any] = {
        "verb": verb,
        "output": str(target),
        "dry_run": dry_run,
        "rows": written.rows,
        "groups": written.groups,
        "dropped": written.dropped,
    }
    if verb == "pairs":
        facts["same_text"] = written.same_text
    if written.exploded:
        lines.append(read_by_lists(written.exploded))
        facts["exploded"] = list(written.exploded)
    return Outcome(lines, facts, following=() if dry_run else following)


def read_by_lists(exploded: Sequence[str]) -> str:
    """Say which lists were read as one value for each completion."""
    return f"one row per prompt, read by the lists {', '.join(exploded)}"


def _worst(written: WriteSummary) -> str:
    found = (
        f"{written.lowest:,} of {written.rows:,} rows have the lowest reward of their group, "
        f"{written.alike:,} of these in groups whose rewards are all equal"
    )
    if not any(rule.startswith("reward:") for rule in written.dropped):
        found += "; a rule such as --keep reward:1.. drops rows whose reward is too low"
    return found + "\n"
