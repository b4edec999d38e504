"""Handle SIGTERM like Ctrl-C: by an exception in the main thread, so that cleanup runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

__all__ = ["Terminated", "answer_signals", "exit_code", "terminations"]

# One entry for each SIGTERM.
_came: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM came; what answers to Ctrl-C answers to it."""


def exit_code(error: BaseException | None) -> int:
    """Return the code of a program that ends so: 128 and the number of the signal, as shells do.

    Native code answers to SIGTERM with a plain `KeyboardInterrupt`; it counts as what it was.

    Examples
    --------
    >>> exit_code(KeyboardInterrupt()), exit_code(Terminated())
    (130, 143)
    """
    terminated = bool(_came) or isinstance(error, Terminated)
    return 128 + (signal.SIGTERM if terminated else signal.SIGINT)


def terminations() -> int:
    """Return how many times SIGTERM came; each has sent a SIGINT."""
    return len(_came)


def answer_signals() -> None:
    """Make SIGTERM raise `Terminated` in the main thread; call it there, once per process.

    Libraries in native code, Polars among them, stop for SIGINT alone while they hold the main
    thread. So a thread, which the signal wakes through a pipe, sends this process a SIGINT, and
    the handler of that says which of the two came first.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait() -> None:
        while number := os.read(reading, 1):
            if number[0] == signal.SIGTERM:
                _came.append(number[0])
                os.kill(os.getpid(), signal.SIGINT)

    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, _Interrupts(ignored=ignored))
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # A child that is forked shares the pipe: what is sent to it must not end its parent.
    os.register_at_fork(after_in_child=_answer_as_usual)
    threading.Thread(target=wait, name="gspo_rs-sigterm", daemon=True).start()


class _Interrupts:
    """Raises for each SIGINT once, where native code may have raised for it already."""

    def __init__(self, *, ignored: bool) -> None:
        self._ignored = ignored
        self._answered: BaseException | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        raised = sys.exception()
        if isinstance(raised, KeyboardInterrupt) and raised is not self._answered:
            # Polars has raised it and is being cleaned up after: a second one would cut that off.
            self._answered = raised
        elif _came:
            self._answered = Terminated()
            raise self._answered
        elif not self._ignored:
            self._answered = KeyboardInterrupt()
            raise self._answered


def _answer_as_usual() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
