"""How a command ends that went wrong: one line on standard error, and a code."""

from __future__ import annotations

import sys

# What a command tells in one line; anything else is a fault of ours and keeps its traceback.
TOLD = (ValueError, TypeError, OSError, ArithmeticError, RuntimeError, MemoryError)
# Bad input was given, the work failed though it was asked for rightly, Ctrl-C.
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def told(error: Exception, *, verbose: bool) -> int:
    """Write `error` in one line and return the exit code; with `verbose`, raise it instead."""
    if verbose:
        raise error
    sys.stderr.write(f"error: {_line(error)}\n")
    # A run that diverged was asked for rightly; the rest is bad input.
    return FAILED if isinstance(error, RuntimeError | ArithmeticError | MemoryError) else BAD_INPUT


def interrupted(remedy: str) -> int:
    """Say how to go on after Ctrl-C and return the exit code."""
    sys.stderr.write(f"{remedy}\n")
    return INTERRUPTED


def _line(error: Exception) -> str:
    """Return the message of an error in one line."""
    text = " ".join(str(error).split()) or "no message"
    name = type(error).__name__
    return text if isinstance(error, ValueError | OSError) else f"{name}: {text}"
