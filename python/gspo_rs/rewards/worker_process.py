"""One worker of a pool as the process that started it sees it: start, rows, answers, end."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gspo_rs.rewards.sandbox import Sandbox, exit_signal, in_sandbox

__all__ = ["MARK", "Row", "Start", "Worker"]

# A fresh interpreter, not a fork: the threads and locks of this process are not in it. It imports
# what this one would, and nothing that only lies in the working directory.
_START = (
    "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given.pop('path');"
    "from gspo_rs.rewards.worker import serve; serve(**given)"
)
# Variables that a worker gets; all others may hold secrets.
_VARIABLES = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR VIRTUAL_ENV LD_LIBRARY_PATH PYTHONHASHSEED
    PYTHONUTF8 OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS RAYON_NUM_THREADS
    GSPO_RS_THREADS CUDA_VISIBLE_DEVICES HF_HOME HF_HUB_OFFLINE
"""
# The variable that marks what a worker has started, and tells it that it is one.
MARK = "GSPO_RS_WORKER"
_LONGEST_ANSWER = 1 << 24
_READ = 1 << 16
_NONCE = 8  # bytes
# A worker is given rows for about so many seconds ahead, so that it need not wait for the next; but
# not more of them, nor more bytes, which wait in the socket.
_AHEAD, _MOST_AHEAD, _BYTES_AHEAD = 0.02, 64, 1 << 16


@dataclass(frozen=True)
class Start:
    """How workers are started.

    Attributes
    ----------
    functions : mapping of str to str
        Reward functions by name, as ``file.py:function`` or ``module:function``.
    memory, open_files : int
        Bytes of data, and descriptors, that each may have.
    timeout : float
        Seconds until they must be loaded.
    sandbox : str
        ``process`` or ``bwrap``.
    folder : str
        Their working directory.
    """

    functions: Mapping[str, str]
    memory: int
    open_files: int
    timeout: float
    sandbox: Sandbox = "process"
    folder: str = field(default_factory=os.getcwd)


@dataclass(frozen=True)
class Row:
    """A row to grade, or several that are graded by one call: their places.

    Attributes
    ----------
    places : tuple of int
    attempts : int
        Workers that it has been given to.
    """

    places: tuple[int, ...]
    attempts: int = 1


@dataclass(frozen=True)
class _Given:
    """A row that was sent: its nonce, and its size in bytes."""

    row: Row
    nonce: str
    size: int


