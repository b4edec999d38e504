"""The help of `gspo-rs`, without the modules that lay out the help of a command.

They take ten times as long to load as everything else. The text is theirs to the letter; where the
terminal is not an ordinary one, they write it.
"""

from __future__ import annotations

import os
import sys

from gspo_rs.cli.commands import COMMANDS, OPTIONS, SUMMARY

__all__ = ["overview", "shown"]

# In columns; below, names are broken over lines too.
NARROWEST = 60

# What changes colours or the width.
ENVIRONMENT = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def shown(words: list[str]) -> bool:
    """Print the help of `gspo-rs` if `words` ask for it, and the output is an ordinary one."""
    if words not in ([], ["--help"], ["-h"]) or any(name in os.environ for name in ENVIRONMENT):
        return False
    styled, width = sys.stdout.isatty(), _width()
    known = os.environ.get("TERM") not in (None, "dumb", "unknown") or not styled
    if not known or width < NARROWEST or sys.stdout.encoding.lower() != "utf-8":
        return False
    sys.stdout.write(overview(width, styled=styled))
    return True


def overview(width: int, *, styled: bool) -> str:
    """Return the help of `gspo-rs`, `width` columns wide, with bold and colour if `styled`.

    Examples
    --------
    >>> print(overview(80, styled=False).splitlines()[7])
    │ doctor                Check your own loss or advantage function and list     │
    """
    bold, colour, plain = ("\x1b[1m", "\x1b[36m", "\x1b[0m") if styled else ("", "", "")
    entries = {name: line for name, (_, line) in sorted(COMMANDS.items())} | OPTIONS
    column = max(map(len, entries))
    room = width - column - 6
    body = [
        f"│ {colour}{'' if later else name:{column}}{plain}  {part:{room}} │"
        for name, line in entries.items()
        for later, part in enumerate(wrapped(line, room))
    ]
    return "\n".join(
        [
            f"{bold}Usage: gspo-rs COMMAND{plain}\n",
            *wrapped(SUMMARY, width),
            f"\n╭─ Commands {'─' * (width - 13)}╮",
            *body,
            f"╰{'─' * (width - 2)}╯\n",
        ]
    )


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` columns, between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        lines[-1:] = [longer] if len(longer) <= width else [lines[-1], word]
    return lines


def _width() -> int:
    """Return the columns of the terminal, whichever stream it is at; 80 without one."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit():
        return int(columns)
    for stream in (0, 1, 2):
        try:
            return os.get_terminal_size(stream).columns or 80
        except OSError:  # a file, a pipe, or closed
            continue
    return 80
