"""How a command ends that went wrong: one line on standard error, and a code."""

from __future__ import annotations

import sys

from gspo_rs.terminal import one_line, printable
from gspo_rs.termination import exit_code

# What a command tells in one line; anything else is a fault of ours and keeps its traceback.
TOLD = (ValueError, TypeError, OSError, ArithmeticError, RuntimeError, MemoryError)
# Bad input was given, the work failed though it was asked for rightly.
BAD_INPUT, FAILED = 2, 1


def told(error: Exception, *, verbose: bool) -> int:
    """Write `error` in one line and return the exit code; with `verbose`, raise it instead."""
    if verbose:
        raise error
    sys.stderr.write(f"error: {_line(error)}\n")
    # A run that diverged was asked for rightly; the rest is bad input.
    return FAILED if isinstance(error, RuntimeError | ArithmeticError | MemoryError) else BAD_INPUT


def panicked(error: BaseException) -> int:
    """Write that native code panicked, which is a fault of its own, and return the exit code."""
    remedy = "a fault of a library, not of yours; -v shows where. Is a file damaged?"
    sys.stderr.write(f"{one_line(f'error: native code panicked: {error}')}; {remedy}\n")
    return FAILED


def exited(end: SystemExit) -> int:
    """Write that other code ended the program before its work was done; return the exit code."""
    sys.stderr.write(f"error: other code called exit({printable(repr(end.code))}) in this run\n")
    return FAILED


def interrupted(remedy: str) -> int:
    """Say how to go on after Ctrl-C or SIGTERM, which is being handled; return the exit code."""
    sys.stderr.write(f"{printable(remedy)}\n")
    return exit_code(sys.exception())


def _line(error: Exception) -> str:
    """Return the message of an error in one line."""
    text = str(error) or f"{type(error).__name__} without a message"
    # Of our own errors the message says it all; of a library's the class is a part of it.
    ours = type(error).__module__.partition(".")[0] == "gspo_rs"
    named = ours or isinstance(error, ValueError | TypeError | OSError)
    return one_line(text if named else f"{type(error).__name__}: {text}")
