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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    folder : str
        Their working directory.
    """

    functions: Mapping[str, str]
    memory: int
    open_files: int
    timeout: float
    folder: str = field(default_factory=os.getcwd)


@dataclass(frozen=True)
class Row:
    """A row to grade: its place, and what is sent of it, as JSON."""

    place: int
    message: str


class Worker:
    """A process that grades one row at a time, alone in a session and process group of its own.

    Attributes
    ----------
    channel : socket
        Lines of JSON in both directions.
    ready : bool
        Whether it has loaded the functions.
    row : Row or None
        What it is grading.
    deadline : float
        Until when it must answer, by `time.monotonic`.
    served : int
        Rows that it has answered.
    left : bool
        Whether threads of these still run.
    """

    def __init__(self, start: Start) -> None:
        self.ready, self.left, self.served = False, False, 0
        self.row: Row | None = None
        self.deadline = time.monotonic() + start.timeout
        self._nonce, self._mark, self._unread = "", secrets.token_hex(16), b""
        self.channel, theirs = socket.socketpair()
        given = {
            "path": [path or start.folder for path in sys.path],
            "channel": theirs.fileno(),
            "parent": os.getpid(),
            "functions": dict(start.functions),
            "memory": start.memory,
            "open_files": start.open_files,
        }
        known = _VARIABLES.split()
        kept = {k: v for k, v in os.environ.items() if k in known or k.startswith("LC_")}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- the interpreter that runs this
                [sys.executable, "-P", "-c", _START, json.dumps(given)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=kept | {MARK: self._mark},
                cwd=start.folder,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def give(self, row: Row, timeout: float) -> None:
        """Send a row, which is to be answered within `timeout` seconds; `OSError` if it cannot."""
        self.row, self._nonce = row, secrets.token_hex(8)
        self.deadline = time.monotonic() + timeout
        head = json.dumps({"id": row.place, "nonce": self._nonce})
        self.channel.settimeout(timeout)
        self.channel.sendall(f"{head[:-1]}, {row.message[1:]}\n".encode())

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

    def answer(self, lines: list[bytes]) -> dict[str, Any] | None:
        """Return the answer to the row that it has; None if the lines are not exactly that."""
        if self.row is None or len(lines) != 1 or self._unread:
            return None
        found = parsed(lines[0])
        mine = found.get("id") == self.row.place and found.get("nonce") == self._nonce
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
        if code >= 0:
            return f"exited with code {code}"
        return f"was killed by {signal.Signals(-code).name}"


def parsed(line: bytes) -> dict[str, Any]:
    """Return a line as a JSON object; empty if it is none.

    Examples
    --------
    >>> parsed(b'{"id": 1}'), parsed(b"no"), parsed(b"[1]")
    ({'id': 1}, {}, {})
    """
    try:
        found = json.loads(line)
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
