"""Interruptions: Ctrl-C, and SIGTERM as one, held back while the weights and their step move."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from gspo_rs.files.termination import terminations

# `timeout` and some service managers send a signal twice within a moment: that is one request.
_ONE_REQUEST = 0.2


class Interruptions:
    """Answers SIGINT at once, or where it was held back, when it is let through.

    The answer is that of the handler which was there before; without a Python handler, or in a
    thread that is not the main one, it is left alone. SIGTERM comes as a SIGINT where
    `gspo_rs.files.termination` answers signals.

    Attributes
    ----------
    held : bool
        Whether the state of the run is between two steps of its own: what would be saved now is
        no state that a run ever has.
    """

    def __init__(self) -> None:
        self.held = False
        self._saving = False
        self._last: float | None = None
        self._pending = False
        self._before: Any = None
        self._process = os.getpid()
        self._terminations = terminations()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._answer)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def hold(self, *_: object) -> None:
        """Hold signals back; a second one is answered all the same."""
        self.held = True

    def release(self) -> None:
        """Answer what was held back, and what foreign code answered with going on."""
        self.held = self._pending = False
        last, self._last = self._last, None
        if last is not None:
            self._before(signal.SIGINT, None)

    def save(self) -> None:
        """Tell that the run is being saved: one more Ctrl-C ends that too, SIGTERM does not."""
        self._saving = True

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that a reward function forked
            signal.signal(number, signal.default_int_handler)
            os.kill(os.getpid(), number)
            return
        came, self._terminations = self._terminations, terminations()
        now, last = time.monotonic(), self._last
        if self._saving:
            if self._terminations > came:
                return
        elif last is not None and now - last < _ONE_REQUEST:
            return
        self._last = now
        if self.held and not self._pending:
            self._pending = True
            return
        self._before(number, frame)
