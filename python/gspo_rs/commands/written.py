"""How a command ends that writes one file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.terminal import printable

if TYPE_CHECKING:
    from gspo_rs.files.output import Written


def tell(write: Callable[[], Written], target: Path, *, verbose: bool) -> int:
    """Write, say what was written and dropped or what went wrong, and return the exit code."""
    try:
        written = write()
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    place = printable(str(target))
    sys.stdout.write(f"{written.rows:,} rows of {written.groups:,} groups in {place}\n")
    if written.lowest:
        sys.stderr.write(_worst(written))
    for rule, rows in written.dropped.items():
        sys.stdout.write(f"{rows:,} rows dropped by {rule}\n")
    return 0


def _worst(written: Written) -> str:
    found = (
        f"{written.lowest:,} of {written.rows:,} rows have the lowest reward of their group, "
        f"{written.alike:,} of these in groups whose rewards are all equal"
    )
    if not any(rule.startswith("reward:") for rule in written.dropped):
        found += "; a rule such as --keep reward:1.. leaves out those that are not good enough"
    return found + "\n"
