"""The command line as the user typed it, for messages that say how to run it again."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["typed"]


def typed(more: str | None = None) -> str:
    """Return the running command, quoted for a shell.

    Parameters
    ----------
    more : str, optional
        A flag such as ``--resume``, added if it is missing.

    Returns
    -------
    str
        A program on the PATH is given by its name alone.
    """
    program, *arguments = sys.argv
    start = [program]
    if shutil.which(Path(program).name) == program:
        start = [Path(program).name]
    elif program == "-c" or program.endswith(".py"):  # `python -c`, `python -m`
        start = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
    if more is not None and more not in arguments:
        negated = more.replace("--", "--no-", 1)
        arguments = [word for word in arguments if word != negated]
        # What follows `--` is no flag.
        arguments.insert(arguments.index("--") if "--" in arguments else len(arguments), more)
    return shlex.join([*start, *arguments])
