"""Interruptions: Ctrl-C and SIGTERM, deferred while weights and step counter change."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from gspo_rs.files.termination import terminations
from gspo_rs.train.world import World

# `timeout` and some service managers send a signal twice within a moment: that is one request.
_ONE_REQUEST = 0.2
# torchrun passes on to its processes what a terminal has sent to all of them already.
_ONE_REQUEST_TO_ALL = 5.0


class Interruptions:
    """Handles SIGINT at once, or after `release` if it was deferred.

    The previous handler is called; without a Python handler, or outside the main thread, nothing
    changes. SIGTERM arrives as a SIGINT if `gspo_rs.files.termination` handles signals.

    Attributes
    ----------
    held : bool
        Whether the run is in the middle of a step: a checkpoint written now would hold a state
        that no run ever has.

    Parameters
    ----------
    together : bool
        Whether the run is of several processes: then signals are kept until all of them ask
        `stop_with` between two steps, because one that stops alone leaves the others waiting.
    """

    def __init__(self, *, together: bool = False) -> None:
        self.held = self._together = together
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
        """Defer signals; a second one is handled at once."""
        self.held = True

    def release(self) -> None:
        """Handle a deferred signal, also one that other code has swallowed."""
        if self._together:
            return
        self.held = self._pending = False
        last, self._last = self._last, None
        if last is not None:
            self._before(signal.SIGINT, None)

    def stop_with(self, world: World) -> None:
        """Raise KeyboardInterrupt on all ranks where one got a signal; between two steps."""
        if world.size > 1 and world.any(self._pending):
            self.held = False
            raise KeyboardInterrupt

    def save(self) -> None:
        """Note that the run is being saved: another Ctrl-C ends that too, SIGTERM does not."""
        self._saving = True

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that a reward function forked
            signal.signal(number, signal.default_int_handler)
            os.kill(os.getpid(), number)
            return
        came, self._terminations = self._terminations, terminations()
        now, last = time.monotonic(), self._last
        if self._saving and self._terminations > came:
            return
        within = _ONE_REQUEST_TO_ALL if self._together else _ONE_REQUEST
        if (self._together or not self._saving) and last is not None and now - last < within:
            return
        self._last = now
        if self.held and not self._pending:
            self._pending = True
            return
        self._before(number, frame)
