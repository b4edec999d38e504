"""Readers of the output that go away before its end: `| head`, a terminal that is closed."""

from __future__ import annotations

import os
import select
import sys
from types import TracebackType

from rich.console import Console

__all__ = ["LastingConsole", "give_up_output"]

_GONE = select.POLLERR | select.POLLHUP


class LastingConsole(Console):
    """Prints for work that goes on where nobody reads it any more.

    Rich itself ends the process when a pipe breaks, and raises when a terminal is closed.
    """

    def on_broken_pipe(self) -> None:
        """Let the text go nowhere."""
        self._go_on()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        except OSError:
            if not self._go_on():
                raise

    def _go_on(self) -> bool:
        if gone := give_up_output():
            sys.stderr.write("nobody reads the output any more; the work goes on without it\n")
        return gone


def give_up_output() -> bool:
    """Let standard output and error go nowhere, each if nobody reads it any more.

    Python writes what is left in their buffers when it ends, which would fail again.

    Returns
    -------
    bool
        Whether one of them has lost its reader.
    """
    watched = select.poll()
    for stream in (sys.stdout, sys.stderr):
        watched.register(stream.fileno(), 0)
    gone = [descriptor for descriptor, event in watched.poll(0) if event & _GONE]
    for descriptor in gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(gone)
