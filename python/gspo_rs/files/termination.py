"""Handle SIGTERM and SIGHUP like Ctrl-C: by an exception, so that cleanup runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

__all__ = ["Terminated", "answer_signals", "exit_code", "terminations"]

# The number of each such signal, in the order in which they came.
_came: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came; what answers to Ctrl-C answers to it."""


def exit_code(error: BaseException | None) -> int:
    """Return the code of a program that ends so: 128 and the number of the signal, as shells do.

    Native code answers to them with a plain `KeyboardInterrupt`; it counts as what it was.

    Examples
    --------
    >>> exit_code(KeyboardInterrupt()), exit_code(Terminated())
    (130, 143)
    """
    if _came:
        return 128 + _came[0]
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def terminations() -> int:
    """Return how many times they came; each has sent a SIGINT."""
    return len(_came)


def answer_signals() -> None:
    """Make both raise `Terminated` in the main thread; call it there, once per process.

    SIGHUP comes when a terminal is closed; where it is ignored, as by `nohup`, it stays so.

    Libraries in native code, Polars among them, stop for SIGINT alone while they hold the main
    thread. So a thread, which the signal wakes through a pipe, sends this process a SIGINT, and
    the handler of that says which of the two came first.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait() -> None:
        while number := os.read(reading, 1):
            if number[0] in (signal.SIGTERM, signal.SIGHUP):
                _came.append(number[0])
                os.kill(os.getpid(), signal.SIGINT)

    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, _Interrupts(ignored=ignored))
    signal.signal(signal.SIGTERM, lambda *_: None)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
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
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
