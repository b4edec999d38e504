"""How a command ends: its output, or one line on standard error, and an exit code."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from typing import TypeAlias

from gspo_rs.cli.outcome import Outcome, show
from gspo_rs.cli.parameters import Json, Quiet, Verbose
from gspo_rs.cli.terminal import one_line, printable
from gspo_rs.cli.typed import typed
from gspo_rs.files.termination import exit_code
from gspo_rs.train import torchrun

# A text, a text and an exit code, or a summary.
Ended: TypeAlias = str | tuple[str, int] | Outcome

# Errors reported in one line; anything else is a bug of ours and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, OSError, ArithmeticError, RuntimeError, MemoryError)
# The input was bad; the input was fine but the work failed.
BAD_INPUT, FAILED, TOO_MANY_FAILED = 2, 1, 3
EXIT_CODES = {
    0: "Done; also if nothing was to be done, because a finished output is what was asked for.",
    FAILED: (
        "The input was fine, but the work failed: a run diverged, memory was too small, another "
        "process writes the same output, `doctor` found something, or there is a bug of ours or of "
        "a library."
    ),
    BAD_INPUT: (
        "A wrong command line or bad input: what is wrong, where, and the remedy, in one line. "
        "Nothing was written."
    ),
    TOO_MANY_FAILED: (
        "More rows failed to be graded, or sampled, than --max-failed lets; what is written stays, "
        "and the same command goes on."
    ),
    129: "The terminal was closed (SIGHUP); as for Ctrl-C.",
    130: "Ctrl-C; what was there is as it was, and the line says how to go on.",
    141: "Nobody read the output to its end, as in `gspo-rs stats … | head`; files are written.",
    143: "SIGTERM; the same.",
}


def command(
    stopped: str, *, summarized: bool = False
) -> Callable[[Callable[..., Ended]], Callable[..., int]]:
    """Turn a function that returns how it ended into a command.

    The command gets the option ``--verbose``, and if it is `summarized`, which is to return an
    `Outcome`, ``--quiet`` and ``--json``.

    Parameters
    ----------
    stopped : str
        How to continue after Ctrl-C or SIGTERM, with arguments of the function in braces;
        ``{again}`` is the whole command.
    """
    added = [("quiet", Quiet), ("json_", Json)] if summarized else []
    added.append(("verbose", Verbose))

    def decorate(work: Callable[..., Ended]) -> Callable[..., int]:
        own = signature(work)

        @wraps(work)
        def run(*given: object, **options: object) -> int:
            start = time.perf_counter()
            said = {name: bool(options.pop(name, False)) for name, _ in added}
            try:
                with _shown(quiet=said.get("quiet")):
                    found = work(*given, **options)
            except KeyboardInterrupt:
                arguments = own.bind(*given, **options).arguments
                return interrupted(stopped.format(again=typed(), **arguments))
            except SystemExit as end:
                return exited(end)
            except USER_ERRORS as error:
                return report_error(error, verbose=said["verbose"])
            if isinstance(found, Outcome):
                seconds = time.perf_counter() - start
                show(found, seconds, quiet=said["quiet"], as_json=said["json_"])
                return found.code
            text, code = found if isinstance(found, tuple) else (found, 0)
            sys.stdout.write(text)
            return code

        more = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for name, kind in added
        ]
        parameters = [*own.parameters.values(), *more]
        parameters.sort(key=lambda parameter: parameter.kind)  # `**rest` is the last
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return run

    return decorate


@contextmanager
def _shown(*, quiet: bool | None) -> Iterator[None]:
    """Show what the library logs, and take its progress bars away at the end, however it comes.

    With `quiet` neither is shown; with None the command logs for itself.
    """
    # Loaded by whoever shows bars, if anybody: it takes as long as Polars.
    name = "gspo_rs.data.progress"
    if quiet is False:
        from gspo_rs.cli import logs

        logs.show("%(message)s")
    with import_module(name).silent() if quiet else nullcontext():
        try:
            yield
        finally:
            if name in sys.modules:
                sys.modules[name].passes.close()


def report_error(error: Exception, *, verbose: bool) -> int:
    """Print `error` in one line and return the exit code; with `verbose`, raise it instead."""
    if verbose:
        raise error
    if trace := getattr(error, "trace", ""):  # of a reward function
        sys.stderr.writelines(f"{printable(line)}\n" for line in trace.splitlines())
    line = _line(error)
    if torchrun.several() and not line.startswith("rank "):
        line = f"rank {torchrun.rank()}: {line}"
    sys.stderr.write(f"error: {line}\n")
    # A run that diverged had good input; the rest is bad input.
    failed = isinstance(error, RuntimeError | ArithmeticError | MemoryError)
    code: int = getattr(error, "exit_code", FAILED if failed else BAD_INPUT)
    return code


def panicked(error: BaseException) -> int:
    """Report a panic of native code, which is a bug in that code, and return the exit code."""
    remedy = "a bug in a library, not in your input; -v shows where. Is a file damaged?"
    sys.stderr.write(f"{one_line(f'error: native code panicked: {error}')}; {remedy}\n")
    return FAILED


def exited(end: SystemExit) -> int:
    """Report that other code called `exit` before the work was done; return the exit code."""
    sys.stderr.write(f"error: other code called exit({printable(repr(end.code))}) in this run\n")
    return FAILED


def interrupted(remedy: str) -> int:
    """Print how to continue after the signal being handled; return the exit code."""
    try:
        sys.stderr.write(f"{printable(remedy)}\n")
    except OSError:
        from gspo_rs.data.standard_output import give_up_output

        if not give_up_output():  # a terminal that was closed
            raise
    return exit_code(sys.exception())


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Buffer what native code writes to standard error, and drop it if the command fails.

    A panic inside Polars prints its own message before it becomes an exception, which the
    command then reports in one line. What Python writes is not buffered. If the command succeeds,
    or ends in a traceback, the buffer is written. An abort, which nothing survives, is still
    reported as one.
    """
    sys.stderr.flush()
    real = os.dup(2)
    python, failed = sys.stderr, False
    held = os.memfd_create("held back")
    os.dup2(held, 2)
    try:
        with os.fdopen(os.dup(real), "w", buffering=1, errors="backslashreplace") as sys.stderr:
            faulthandler.enable(sys.stderr)
            try:
                yield
            finally:
                faulthandler.disable()
    except SystemExit as end:
        failed = end.code not in (None, 0)
        raise
    finally:
        sys.stderr = python
        os.dup2(real, 2)
        os.close(real)
        if not failed:
            os.lseek(held, 0, os.SEEK_SET)
            with os.fdopen(held, "rb") as text:
                sys.stderr.write(text.read().decode(errors="replace"))
        else:
            os.close(held)


def _line(error: Exception) -> str:
    """Return the message of an error in one line."""
    text = str(error) or f"{type(error).__name__} without a message"
    # Our own messages are complete; a library's message needs the class of the error.
    ours = type(error).__module__.partition(".")[0] == "gspo_rs"
    named = ours or isinstance(error, ValueError | TypeError | OSError)
    return one_line(text if named else f"{type(error).__name__}: {text}")
