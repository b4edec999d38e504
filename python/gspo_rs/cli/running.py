"""The command line but for its help: reads the words, calls the command, ends the process."""

import atexit
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from gspo_rs.cli.names import with_stdin
from gspo_rs.cli.old_spellings import renewed
from gspo_rs.cli.terminal import printable
from gspo_rs.files.termination import answer_signals
from gspo_rs.train.torchrun import several

__all__ = ["run"]

# Commands that run other people's code, whose output is shown at once.
FOREIGN = (["doctor"], ["train"])


def run() -> None:
    """Run the command that the words name, and end with its code."""
    answer_signals()
    from gspo_rs.cli.errors import quiet_panics

    # A name that no encoding can write is still shown.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if sys.argv[1:2] in FOREIGN:
        if several():
            end = os._exit  # before other code is kept from it
            _end_with(_code(), end)
        sys.exit(_run())
    with quiet_panics(), _rare_collections():
        sys.exit(_run())


def _code() -> int:
    """Run the command line and return its exit code, which the application raises."""
    try:
        return _run() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _end_with(code: int, end: Callable[[int], NoReturn]) -> NoReturn:
    """End a process of several, whose threads of gloo may abort one that ends as others do."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an end does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    end(code)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Seldom look for cycles among objects of modules, which stay: a seventh of a short command.

    Not where tensors are made: a few of them, in a cycle, are much memory.
    """
    gc.set_threshold(50_000)
    try:
        yield
    finally:
        gc.freeze()  # nothing is left to be found when the interpreter ends


def _run() -> Any:
    try:
        if (answer := renewed(sys.argv[1:])) is not None:
            sys.stderr.write(f"{printable(answer)}\n")
            return 2
        from gspo_rs.cli.application import app

        return app(with_stdin(sys.argv[1:]))
    except KeyboardInterrupt:
        # Before or after a command's work; the command itself says how to continue.
        from gspo_rs.cli.errors import interrupted

        return interrupted("stopped")
    except BaseException as error:
        # Each Rust library has its own class, which is not an `Exception`.
        if type(error).__name__ != "PanicException" or {"-v", "--verbose"} & set(sys.argv):
            raise
        from gspo_rs.cli.errors import panicked

        return panicked(error)
