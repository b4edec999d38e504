"""The command line as the user typed it, for messages that say how to run it again."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["program", "typed"]


def typed(more: str | None = None, *, less: str | None = None) -> str:
    """Return the running command, quoted for a shell.

    Parameters
    ----------
    more : str, optional
        A flag such as ``--resume``, added if it is missing.
    less : str, optional
        A flag such as ``--dry-run``, left out.

    Returns
    -------
    str
        It begins as `program` says.
    """
    arguments = sys.argv[1:]
    if more is not None and more not in arguments:
        negated = more.replace("--", "--no-", 1)
        arguments = [word for word in arguments if word != negated]
        # What follows `--` is no flag.
        arguments.insert(arguments.index("--") if "--" in arguments else len(arguments), more)
    return shlex.join([*program(), *(word for word in arguments if word != less)])


def program() -> list[str]:
    """Return how the program itself was called; by its name alone if it is on the PATH."""
    name, *arguments = sys.argv
    if shutil.which(Path(name).name) == name:
        return [Path(name).name]
    if name == "-c" or name.endswith(".py"):  # `python -c`, `python -m`
        return sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
    return [name]