class Worker:
    """A process that grades one row after the other, alone in a session and process group.

    Attributes
    ----------
    channel : socket
        Lines of JSON in both directions.
    ready : bool
        Whether it has loaded the functions.
    deadline : float
        Until when it must answer, by `time.monotonic`.
    served : int
        Rows that it has answered.
    left : bool
        Whether threads of these still run.
    since : float
        When it began what it is doing.
    """

    def __init__(self, start: Start) -> None:
        self.ready, self.left, self.served = False, False, 0
        self._given: deque[_Given] = deque()
        self._sent = 0
        self._pace = float("inf")  # seconds for a row
        self.since = time.monotonic()
        self.deadline = self.since + start.timeout
        self._mark, self._unread = secrets.token_hex(16), b""
        self.channel, theirs = socket.socketpair()
        known = _VARIABLES.split()
        kept = {k: v for k, v in os.environ.items() if k in known or k.startswith("LC_")}
        if start.sandbox == "bwrap":
            kept.pop("TMPDIR", None)
        self._sandboxed = start.sandbox == "bwrap"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- the interpreter that runs this
                _command(start, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=kept | {MARK: self._mark},
                cwd=start.folder,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def row(self) -> Row | None:
        """What it is grading; what is behind it has only been sent."""
        return self._given[0].row if self._given else None

    @property
    def behind(self) -> list[Row]:
        """The rows that it has not begun, in order."""
        return [given.row for given in list(self._given)[1:]]

    def takes(self, n: int, size: int) -> bool:
        """Return whether it may be given so many rows, of so many bytes.

        One if it has none; few ahead where a row takes long, and no more than go into the socket.
        """
        n, size = n + len(self._given), size + self._sent
        ahead = min(_MOST_AHEAD, int(_AHEAD / max(self._pace, 1e-9)))
        return n <= 1 or (n <= ahead and size < _BYTES_AHEAD)

    def give(self, rows: Sequence[tuple[Row, str]], timeout: float) -> None:
        """Send rows and what they are as JSON, each to be answered in `timeout` seconds.

        Raises
        ------
        OSError
            If they cannot be sent.
        """
        if not self._given:
            self._begin(timeout)
        lines: list[bytes] = []
        drawn = secrets.token_hex(_NONCE * len(rows))
        for number, (row, message) in enumerate(rows):
            nonce = drawn[2 * _NONCE * number :][: 2 * _NONCE]
            head = f'{{"id": {row.places[0]}, "nonce": "{nonce}"'
            lines.append(f"{head}, {message[1:]}\n".encode())
            self._given.append(_Given(row, nonce, len(lines[-1])))
            self._sent += len(lines[-1])
        self.channel.settimeout(timeout)
        self.channel.sendall(b"".join(lines))

    def _begin(self, timeout: float) -> None:
        self.since = time.monotonic()
        self.deadline = self.since + timeout

    def done(self, seconds: float, timeout: float) -> None:
        """Note that the row is answered, and the next one begun."""
        self._sent -= self._given.popleft().size
        self.served += 1
        known = self._pace != float("inf")
        self._pace = 0.8 * self._pace + 0.2 * seconds if known else seconds
        self._begin(timeout)

    def read(self) -> list[bytes] | None:
        """Return whole lines that have arrived; None if the other end is closed."""
        try:
            data = self.channel.recv(_READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return lines if data and len(self._unread) < _LONGEST_ANSWER else None

    def answer(self, line: bytes) -> dict[str, Any] | None:
        """Return the answer to the row that it has; None if the line is not exactly that."""
        if not self._given:
            return None
        found, given = parsed(line), self._given[0]
        mine = found.get("id") == given.row.places[0] and found.get("nonce") == given.nonce
        return found if mine else None

    def dead(self, within: float = 0.0) -> bool:
        """Return whether the process has ended by itself, or does so within some seconds."""
        until = time.monotonic() + within
        while True:
            # It is not reaped yet, so that its number is still that of its group.
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self._process.pid, how) is not None:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)

    def end(self) -> str:
        """Kill the process with all that it has started, and return how it ended."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self.channel.close()
        _kill_marked(f"{MARK}={self._mark}".encode())
        number = exit_signal(code) if self._sandboxed else -code
        known = number in {one.value for one in signal.Signals}
        return (
            f"was killed by {signal.Signals(number).name}" if known else f"exited with code {code}"
        )


def _command(start: Start, channel: int) -> list[str]:
    """Return the command of a worker."""
    path = [path or start.folder for path in sys.path]
    given = {
        "path": path,
        "channel": channel,
        "parent": None if start.sandbox == "bwrap" else os.getpid(),
        "functions": dict(start.functions),
        "memory": start.memory,
        "open_files": start.open_files,
    }
    command = [sys.executable, "-P", "-c", _START, json.dumps(given)]
    if start.sandbox == "process":
        return command
    files = [spec.rpartition(":")[0] for spec in start.functions.values()]
    places = [Path(start.folder, file).resolve() for file in files if file.endswith(".py")]
    needed = [*map(Path, path), *(place.parent for place in places), *places]
    return in_sandbox(command, Path(start.folder), needed, start.memory)


def parsed(line: bytes) -> dict[str, Any]:
    """Return a line as a JSON object; empty if it is none.

    Examples
    --------
    >>> parsed(b'{"id": 1}'), parsed(b"no"), parsed(b"[1]")
    ({'id': 1}, {}, {})
    """
    try:
        found = json.loads(line.decode())  # of bytes json guesses the encoding
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _kill_marked(mark: bytes) -> None:
    """Kill what left the process group, by the variable that everything started there inherits."""
    found = sys.platform == "linux"
    while found:
        found = False
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and mark in _environment(entry).split(b"\0"):
                with suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True


def _environment(process: Path) -> bytes:
    """Return the variables of a process; none if it has ended, or is another user's."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
