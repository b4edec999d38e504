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

__all__ = ["Outcome", "of_write", "read_by_lists", "show"]


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
        The words of a command that may come next; `by` is added with its options.
    by : sequence of str
        The columns that name the group of a row.
    code : int
        The exit code.
    """

    lines: Sequence[str]
    facts: Mapping[str, Any]
    result: str = ""
    following: Sequence[str] = ()
    by: Sequence[str] = ()
    code: int = 0

    @property
    def next(self) -> str:
        """The command that may come next, quoted for a shell."""
        by = [word for key in self.by for word in ("--by", key)]
        return shlex.join(["gspo-rs", *self.following, *by]) if self.following else ""


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
    by: Sequence[str] = (),
    dry_run: bool = False,
) -> Outcome:
    """Summarise what was written and dropped; warn if rows have their group's lowest reward."""
    if written.lowest:
        sys.stderr.write(_worst(written))
    groups = "" if written.groups is None else f" of {written.groups:,} groups"
    place = f"would be in {target}; nothing was written" if dry_run else f"in {target}"
    lines = [f"{written.rows:,} rows{groups} {place}"]
    lines += [f"{rows:,} rows dropped by {rule}" for rule, rows in written.dropped.items()]
    facts: dict[str, Any] = {
        "verb": verb,
        "output": str(target),
        "dry_run": dry_run,
        "rows": written.rows,
        "groups": written.groups,
        "dropped": written.dropped,
    }
    if written.exploded:
        lines.append(read_by_lists(written.exploded))
        facts["exploded"] = list(written.exploded)
    return Outcome(lines, facts, following=() if dry_run else following, by=by)


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
